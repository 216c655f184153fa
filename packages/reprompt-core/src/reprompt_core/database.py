"""The database: one async pool, migrations applied once, and the shipped captions kept current.

PostgreSQL with pgvector: the server of REPROMPT_DATABASE_URL, or an embedded one.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, LiteralString, cast

import numpy as np
import numpy.typing as npt
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector_async
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.types import TypeInfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from . import embedded
from .errors import DatabaseError, EncoderMismatchError
from .settings import Settings

if TYPE_CHECKING:
    from .encoder import Encoder, TextEncoder
    from .knowledge import Knowledge

__all__ = ["Database", "query"]

CORPUS = "reprompt"  # the captions that ship
LICENSE = "MIT"
_Pool = AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]]
# the columns of what the contract calls a Generation
_GENERATION = (
    "id, status, generator, request, reprompt, priority, attempts, progress, created_at, started_at, finished_at, "
    "model, model_revision, takes, error, timings_ms"
)
_COMPARISON = "id, words, seconds, seed, generator, raw, rewritten, shown, choice, created_at, voted_at"


@cache
def _queries() -> dict[str, LiteralString]:
    found: dict[str, LiteralString] = {}
    for file in (resources.files("reprompt_core") / "sql").iterdir():
        if file.name.endswith("queries.sql"):
            text = file.read_text("utf-8").replace("{generation}", _GENERATION).replace("{comparison}", _COMPARISON)
            parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
            for name, body in zip(parts[::2], parts[1::2], strict=True):
                # the file is part of the package: its text is as literal as if it stood here
                found[name] = cast("LiteralString", body.strip())
    return found


def query(name: str, *, dimensions: int | None = None) -> LiteralString:
    """The SQL of a named query in sql/*queries.sql; some are made for vectors of so many dimensions."""
    sql = _queries()[name]
    return cast("LiteralString", sql.replace("{dimensions}", str(int(dimensions)))) if dimensions else sql


class Database:
    """A pool of connections to a migrated database. Build with `Database.open`."""

    def __init__(self, pool: _Pool, url: str, where: str, *, embedded: bool, prepare: bool) -> None:
        self.pool = pool
        self._url, self._embedded, self.prepare = url, embedded, prepare
        self.where = where  # for people: no user, no password

    @classmethod
    async def open(cls, settings: Settings) -> "Database":
        """Connects, starting the embedded server when no URL is set, and migrates.

        Raises:
            DatabaseError: unreachable, or not a PostgreSQL with pgvector; names the setting to change.
        """
        url = settings.database_url or await asyncio.to_thread(embedded.start, settings.data_dir)
        where = _shown(url) if settings.database_url else f"embedded in {settings.data_dir}"
        try:
            async with await psycopg.AsyncConnection[Any].connect(
                url, connect_timeout=settings.database_timeout_s, autocommit=True, prepare_threshold=None
            ) as connection:
                await _migrate(connection)
        except psycopg.Error as e:
            # the driver's own text may quote the URL with its password: it is not chained
            raise DatabaseError(_unusable(where, e, embedded=settings.database_url is None)) from None
        pool = _Pool(
            url,
            min_size=1,
            max_size=settings.database_pool,
            timeout=settings.database_timeout_s,
            open=False,
            configure=_configure if settings.database_prepare else _register,
            reconnect_timeout=2,
            reconnect_failed=_again,
            kwargs={"autocommit": True, "prepare_threshold": 2 if settings.database_prepare else None},
        )
        try:
            await pool.open(wait=True, timeout=settings.database_timeout_s)
        except PoolTimeout as e:
            await pool.close()
            raise DatabaseError(_unusable(where, e, embedded=settings.database_url is None)) from e
        return cls(pool, url, where, embedded=settings.database_url is None, prepare=settings.database_prepare)

    @property
    def url(self) -> str:
        """Where to connect; it may hold a password: never log it."""
        return self._url

    async def close(self) -> None:
        """Gives all connections back."""
        await self.pool.close()

    async def fetch(self, named: str, /, *, dimensions: int | None = None, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a named query.

        Raises:
            DatabaseError: the database went away or refused.
        """
        sql = query(named, dimensions=dimensions)
        async with self.connection() as connection:
            if self.prepare:
                return await (await connection.execute(sql, parameters, binary=True)).fetchall()
            # behind a pooler a setting holds for a transaction; the pipeline makes them one round trip
            async with connection.pipeline(), connection.transaction():
                await connection.execute(_SETTINGS, {"local": True})
                return await (await connection.execute(sql, parameters, binary=True)).fetchall()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """A connection of the pool, for work of several statements.

        Raises:
            DatabaseError: the database went away or refused.
        """
        try:
            async with self.pool.connection() as connection:
                yield connection
        except (psycopg.Error, PoolTimeout) as e:
            raise DatabaseError(_unusable(self.where, e, embedded=self._embedded)) from e

    async def sync_captions(self, knowledge: "Knowledge", encoder: "Encoder") -> None:
        """Loads the shipped captions when they are not there or of another version.

        Raises:
            EncoderMismatchError: some corpus was embedded with another encoder.
        """
        foreign = await self.fetch("foreign_encoders", encoder=encoder.fingerprint)
        if foreign:
            names = ", ".join(name for name, _ in foreign)
            raise EncoderMismatchError(
                f"The captions of {names} in the database ({self.where}) were embedded with encoder {foreign[0][1]}, "
                f"not with {encoder.fingerprint} ({encoder.model}). Run `reprompt corpus reembed`, or set "
                "REPROMPT_ENCODER to the bundle they were made with."
            )
        if await self.fetch("corpus_version", name=CORPUS) == [(knowledge.shipped_version,)]:
            return
        async with self.connection() as connection, connection.transaction():
            await connection.execute(query("lock_migrations"))
            found = await (await connection.execute(query("corpus_version"), {"name": CORPUS})).fetchall()
            if found != [(knowledge.shipped_version,)]:
                await _load(connection, knowledge, encoder)

    async def reembed(self, encoder: "TextEncoder", *, batch: int = 256) -> int:
        """Encodes every caption anew with this encoder, in one transaction; the number of captions."""
        async with self.connection() as connection, connection.transaction():
            return await self._reembed(connection, encoder, batch)

    async def _reembed(self, connection: psycopg.AsyncConnection[Any], encoder: "TextEncoder", batch: int) -> int:
        from .corpora.partition import Partition  # which reads this module's queries

        done = 0
        await connection.execute(query("lock_migrations"))
        for corpus_id, ready in await (await connection.execute(query("corpus_ids"))).fetchall():
            partition, after = Partition(connection, corpus_id), 0
            if not ready:  # a load that was not finished starts again
                await partition.drop()
                await connection.execute(query("remove_unfinished"), {"id": corpus_id})
                continue
            await partition.drop_vector_indexes()
            while True:
                page = {"id": corpus_id, "after": after, "limit": batch}
                rows = await (await connection.execute(query("caption_texts"), page)).fetchall()
                if not rows:
                    break
                vectors, _ = await asyncio.to_thread(encoder.encode, [text for _, text in rows])
                async with connection.cursor() as cursor:
                    await cursor.executemany(
                        query("set_embedding"),
                        [
                            {"corpus": corpus_id, "id": row[0], "embedding": HalfVector(v)}
                            for row, v in zip(rows, vectors, strict=True)
                        ],
                    )
                after, done = rows[-1][0], done + len(rows)
            await partition.index_vectors(dimensions=encoder.dimensions)
        await connection.execute(query("set_encoder"), {"encoder": encoder.fingerprint})
        return done


# jit: compiling a plan of a few milliseconds would take longer than running it.
# plan_cache_mode: the search is planned once; planning it takes longer than running it, and no parameter changes it.
# iterative_scan: the index goes on until enough rows pass the filter.
_SETTINGS: LiteralString = """
    SELECT set_config('jit', 'off', %(local)s), set_config('plan_cache_mode', 'force_generic_plan', %(local)s),
           set_config('hnsw.ef_search', '150', %(local)s), set_config('hnsw.iterative_scan', 'strict_order', %(local)s)
"""


class _HalfvecLoader(Loader):
    """halfvec in binary form (int16 dimensions, int16 unused, big-endian halves) to a float32 array."""

    format = pq.Format.BINARY

    def load(self, data: Buffer) -> npt.NDArray[np.float32]:
        return np.frombuffer(data, ">f2", offset=4).astype(np.float32)


async def _again(pool: _Pool) -> None:
    """Tries to connect anew: left alone, the pool doubles its pauses, and is late when the server is back."""
    await pool.resize(0, pool.max_size)
    await pool.resize(1, pool.max_size)


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    await _register(connection)
    await connection.execute(_SETTINGS, {"local": False})


async def _register(connection: psycopg.AsyncConnection[Any]) -> None:
    await register_vector_async(connection)
    # the package's own loader goes through a list of Python floats: .1 ms a vector
    info = await TypeInfo.fetch(connection, "halfvec")
    assert info is not None  # the migrations made the extension
    connection.adapters.register_loader(info.oid, _HalfvecLoader)


def _migrations() -> Sequence[tuple[int, str, str]]:
    folder = resources.files("reprompt_core") / "sql"
    files = sorted(f.name for f in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", f.name))
    return [(int(name[:4]), name, (folder / name).read_text("utf-8")) for name in files]


async def _migrate(connection: psycopg.AsyncConnection[Any]) -> None:
    """Applies what is missing. Whoever takes the lock first does the work; the others find it done."""
    migrations = _migrations()

    async def missing() -> list[tuple[int, str, str]]:
        (has,) = await (await connection.execute(query("has_ledger"))).fetchone() or (False,)
        if not has:
            return list(migrations)
        done = {n for (n,) in await (await connection.execute(query("applied_migrations"))).fetchall()}
        return [m for m in migrations if m[0] not in done]

    if not await missing():
        return
    async with connection.transaction():
        await connection.execute(query("lock_migrations"))
        await connection.execute(query("create_ledger"))
        for number, name, sql in await missing():
            await connection.execute(cast("LiteralString", sql))
            await connection.execute(query("record_migration"), {"number": number, "name": name})


async def _load(connection: psycopg.AsyncConnection[Any], knowledge: "Knowledge", encoder: "Encoder") -> None:
    from .corpora.partition import Entry, Partition, text_hash  # which read this module's queries

    before = await (await connection.execute(query("remove_corpus"), {"name": CORPUS})).fetchone()
    if before is not None:
        await Partition(connection, before[0]).drop()
    parameters = {
        "name": CORPUS,
        "license": LICENSE,
        "encoder": encoder.fingerprint,
        "version": knowledge.shipped_version,
        "source": "",
    }
    row = await (await connection.execute(query("add_corpus"), parameters)).fetchone()
    assert row is not None
    partition = Partition(connection, row[0])
    await partition.create()
    await partition.copy(
        [
            Entry(text, text_hash(text), 0, *knowledge.music_in(text), vector)
            for text, vector in zip(knowledge.captions, knowledge.caption_vectors, strict=True)
        ]
    )
    await partition.show(dimensions=encoder.dimensions)


def _shown(url: str) -> str:
    """host:port/database of a URL, without user and password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "the server of REPROMPT_DATABASE_URL"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _unusable(where: str, e: Exception, *, embedded: bool) -> str:
    setting = "REPROMPT_DATA_DIR" if embedded else "REPROMPT_DATABASE_URL"
    # the driver's text may quote the connection string: only the kind of error and the server's own words are shown
    said = ""
    if isinstance(e, psycopg.Error) and e.diag.message_primary:
        said = f": {e.diag.message_primary}"
    hint = " The server needs the extension pgvector 0.7 or later." if "vector" in said else ""
    return f"The database ({where}) cannot be used ({type(e).__name__}{said}).{hint} Check {setting}."
