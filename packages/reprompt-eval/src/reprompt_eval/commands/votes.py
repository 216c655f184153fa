"""`reprompt-eval votes`: what people preferred."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import err, errors, out, safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..votes import Preference, VoteAnalysis

__all__ = ["votes"]


def votes(
    file: Annotated[Path, typer.Argument(help="Votes as JSON Lines, as the API exports them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Say what people preferred, blind: the music of their words, or that of the rewritten prompt."""
    with errors():
        from ..votes import analyse_votes, read_votes

        analysis = analyse_votes(read_votes(file))
        if as_json:
            typer.echo(json.dumps(analysis.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        else:
            _show(analysis)
        for bad in analysis.bad:
            err.print(safe(f"{analysis.source}, line {bad.line} left out: {bad.reason}"), style="yellow")


def _show(analysis: "VoteAnalysis") -> None:
    from ..figures import count, mean
    from ..votes import order_sentence

    out.print(analysis.sentence, style="bold")
    out.print(order_sentence(analysis.order))
    if analysis.over_prompts:
        out.print(f"Each prompt counted once: a share of {mean(analysis.over_prompts, 2)}.")
    if analysis.waiting:
        out.print(f"{count(analysis.waiting, 'comparison')} not voted on yet.")
    _show_groups("order", {"raw first": analysis.order.raw_first, "rewritten first": analysis.order.rewritten_first})
    if len(analysis.by_generator) > 1:
        _show_groups("generator", analysis.by_generator)
    _show_groups("prompt", analysis.by_prompt)


def _show_groups(name: str, groups: "Mapping[str, Preference]") -> None:
    from rich.table import Table
    from rich.text import Text

    from ..figures import percent, percents

    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for title in (f"by {name}", "rewritten", "raw", "equal", "share of the rewritten"):
        table.add_column(title)
    for title, p in groups.items():
        told = f"{percent(p.share)} ({percents(p.ci)})" if p.share is not None and p.ci else "nobody chose"
        words = safe(title)
        table.add_row(
            Text(words if len(words) <= 50 else f"{words[:49]}…"), str(p.rewritten), str(p.raw), str(p.ties), told
        )
    out.print()
    out.print(table)
