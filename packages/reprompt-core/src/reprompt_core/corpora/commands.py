"""`reprompt corpus`: captions of one's own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..settings import Settings
from ..terminal import err, errors, status

if TYPE_CHECKING:
    from .store import Corpora, Report

__all__ = ["corpus_app"]

corpus_app = typer.Typer(help="The captions that can be searched.", no_args_is_help=True, rich_markup_mode=None)
_Name = Annotated[str, typer.Argument(help="Name of the corpus.")]
_Device = Annotated[
    str | None,
    typer.Option(help="Encode there: cuda, cuda:1, mps, ... (needs the extra `sentence-transformers`)."),
]


class _Format(StrEnum):
    musiccaps = "musiccaps"
    songdescriber = "songdescriber"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


@asynccontextmanager
async def _corpora() -> AsyncGenerator["Corpora"]:
    from ..pipeline import Pipeline  # opens the encoder, the knowledge and the database, as answering does
    from .store import Corpora

    async with Pipeline(Settings()) as pipeline:
        yield Corpora.of(pipeline)


@corpus_app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="A CSV, JSONL or Parquet file.")],
    name: Annotated[str, typer.Option(help="Name of the corpus; one that is there gets the new captions.")],
    license: Annotated[str, typer.Option("--license", help="Licence of the captions, shown with each of them.")],
    format: Annotated[
        _Format | None, typer.Option("--format", help="What the file is; else told by its header and ending.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Column of the captions.")] = None,
    tags: Annotated[str | None, typer.Option(help="Column of tags.")] = None,
    vectors: Annotated[str | None, typer.Option(help="Column of vectors made with this encoder.")] = None,
    device: _Device = None,
    rejects: Annotated[Path | None, typer.Option(help="Where rows that cannot be used are written.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be added.")] = False,
) -> None:
    """Add the captions of a file. Interrupted and run again, each caption is there once."""
    rejects = rejects or file.with_name(f"{file.stem}.rejects.csv")

    async def load() -> "Report":
        async with _corpora() as corpora:
            with _progress() as progress:
                return await corpora.add(
                    file,
                    name=name,
                    license=license,
                    format=format.value if format else None,
                    text=text,
                    tags=tags,
                    vectors=vectors,
                    device=device,
                    rejects=None if dry_run else rejects,
                    dry_run=dry_run,
                    progress=progress,
                )

    with errors():
        report = asyncio.run(load())
    typer.echo(
        f"{name}: {report.added:,} captions {'would be ' if dry_run else ''}added, {report.flagged:,} of them flagged "
        f"(kept, not offered as examples), {report.known:,} known already, {report.rejected:,} refused"
    )
    for reason, count in sorted((report.reasons or {}).items(), key=lambda r: -r[1]):
        typer.echo(f"  {count:,} refused: {reason}")
    if report.rejected and not dry_run:
        err.print(f"The refused rows with their line numbers are in {rejects}", markup=False)


@contextmanager
def _progress() -> Generator["Callable[[Report], None] | None"]:
    """A bar with the rows read, the captions a second and the time left, on a terminal only."""
    if not err.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=None),
        TextColumn("{task.fields[read]:,} rows read"),
        TextColumn("{task.fields[rate]:,.0f} captions a second"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    started = time.monotonic()
    # a batch may take half a minute, and two are needed to tell the speed
    with Progress(*columns, console=err, transient=True, speed_estimate_period=120) as bars:
        task = bars.add_task("", total=1.0, read=0, rate=0.0)

        def show(report: "Report") -> None:
            rate = report.added / max(time.monotonic() - started, 1e-9)
            bars.update(task, completed=report.share, read=report.read, rate=rate)

        yield show


@corpus_app.command("list")
def list_() -> None:
    """List the corpora."""

    async def fetch() -> None:
        async with _corpora() as corpora:
            for c in await corpora.list():
                state = f"{c.captions:,} captions, {c.flagged:,} flagged" if c.ready else "not finished: add it again"
                typer.echo(f"{c.name}\t{state}\t{c.license}\t{c.source or 'comes with the package'}")

    with errors():
        asyncio.run(fetch())


@corpus_app.command("show")
def show(name: _Name, limit: Annotated[int, typer.Option(min=0, max=1000, help="Captions to show.")] = 10) -> None:
    """Show a corpus and its first captions."""

    async def fetch() -> None:
        async with _corpora() as corpora:
            c, texts = await corpora.show(name, limit=limit)
            typer.echo(f"{c.name}: {c.captions:,} captions ({c.flagged:,} flagged), {c.license}, {c.source}")
            typer.echo(f"embedded with {c.encoder}, added {c.added_at:%Y-%m-%d %H:%M}")
            for text in texts:
                typer.echo(f"- {text}")

    with errors():
        asyncio.run(fetch())


@corpus_app.command("remove")
def remove(name: _Name) -> None:
    """Remove a corpus with its captions."""

    async def drop() -> None:
        async with _corpora() as corpora:
            await corpora.remove(name)

    with errors():
        asyncio.run(drop())
    err.print(f"Corpus {name} removed.", markup=False)


@corpus_app.command("export")
def export(
    name: _Name, file: Annotated[Path, typer.Argument(help="Where to write: .csv, .jsonl, or .parquet with vectors.")]
) -> None:
    """Write the captions of a corpus to a file."""

    async def write() -> int:
        async with _corpora() as corpora:
            return await corpora.export(name, file)

    with errors():
        count = asyncio.run(write())
    err.print(f"{count:,} captions written to {file}", markup=False)


@corpus_app.command("reembed")
def reembed(device: _Device = None) -> None:
    """Encode every caption of the database anew with the encoder in use."""
    from ..database import Database
    from ..encoder import Encoder, find_bundle, on_device

    async def encode() -> int:
        settings = Settings()
        bundle = Encoder(find_bundle(settings), threads=settings.threads)
        encoder = on_device(bundle, device=device, offline=settings.offline)
        database = await Database.open(settings)
        try:
            return await database.reembed(encoder)
        finally:
            await database.close()

    with errors(), status("Encoding the captions"):
        count = asyncio.run(encode())
    err.print(f"{count} captions encoded.")
