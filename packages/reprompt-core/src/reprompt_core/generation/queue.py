"""The queue: procrastinate's tasks in the database that holds the generations."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..database import Database, query

if TYPE_CHECKING:
    from procrastinate import App

__all__ = ["TASK", "Queue"]

TASK = "reprompt.generate"
_CONNECT_S, _WAIT_S = 5.0, 3.0  # until the first connection is there; until one is free


class Queue:
    """What is waiting to be made. Open it once for a process, and close it.

    Args:
        database: an open one. Tasks have connections of their own there, to listen and to fetch.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._app: App | None = None

    async def open(self) -> None:
        """Makes procrastinate's tables where there are none, and connects.

        Raises:
            DatabaseError: the database cannot be used.
        """
        from procrastinate.schema import SchemaManager

        if await self._database.fetch("has_queue") != [(True,)]:
            async with self._database.connection() as connection, connection.transaction():
                await connection.execute(query("lock_queue"))
                found = await (await connection.execute(query("has_queue"))).fetchone()
                if found != (True,):
                    await connection.execute(SchemaManager.get_schema())
        self._app = self._new_app()
        # what stands in its log is ours to say: it names no generation, and shows tracebacks of what we handle
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        await self._app.open_async(self._database.pool)

    @asynccontextmanager
    async def fetching(self) -> AsyncGenerator["App"]:
        """An app of its own connections, for a worker.

        Raises:
            psycopg.Error, ProcrastinateException: the database is away.
        """
        from psycopg_pool import AsyncConnectionPool

        app = self._new_app()
        # one made by procrastinate would wait 30 s for a connection, trying more and more seldom
        async with AsyncConnectionPool(
            self._database.url,
            min_size=1,
            max_size=4,
            timeout=_WAIT_S,
            open=False,
            configure=_autocommit,
            kwargs={"prepare_threshold": 2 if self._database.prepare else None, "connect_timeout": round(_CONNECT_S)},
        ) as pool:
            await pool.wait(_CONNECT_S)
            await app.open_async(pool)
            yield app

    def _new_app(self) -> "App":
        from procrastinate import App, PsycopgConnector
        from procrastinate.exceptions import ConnectorException
        from procrastinate.manager import JobManager

        class Tasks(JobManager):
            async def finish_job(self, job: Any, status: Any, delete_job: bool) -> None:
                """A task that was dropped meanwhile is no error; one that stays behind is dropped by the sweep."""
                with suppress(ConnectorException):
                    await super().finish_job(job, status, delete_job)

        app = App(connector=PsycopgConnector(configure=_autocommit))
        app.job_manager = Tasks(app.connector)
        return app

    async def close(self) -> None:
        """Ends the use of the queue."""
        if self._app is not None:
            await self._app.close_async()
            self._app = None

    async def add(
        self,
        connection: Any,
        generation: UUID | str,
        *,
        place: str,
        priority: int,
        after_s: float = 0,
        alone: bool = False,
    ) -> int:
        """A task for a generation, in the caller's transaction; its id.

        Args:
            connection: in a transaction.
            generation: its id.
            place: where it is made.
            priority: higher is made earlier.
            after_s: seconds that it waits at least.
            alone: it may have brought its workers down: of those like it, one is made at a time.
        """
        from procrastinate.exceptions import ConnectorException

        assert self._app is not None, "open the queue first"
        how: dict[str, Any] = {"schedule_in": {"seconds": after_s}} if after_s else {}
        if alone:
            how["lock"] = f"{TASK}.{place}"
        task = self._app.configure_task(TASK, queue=place, priority=priority, connection=connection, **how)
        try:
            return await task.defer_async(generation=str(generation))
        except ConnectorException as e:
            raise e.__cause__ or e from None  # the driver's own error, which the database translates

    async def drop(self, connection: Any, task: int | None, *, waiting: bool) -> None:
        """Forgets a task, in the caller's transaction; with `waiting` only if no worker has fetched it."""
        if task is not None:
            await connection.execute(query("drop_task"), {"task": task, "waiting": waiting})


async def _autocommit(connection: Any) -> None:
    """One round trip for each of procrastinate's statements. As an option it would clash with its listener."""
    await connection.set_autocommit(True)
