"""A corpus's own partition of the captions: filled apart, then indexed and shown all at once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, cast

import numpy as np
import psycopg
from pgvector import HalfVector

from ..database import query
from ..words import fold

__all__ = ["HNSW_FROM", "Entry", "Partition", "text_hash"]

HNSW_FROM = 2_000  # captions; fewer are compared one by one, as fast and exact
_VECTOR_INDEXES = {"flags = 0": "vectors", "flags <> 0": "flagged_vectors"}
_Connection = psycopg.AsyncConnection[Any]
_COLUMNS = "corpus_id, text, hash, flags, genres, instruments, embedding"
_TYPES = ("int4", "text", "bytea", "int2", "text[]", "text[]", "halfvec")


def text_hash(text: str) -> bytes:
    """16 bytes that tell one caption from another, case and spaces aside."""
    return hashlib.blake2b(" ".join(fold(text).split()).encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A caption as it is stored."""

    text: str
    hash: bytes
    flags: int
    genres: Sequence[str]
    instruments: Sequence[str]
    vector: "np.ndarray[Any, np.dtype[np.float32]]"  # [dimensions], unit length


class Partition:
    """The table `captions_<id>`. Statements run in the caller's transaction."""

    def __init__(self, connection: _Connection, corpus_id: int) -> None:
        self._connection, self._id = connection, corpus_id
        self._name = f"reprompt.captions_{corpus_id}"  # of a whole number: safe to stand in SQL

    async def create(self) -> None:
        """Makes the table, apart from the others, when it is not there."""
        await self._run(
            f"CREATE TABLE IF NOT EXISTS {self._name} (LIKE reprompt.captions INCLUDING DEFAULTS INCLUDING GENERATED, "
            f"CHECK (corpus_id = {self._id}))"
        )

    async def hashes(self) -> set[bytes]:
        """The hashes of the captions that are there."""
        cursor = await self._run(f"SELECT hash FROM {self._name}")  # noqa: S608 - a whole number
        return {bytes(h) for (h,) in await cursor.fetchall()}

    async def copy(self, entries: Sequence[Entry]) -> None:
        """Adds captions."""
        statement = f"COPY {self._name} ({_COLUMNS}) FROM STDIN WITH (FORMAT binary)"
        async with self._connection.cursor() as cursor, cursor.copy(_literal(statement)) as copy:
            copy.set_types(_TYPES)
            for e in entries:
                row = (self._id, e.text, e.hash, e.flags, list(e.genres), list(e.instruments), HalfVector(e.vector))
                await copy.write_row(row)

    async def show(self, *, dimensions: int) -> None:
        """Indexes the captions and makes them a part of all."""
        await self._run(f"ALTER TABLE {self._name} ADD PRIMARY KEY (corpus_id, id)")
        await self._run(f"CREATE INDEX ON {self._name} USING gin (search)")
        await self.index_vectors(dimensions=dimensions)
        await self._count_words()
        await self._run(f"ANALYZE {self._name}")
        await self._run(f"ALTER TABLE reprompt.captions ATTACH PARTITION {self._name} FOR VALUES IN ({self._id})")
        await self._connection.execute(query("show_corpus"), {"id": self._id})

    async def index_vectors(self, *, dimensions: int) -> None:
        """Makes the indexes of the vectors, where there are enough of them: one of those offered, one of those flagged.

        Apart, since a search of those offered must not wade through the others.
        """
        for which, name in _VECTOR_INDEXES.items():
            sql = f"SELECT count(*) FROM {self._name} WHERE {which}"  # noqa: S608 - constants and a whole number
            ((count,),) = await (await self._run(sql)).fetchall()
            if count <= HNSW_FROM:
                continue
            # the graph is built in memory: a vector, 32 neighbours and what they cost, 1.7 kB a row at 384 dimensions
            memory = max(64, min(16_384, count * (2 * dimensions + 1000) // 1_000_000 + 64))
            await self._run(f"SET LOCAL maintenance_work_mem = '{memory}MB'")
            create = (
                f"CREATE INDEX IF NOT EXISTS captions_{self._id}_{name} ON {self._name} "
                f"USING hnsw ((embedding::halfvec({dimensions})) halfvec_cosine_ops) WHERE {which}"
            )
            try:
                async with self._connection.transaction():
                    await self._run("SET LOCAL max_parallel_maintenance_workers = 4")
                    await self._run(create)
            except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory):  # of the memory that workers share
                await self._run("SET LOCAL max_parallel_maintenance_workers = 0")
                await self._run(create)

    async def drop_vector_indexes(self) -> None:
        """Before every vector changes, and perhaps its dimensions."""
        for name in _VECTOR_INDEXES.values():
            await self._run(f"DROP INDEX IF EXISTS reprompt.captions_{self._id}_{name}")

    async def grown(self, *, dimensions: int) -> None:
        """After captions were added to a corpus that is shown: counts the words anew, and indexes what became large."""
        await self.index_vectors(dimensions=dimensions)
        await self._connection.execute("DELETE FROM reprompt.caption_words WHERE corpus_id = %s", (self._id,))
        await self._count_words()
        await self._connection.execute(query("show_corpus"), {"id": self._id})

    async def _count_words(self) -> None:
        words = {"id": self._id, "captions": f"SELECT search FROM {self._name}"}  # noqa: S608
        await self._connection.execute(query("count_words"), words)
        await self._run("ANALYZE reprompt.caption_words")

    async def drop(self) -> None:
        """Removes the table with its captions."""
        await self._run(f"DROP TABLE IF EXISTS {self._name}")

    async def _run(self, statement: str) -> psycopg.AsyncCursor[Any]:
        return await self._connection.execute(_literal(statement))


def _literal(statement: str) -> LiteralString:
    return cast("LiteralString", statement)  # made of constants and whole numbers alone
