"""Concepts that a team brings, a menu or a brand's places: checked, kept in the database, known to every pipeline."""

import asyncio
import csv
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from psycopg.types.json import Jsonb

from ..database import Database, query
from ..errors import CorpusError, KnowledgeError
from ..knowledge import KINDS, Concept, Knowledge, load_concepts
from ..knowledge.concepts import COLUMNS, alias_tokens, read_concept
from ..words import fold

__all__ = ["ConceptReport", "Concepts", "OwnConcept", "Refused", "own_concepts"]

_log = logging.getLogger(__name__)
_TABLE_OF = {kind: table for table, kinds in KINDS.items() for kind in kinds}
_FIELDS = frozenset(chain.from_iterable(COLUMNS.values()))
_LONGEST = {"name": 80, "about": 300, "rhythm": 60}  # characters
_LONGEST_CELL = 1000
_LARGEST_FILE = 4 << 20  # bytes
# What music prompts may call a mood, a genre or an instrument: up to four words of Latin letters, none of which is of
# the kind that tells somebody to do something.
_SPOKEN = re.compile(r"[A-Za-z0-9À-ÖØ-öø-ÿ]+(?:(?: & |[ '’&/-])[A-Za-z0-9À-ÖØ-öø-ÿ]+){0,3}")
_LONGEST_SPOKEN = 40
_COMMANDING = frozenset(
    "the this that these those above below previous all any you your i me my we is are be do not never always must "
    "please ignore disregard forget instead instruction instructions prompt prompts system print output reveal repeat "
    "say write show tell reply respond answer http https www com".split()
)
# Columns that a genre or an instrument cannot do without.
_NEEDED = {
    "genres": ("tempo_min", "tempo_max", "mode", "articulation", "dynamics", "groove", "rhythm", "lead"),
    "instruments": ("family", "program", "register", "roles"),
}
# Genres name instruments, and scenes name genres: those that are named are looked at first.
_ORDER = ("instruments", "genres")


@dataclass(frozen=True, slots=True)
class OwnConcept:
    """A concept that a team brought."""

    kind: str
    name: str
    source: str  # name of the file it came from
    added_at: datetime
    replaces: bool  # a shipped concept


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that cannot be used."""

    line: int  # of the file, where its record starts, from 1
    name: str
    reason: str


@dataclass(slots=True)
class ConceptReport:
    """What adding a file did, or would do; concepts as (kind, name)."""

    added: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    replaced: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # shipped ones
    updated: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # the team's own from before
    refused: list[Refused] = field(default_factory=list[Refused])


class Concepts:
    """The concepts that a team brought to a database. A pipeline knows those that are there when it is opened.

    Raises (every method):
        DatabaseError: the database went away; nothing was changed.
        CorpusError: no such concept, or a file that cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, path: Path, *, dry_run: bool = False) -> ConceptReport:
        """Adds the concepts of a CSV file, all that can be used or, when something fails, none.

        Args:
            path: a CSV in UTF-8 with the columns `kind` and `name` and any of those of the kind's shipped CSV file.
            dry_run: only tell what would be added.
        """
        stored = await self._stored()
        report = ConceptReport()
        found = await asyncio.to_thread(_read_file, path, stored, report)
        if dry_run or not found:
            return report
        source = path.name.encode("utf-8", "replace").decode()
        rows = [
            {"kind": c.kind, "name": c.name, "source": source, "data": Jsonb(data)}
            for c, data in sorted(found, key=lambda f: (f[0].kind, f[0].name))  # two at once do not wait in a circle
        ]
        async with self._database.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(query("keep_concept"), rows)
        return report

    async def list(self) -> Sequence[OwnConcept]:
        """The team's concepts, by kind and name."""
        shipped = {(c.kind, c.name) for c in await asyncio.to_thread(load_concepts)}
        rows = await self._database.fetch("own_concepts")
        return [OwnConcept(kind, name, source, at, (kind, name) in shipped) for kind, name, source, _, at in rows]

    async def remove(self, names: Sequence[str]) -> Sequence[tuple[str, str]]:
        """Removes the team's concepts of these names, of whatever kind; what was removed, as (kind, name)."""
        rows = await self._database.fetch("own_concepts")
        there = {fold(row[1]) for row in rows}
        wanted = {fold(" ".join(n.split())): n for n in names}
        if missing := [n for key, n in wanted.items() if key not in there]:
            raise CorpusError(f"There is no concept {missing[0]!r} among those that were added; nothing was removed.")
        same = [row[1] for row in rows if fold(row[1]) in wanted]
        return [(kind, name) for kind, name in await self._database.fetch("remove_concepts", names=same)]

    async def _stored(self) -> Sequence[tuple[str, str, Any]]:
        return [(kind, name, data) for kind, name, _, data, _ in await self._database.fetch("own_concepts")]


