"""The command `reprompt-eval`.

Answers go to stdout; everything else for a person's eyes goes to stderr. Exit codes: 0; 1 it failed; 2 bad usage or
input.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from .commands.doctor import doctor
from .commands.report import report
from .commands.run import run
from .commands.stats import stats
from .commands.votes import votes
from .terminal import FAILED

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Does rewriting a prompt make the music fit the person's words better?",
)
for command in (run, stats, report, votes, doctor):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"reprompt-eval {version('reprompt-eval')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    try:
        app(prog_name="reprompt-eval")
    except BrokenPipeError:
        # the reader of our output went away: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
