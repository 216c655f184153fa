"""`reprompt-eval report`: a run's folder as one page."""

from pathlib import Path
from typing import Annotated

import typer

from ..terminal import err, errors

__all__ = ["report"]


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run (see the README of reprompt-eval).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: report.html in the folder.")
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Also compare refined text and audio with own: two changes at once.")
    ] = False,
) -> None:
    """Write the report of a run: one HTML file that needs nothing else."""
    with errors():
        from ..report import write_report

        path = write_report(folder, output, two_things=mixed)
    typer.echo(path)
    err.print(f"Report written to {path}: {path.stat().st_size / 1e6:.1f} MB, one file.")