async def own_concepts(database: Database, knowledge: Knowledge) -> list[Concept]:
    """The team's concepts in a database, those that fit this (shipped) knowledge; of the others the log warns.

    Raises:
        DatabaseError: the database went away.
    """
    rows = await database.fetch("own_concepts")
    if not rows:
        return []
    return await asyncio.to_thread(_read_stored, [(r[0], r[1], r[3]) for r in rows], knowledge)


def _read_stored(rows: Sequence[tuple[str, str, Any]], knowledge: Knowledge) -> list[Concept]:
    check = _Check(knowledge)
    found: list[Concept] = []
    for kind, name, data in sorted(rows, key=lambda r: _rank(r[0])):
        try:
            found.append(check.concept(_cells({**data, "kind": kind, "name": name})))
        except (KnowledgeError, TypeError) as e:
            _log.warning("The concept %r (%s) in the database is not used: %s", name, kind, e)
    return found


def _read_file(
    path: Path, stored: Sequence[tuple[str, str, Any]], report: ConceptReport
) -> list[tuple[Concept, dict[str, str]]]:
    """The concepts of a file with their cells; the report tells of each row."""
    shipped = load_concepts()
    nothing = np.zeros((0, 1), np.float32)
    check = _Check(Knowledge(tuple(shipped), (), (), nothing, nothing, ""))
    theirs = {(c.kind, c.name) for c in shipped}
    before = {(kind, name) for kind, name, _ in stored}
    for kind, name, data in sorted(stored, key=lambda r: _rank(r[0])):
        try:
            check.concept(_cells({**data, "kind": kind, "name": name}))
        except (KnowledgeError, TypeError):
            continue  # the pipeline warns of it
    found: list[tuple[Concept, dict[str, str]]] = []
    lines: dict[tuple[str, str], int] = {}
    rows = list(_rows(path))
    if not rows:
        raise CorpusError(f"{path} has no rows below its header.")
    for line, row, problem in sorted(rows, key=lambda r: (_rank(r[1].get("kind", "")), r[0])):
        shown = "".join(c if c.isprintable() else "\ufffd" for c in row.get("name", "")[:80])
        try:
            if problem:
                raise KnowledgeError(problem)
            cells = _cells(row)
            key = (cells["kind"], fold(cells["name"]))
            if key in lines:
                raise KnowledgeError(f"the same kind and name stand in line {lines[key]}")
            concept = check.concept(cells)
        except KnowledgeError as e:
            report.refused.append(Refused(line, shown, str(e)))
            continue
        lines[key] = line
        known = (concept.kind, concept.name)
        kept = report.updated if known in before else report.replaced if known in theirs else report.added
        kept.append(known)
        found.append((concept, {k: v for k, v in cells.items() if v and k not in {"kind", "name"}}))
    report.refused.sort(key=lambda r: r.line)
    return found


def _rank(kind: str) -> int:
    table = _TABLE_OF.get(kind, "")
    return _ORDER.index(table) if table in _ORDER else len(_ORDER)


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """All cells of a row's kind, white space made plain.

    Raises:
        KnowledgeError: an unknown kind, a cell of another kind, or one that is too long or no text.
    """
    cells: dict[str, str] = {}
    for column, value in row.items():
        if not isinstance(value, str):
            raise KnowledgeError(f"{column}: not a text")
        value = " ".join(value.split())
        if any("\udc80" <= c <= "\udcff" for c in value):
            raise KnowledgeError(f"{column}: bytes that are not UTF-8")
        if not value.isprintable():
            raise KnowledgeError(f"{column}: characters that cannot be shown")
        most = _LONGEST.get(column, _LONGEST_CELL)
        if len(value) > most:
            raise KnowledgeError(f"{column}: {len(value):,} characters; the most is {most:,}")
        cells[column] = value
    if (table := _TABLE_OF.get(cells.get("kind", ""))) is None:
        raise KnowledgeError(f"kind: {cells.get('kind', '')!r} is not one of {', '.join(_TABLE_OF)}")
    if foreign := [c for c, value in cells.items() if value and c not in COLUMNS[table]]:
        raise KnowledgeError(f"a {cells['kind']} has no {foreign[0]}")
    return {column: cells.get(column, "") for column in COLUMNS[table]}


