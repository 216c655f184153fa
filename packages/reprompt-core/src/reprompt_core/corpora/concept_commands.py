"""`reprompt concepts`: a menu, a brand's places, words of one's own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..settings import Settings
from ..terminal import BAD_INPUT, err, errors

if TYPE_CHECKING:
    from .concepts import ConceptReport, Concepts

__all__ = ["concepts_app"]

concepts_app = typer.Typer(
    help="Dishes, places and other things of your own that words may name.", no_args_is_help=True, rich_markup_mode=None
)


@asynccontextmanager
async def _concepts() -> AsyncGenerator["Concepts"]:
    from ..database import Database
    from .concepts import Concepts

    database = await Database.open(Settings())
    try:
        yield Concepts(database)
    finally:
        await database.close()


@concepts_app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="A CSV file with the columns kind, name, and those of the kind.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be added.")] = False,
) -> None:
    """Add the concepts of a file; one with the kind and name of another takes its place."""

    async def load() -> "ConceptReport":
        async with _concepts() as concepts:
            return await concepts.add(file, dry_run=dry_run)

    with errors():
        report = asyncio.run(load())
    for row in report.refused:
        err.print(f"line {row.line} ({row.name or 'no name'}): {row.reason}", markup=False, soft_wrap=True)
    for kind, name in report.replaced:
        typer.echo(f"{name} ({kind}) replaces the one that comes with the package")
    for kind, name in report.updated:
        typer.echo(f"{name} ({kind}) replaces the one that was added before")
    good = len(report.added) + len(report.replaced) + len(report.updated)
    typer.echo(f"{good:,} concepts {'would be ' if dry_run else ''}added, {len(report.refused):,} rows refused")
    if not good:
        raise typer.Exit(BAD_INPUT)


@concepts_app.command("list")
def list_() -> None:
    """List the concepts that were added."""

    async def fetch() -> None:
        async with _concepts() as concepts:
            for c in await concepts.list():
                typer.echo(f"{c.name}\t{c.kind}\t{c.source}" + ("\treplaces the shipped one" if c.replaces else ""))

    with errors():
        asyncio.run(fetch())


@concepts_app.command("remove")
def remove(names: Annotated[list[str], typer.Argument(help="Names of concepts that were added.")]) -> None:
    """Remove concepts; what they replaced counts again."""

    async def drop() -> None:
        async with _concepts() as concepts:
            for kind, name in await concepts.remove(names):
                err.print(f"{name} ({kind}) removed.", markup=False)

    with errors():
        asyncio.run(drop())
