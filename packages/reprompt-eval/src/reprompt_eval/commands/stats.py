"""`reprompt-eval stats`: what a table of scores says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal import errors, out, safe

if TYPE_CHECKING:
    from ..statistics import Analysis, Comparison, TwoThings

__all__ = ["stats"]


def stats(
    file: Annotated[Path, typer.Argument(help="A table of scores, CSV or Parquet (see the README of reprompt-eval).")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    bound: Annotated[
        float | None, typer.Option(help="Differences under this count as none (equivalence); to be set beforehand.")
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Also compare refined text and audio with own: two changes at once.")
    ] = False,
    strata: Annotated[str, typer.Option(help="Columns, with commas: each of their values by itself.")] = "",
    arm: Annotated[str | None, typer.Option(help="The primary arm; default: the first in the table.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="The primary checkpoint; default: the first.")] = None,
    resamples: Annotated[int, typer.Option(min=99, max=1_000_000, help="Of the bootstrap.")] = 9999,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Say what a table of scores says: does the music fit the person's own words better after rewriting?"""
    with errors():
        from ..paired import Sampling
        from ..scores import read_scores
        from ..statistics import analyse

        analysis = analyse(
            read_scores(file),
            bound=bound,
            strata=[name.strip() for name in strata.split(",") if name.strip()],
            two_things=mixed,
            arm=arm,
            checkpoint=checkpoint,
            sampling=Sampling(seed, resamples),
        )
        if as_json:
            typer.echo(json.dumps(analysis.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
        else:
            _show(analysis)


def _show(analysis: "Analysis") -> None:
    from ..answer import answer

    found = answer(analysis)
    out.print(safe(found.sentence), style="bold")
    for line in (*found.further, *found.others):
        out.print(safe(line))
    for c in analysis.comparisons:
        out.print()
        _show_comparison(c)
        _show_cells(analysis, c)
    for name, family in analysis.strata.items():
        out.print()
        _show_strata(analysis, name, family)
    if analysis.controls:
        out.print()
        _show_controls(analysis)
    for both in analysis.two_things:
        out.print()
        _show_two_things(both)
    for row in analysis.left_out[:10]:
        out.print(safe(f"left out: {row.place} (prompt {row.prompt_id}, {row.arm}): {row.reason}"), style="dim")
    if len(analysis.left_out) > 10:
        out.print(f"left out: {len(analysis.left_out) - 10} more rows; --json lists them all", style="dim")
    how = ", ".join(f"{name} {version}" for name, version in analysis.versions.items())
    drawn = analysis.sampling
    out.print(f"\n{drawn.resamples:,} resamples of the prompts, seed {drawn.seed}; {how}", style="dim")


def _show_rows(rows: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(f"  {safe(name)}"), Text(safe(value)))
    out.print(grid)


def _by(checkpoint: str) -> str:
    return f", by {checkpoint}" if checkpoint else ""


def _show_comparison(c: "Comparison") -> None:
    from ..figures import count
    from ..lines import lines_of
    from ..scores import BASELINE

    seeds = count(c.seeds[1], "seed") if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]} to {c.seeds[1]} seeds"
    out.print(safe(f"The person's own text, {c.arm} - {BASELINE}{_by(c.checkpoint)} ({seeds} a prompt)"), style="bold")
    _show_rows(lines_of(c.paired, (BASELINE, c.arm), mixed_model=c.mixed_model))
    if c.seeds_dropped:
        out.print(f"  {count(c.seeds_dropped, 'score')} not used: the other arm has no such seed")


def _show_cells(analysis: "Analysis", c: "Comparison") -> None:
    from ..figures import mean

    rows = [
        (f"{cell.text} text, {cell.audio} audio", mean(cell.mean) if cell.mean else "not measured")
        for cell in analysis.cells[c.arm, c.checkpoint]
    ]
    out.print("  The four cells of text x audio")
    _show_rows([(f"  {name}", value) for name, value in rows])


def _show_strata(analysis: "Analysis", name: str, family: "tuple[Comparison, ...]") -> None:
    from rich.table import Table

    from ..figures import between, p_value, signed

    out.print(safe(f"By {name}"), style="bold")
    several = len({(c.arm, c.checkpoint) for c in family}) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for title in [name, "of", "n", "difference", "95 % CI", "better", "t-test", "Holm"]:
        table.add_column(safe(title) if title != "of" or several else "", overflow="fold")
    for c in family:
        p = c.paired
        assert c.stratum
        of = f"{c.arm}{_by(c.checkpoint)}" if several else ""
        table.add_row(
            safe(c.stratum[1]), safe(of), str(p.n), signed(p.difference), between(p.ci, sign=True),
            f"{p.wins.better} of {p.n}", p_value(p.t.p if p.t else None), p_value(p.t.p_holm if p.t else None),
        )  # fmt: skip
    out.print(table)
    if without := analysis.without_stratum[name]:
        out.print(safe(f"  {without} prompts have no {name}"))


def _show_controls(analysis: "Analysis") -> None:
    from ..figures import whole

    out.print("Control: the prompt's own words minus the words of other prompts, on the same audio", style="bold")
    rows: list[tuple[str, str]] = []
    for c in analysis.controls:
        m = c.matched
        rows.append((f"{c.arm}{_by(c.checkpoint)}", whole(m.difference, m.ci, m.n, sign=True)))
        if c.specific:
            s = c.specific
            rows.append(("  more than on raw audio", whole(s.difference, s.ci, s.n, sign=True)))
    _show_rows(rows)


def _show_two_things(both: "TwoThings") -> None:
    from ..figures import whole
    from ..lines import lines_of

    title = f"Refined text on {both.arm} audio - own text on raw audio{_by(both.checkpoint)}"
    out.print(safe(title), style="bold")
    out.print(both.label, style="yellow")
    rows = lines_of(both.paired, ("own on raw", f"refined on {both.arm}"))
    if both.d is not None:
        how = "by the root mean square of the two SDs, as if the prompts were not the same"
        rows.append(("d", f"{whole(both.d, both.d_ci, both.paired.n, 3)}, {how}"))
    _show_rows(rows)
