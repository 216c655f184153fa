"""Corpora in the database: added from files, listed, shown, removed, written out."""

import asyncio
import csv
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from ..database import CORPUS, Database, query
from ..encoder import Encoder, TextEncoder, Vectors, on_device
from ..errors import CorpusError
from ..knowledge import Knowledge
from .export import export_captions
from .flags import flags_of
from .partition import Entry, Partition, text_hash
from .reading import Format, Reject, Row, Rows, read_rows

if TYPE_CHECKING:
    from ..pipeline import Pipeline

__all__ = ["Corpora", "Corpus", "Report"]

_BATCH = 1024  # captions encoded and committed at once
_STRETCH = 16 * _BATCH  # rows read, at most, until progress is told
_NAME = 64
_Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus in the database."""

    name: str
    license: str
    encoder: str  # fingerprint of the encoder of its vectors
    ready: bool  # False: its load was not finished, and it is not searched
    source: str
    added_at: datetime
    captions: int  # 0: not ready
    flagged: int  # of them not offered as examples


@dataclass(slots=True)
class Report:
    """What a load did, or would do."""

    read: int = 0
    added: int = 0
    known: int = 0  # were there already, or stand in the file twice
    flagged: int = 0  # of those added
    rejected: int = 0
    reasons: dict[str, int] | None = None  # of the rejected
    share: float = 0.0  # of the file that is read, 0..1; 0 while that cannot be told, as of a pipe


Progress = Callable[[Report], None]


class Corpora:
    """The corpora of a database.

    Raises (every method):
        DatabaseError: the database went away; what was committed stays, and the same call goes on from there.
        CorpusError: no such corpus, one that is busy, or a file that cannot be read or written.
    """

    def __init__(self, database: Database, encoder: Encoder, knowledge: Knowledge, *, offline: bool = False) -> None:
        self._database, self._encoder, self._knowledge, self._offline = database, encoder, knowledge, offline

    @classmethod
    def of(cls, pipeline: "Pipeline") -> "Corpora":
        """The corpora of an open pipeline's database."""
        return cls(pipeline.database, pipeline.encoder, pipeline.knowledge, offline=pipeline.settings.offline)

    async def add(
        self,
        path: Path,
        *,
        name: str,
        license: str,
        format: Format | None = None,
        text: str | None = None,
        tags: str | None = None,
        vectors: str | None = None,
        device: str | None = None,
        rejects: Path | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Adds the captions of a file; interrupted and called again, each caption is there once.

        A new corpus is searched from the moment it is complete, and not before.

        Args:
            path: a CSV, JSONL or Parquet file.
            name: of the corpus; letters, digits, - and _.
            license: as it is to be shown beside every caption.
            format, text, tags, vectors: see `read_rows`; given vectors must be of this encoder.
            device: encode on this device of torch's (see `TorchEncoder`, and the errors it raises); None: here.
            rejects: a CSV for the rows that cannot be used, with line numbers and reasons.
            dry_run: only tell what would be added.
            progress: called after every batch, and now and then where few captions are new.
        """
        _check_name(name)
        if not license.strip():
            raise CorpusError("Name the licence of the captions (--license): it is shown with every one of them.")
        rows = read_rows(path, format=format, text=text, tags=tags, vectors=vectors)
        report = Report(reasons={})
        with _Rejects(rejects) as refused:
            if dry_run:
                known = await self._known(name)
                for batch in _batches(rows, known, report, refused):
                    report.added += len(batch)
                    report.flagged += sum(flags_of(row.text, row.tags) != 0 for row, _ in batch)
                    if progress:
                        progress(report)
                return report
            async with self._alone(name) as connection:
                encoder = await asyncio.to_thread(on_device, self._encoder, device=device, offline=self._offline)
                await self._load(connection, encoder, path, name, license, rows, report, refused, progress)
        return report

    async def _load(
        self,
        connection: _Connection,
        encoder: TextEncoder,
        path: Path,
        name: str,
        license: str,
        rows: Rows,
        report: Report,
        refused: "_Rejects",
        progress: Progress | None,
    ) -> None:
        found = await (await connection.execute(query("corpus"), {"name": name})).fetchone()
        if found is not None and found[2] != encoder.fingerprint:
            raise CorpusError(
                f"Corpus {name} was embedded with another encoder ({found[2]}): run `reprompt corpus reembed`."
            )
        if found is None:
            new = {
                "name": name, "license": license.strip(), "encoder": encoder.fingerprint, "version": "",
                "source": path.name,
            }  # fmt: skip
            async with connection.transaction():
                found = await (await connection.execute(query("add_corpus"), new)).fetchone()
                assert found is not None
                await Partition(connection, found[0]).create()
            ready = False
        else:
            ready = bool(found[4])
        partition = Partition(connection, found[0])
        known = await partition.hashes()
        batches = _batches(rows, known, report, refused)
        if ready:  # what is added to a corpus that is searched appears all at once, too
            async with connection.transaction():
                await self._copy(partition, encoder, batches, report, progress)
                await partition.grown(dimensions=encoder.dimensions)
            return
        await self._copy(partition, encoder, batches, report, progress)  # each batch is kept, whatever comes
        async with connection.transaction():
            await partition.show(dimensions=encoder.dimensions)

    async def _copy(
        self,
        partition: Partition,
        encoder: TextEncoder,
        batches: Iterator[list[tuple[Row, bytes]]],
        report: Report,
        progress: Progress | None,
    ) -> None:
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            if batch:
                entries = await asyncio.to_thread(self._entries, batch, encoder)
                await partition.copy(entries)
                report.added += len(entries)
                report.flagged += sum(e.flags != 0 for e in entries)
            if progress:
                progress(report)

    def _entries(self, batch: list[tuple[Row, bytes]], encoder: TextEncoder) -> list[Entry]:
        entries: list[Entry] = []
        for (row, key), vector in zip(batch, self._vectors([row for row, _ in batch], encoder), strict=True):
            genres, instruments = self._knowledge.music_in(row.text)
            flags = int(flags_of(row.text, row.tags))
            entries.append(Entry(row.text, key, flags, genres, instruments, vector))
        return entries

    def _vectors(self, rows: list[Row], encoder: TextEncoder) -> Vectors:
        """The vectors of the rows: those that the file gives, else encoded."""
        if all(row.vector is not None for row in rows):
            given = np.stack([row.vector for row in rows if row.vector is not None])
            if given.shape[1] != encoder.dimensions:
                raise CorpusError(
                    f"The vectors have {given.shape[1]} dimensions, the encoder {encoder.model} has "
                    f"{encoder.dimensions}."
                )
            return given / np.maximum(np.linalg.norm(given, axis=1, keepdims=True), 1e-12)
        return encoder.encode([row.text for row in rows])[0]

    async def _known(self, name: str) -> set[bytes]:
        async with self._database.connection() as connection:
            found = await (await connection.execute(query("corpus"), {"name": name})).fetchone()
            return await Partition(connection, found[0]).hashes() if found else set()

    async def list(self) -> Sequence[Corpus]:
        """The corpora, by name."""
        return [Corpus(*row[1:]) for row in await self._database.fetch("list_corpora")]

    async def show(self, name: str, *, limit: int = 10) -> tuple[Corpus, Sequence[str]]:
        """A corpus and its first captions."""
        corpus = next((c for c in await self.list() if c.name == name), None)
        if corpus is None:
            raise CorpusError(await self._unknown(name))
        ((corpus_id, *_),) = await self._database.fetch("corpus", name=name)
        rows = await self._database.fetch("some_captions", id=corpus_id, limit=limit)
        return corpus, [row[0] for row in rows]

    async def remove(self, name: str) -> None:
        """Removes a corpus with its captions."""
        if name == CORPUS:
            raise CorpusError(f"Corpus {name} comes with the package and would be loaded again; it cannot be removed.")
        async with self._alone(name) as connection, connection.transaction():
            found = await (await connection.execute(query("remove_corpus"), {"name": name})).fetchone()
            if found is not None:
                await Partition(connection, found[0]).drop()
        if found is None:
            raise CorpusError(await self._unknown(name))

    async def export(self, name: str, path: Path) -> int:
        """Writes the captions of a corpus as CSV, JSONL or Parquet, by the path's ending; the number of captions.

        Parquet has the vectors, too: such a file can be added with `vectors="vector"`, without encoding.
        """
        found = await self._database.fetch("corpus", name=name)
        if not found:
            raise CorpusError(await self._unknown(name))
        return await export_captions(self._database, found[0][0], path)

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncGenerator[_Connection]:
        """A connection that alone may change this corpus."""
        if not self._database.prepare:  # a lock of a session would be another session's a moment later
            raise CorpusError(
                "Corpora are changed over a direct connection to PostgreSQL: set REPROMPT_DATABASE_URL to the server "
                "itself, not the pooler, and leave REPROMPT_DATABASE_PREPARE away."
            )
        async with self._database.connection() as connection:
            locked = await (await connection.execute(query("lock_corpus"), {"name": name})).fetchone()
            if not (locked and locked[0]):
                raise CorpusError(f"Corpus {name} is being changed by another process; try again when it is done.")
            try:
                yield connection
            finally:
                if not connection.closed:
                    await connection.execute(query("unlock_corpus"), {"name": name})

    async def _unknown(self, name: str) -> str:
        names = ", ".join(c.name for c in await self.list())
        return f"There is no corpus {name!r}; there are: {names}."


class _Rejects:
    """The file of the rows that cannot be used; made when there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._file, self._table = path, None, None

    def __enter__(self) -> "_Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def write(self, reject: Reject) -> None:
        if self._path is None:
            return
        try:
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8", newline="", buffering=1)
                self._table = csv.writer(self._file)
                self._table.writerow(("line", "reason", "text"))
            assert self._table is not None
            self._table.writerow((reject.line, reject.reason, reject.excerpt))
        except OSError as e:
            raise CorpusError(f"{self._path} cannot be written: {e.strerror or e}.") from e


def _batches(rows: Rows, known: set[bytes], report: Report, refused: _Rejects) -> Iterator[list[tuple[Row, bytes]]]:
    """The rows that are new; the others are counted, and those in bad shape written down.

    A batch is short, or empty, at the end and where few rows are new.
    """
    batch: list[tuple[Row, bytes]] = []
    for row in rows:
        report.read += 1
        if isinstance(row, Reject):
            report.rejected += 1
            assert report.reasons is not None
            report.reasons[row.reason] = report.reasons.get(row.reason, 0) + 1
            refused.write(row)
        elif (key := text_hash(row.text)) in known:
            report.known += 1
        else:
            known.add(key)
            batch.append((row, key))
        if len(batch) == _BATCH or report.read % _STRETCH == 0:
            report.share = rows.share
            yield batch
            batch = []
    report.share = rows.share
    yield batch


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _NAME or not all(c.isalnum() or c in "-_" for c in name) or not name.isascii():
        raise CorpusError(f"Corpus name {name!r}: use up to {_NAME} letters, digits, - and _.")
    if name == CORPUS:
        raise CorpusError(f"Corpus {name} comes with the package; give yours another name.")