class _Check:
    """Makes concepts of rows, and sees that they fit what is known; those that it made are known, too."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._names = {(c.kind, fold(c.name)): c.name for c in knowledge.concepts}
        self._families = {c.sound.family for c in knowledge.instruments.values() if c.sound}

    @cached_property
    def _vocabulary(self) -> Any:
        from ..refining.prompt_words import PromptWords  # a tenth of a second: only for moods and genres

        return PromptWords(self._knowledge)

    def concept(self, cells: dict[str, str]) -> Concept:
        """The concept of a row, spelled as the one that it replaces.

        Raises:
            KnowledgeError: naming the column.
        """
        table = _TABLE_OF[cells["kind"]]
        if not alias_tokens(cells["name"]):
            raise KnowledgeError("name: it has no letters or digits")
        if empty := [c for c in _NEEDED.get(table, ()) if not cells[c]]:
            raise KnowledgeError(f"{', '.join(empty)}: a {cells['kind']} needs it")
        concept = read_concept(cells, table)
        self._look_up("genres", concept.genres, "genre")
        if concept.style:
            self._look_up("lead", concept.style.lead, "instrument")
            self._look_up("accompaniment", concept.style.accompaniment, "instrument")
            self._in_vocabulary("rhythm", concept.style.rhythm)
        if concept.sound and concept.sound.family not in self._families:
            raise KnowledgeError(f"family: {concept.sound.family!r} is not one of {', '.join(sorted(self._families))}")
        if concept.kind in {"mood", "genre", "instrument"}:
            _check_spoken("name", concept.name)
            for alias in concept.aliases_en:
                _check_spoken("aliases_en", alias.removesuffix("?"))
            if concept.kind == "mood" and not concept.name.isalpha():
                self._in_vocabulary("name", concept.name)
        name = self._names.setdefault((concept.kind, fold(concept.name)), concept.name)
        return replace(concept, name=name)

    def _look_up(self, column: str, names: Sequence[str], kind: str) -> None:
        if wrong := [n for n in names if self._names.get((kind, fold(n))) != n]:
            raise KnowledgeError(f"{column}: {wrong[0]!r} is not the name of a known {kind}")

    def _in_vocabulary(self, column: str, text: str) -> None:
        if strange := cast("list[str]", self._vocabulary.strange(text)):
            raise KnowledgeError(f"{column}: {', '.join(strange)} is not in the vocabulary of music prompts")


def _check_spoken(column: str, text: str) -> None:
    """Whether a prompt may hold the text, which stands in it as it is."""
    if len(text) > _LONGEST_SPOKEN or not _SPOKEN.fullmatch(text) or _COMMANDING & set(alias_tokens(text)):
        raise KnowledgeError(f"{column}: {text!r} cannot stand in a music prompt: give one to four plain words")


# -- the file ----------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str], str]]:
    """(line, cells, what is wrong with it or "") of each record.

    Raises:
        CorpusError: the file cannot be read, or its header cannot be used.
    """
    text = _text(path)
    first = text.lstrip("\r\n").partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as e:
            if header is None:
                raise CorpusError(f"The header of {path} cannot be read: {e}.") from e
            yield line, {}, f"not CSV ({e}): quotation marks inside a text are doubled"
            continue
        if record is None:
            break
        if not any(cell.strip() for cell in record):
            continue
        if header is None:
            header = [name.strip().lower() for name in record]
            _check_header(path, header)
            continue
        problem = f"{len(record)} values for {len(header)} columns" if any(record[len(header) :]) else ""
        yield line, dict(zip(header, record, strict=False)), problem
    if header is None:
        raise CorpusError(f"{path} is empty; give a file with concepts.")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError as e:
        raise CorpusError(f"{path} cannot be read: there is no such file.") from e
    except (OSError, ValueError) as e:  # a NUL in the path is a ValueError
        raise CorpusError(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}.") from e
    if len(data) > _LARGEST_FILE:
        raise CorpusError(f"{path} is over {_LARGEST_FILE >> 20} MiB; concepts are small: give several files.")
    # a byte that is not UTF-8 becomes a surrogate, so that it spoils its row and no other
    return data.decode("utf-8-sig", "surrogateescape")


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not "".join(header).isprintable():
        raise CorpusError(f"The header of {path} is not text: save the file as CSV in UTF-8.")
    if unknown := [name for name in header if name not in _FIELDS]:
        raise CorpusError(
            f"{path} has columns that no concept has: {', '.join(map(repr, unknown[:10]))}. Those there are: "
            f"{', '.join(dict.fromkeys(chain.from_iterable(COLUMNS.values())))}."
        )
    for needed in ("kind", "name"):
        if header.count(needed) != 1:
            raise CorpusError(f"{path} needs one column {needed!r}; the kinds are {', '.join(_TABLE_OF)}.")
    if twice := [name for name in header if header.count(name) > 1]:
        raise CorpusError(f"{path} has the column {twice[0]!r} twice.")
