"""The queue: procrastinate's tasks in the database that holds the generations."""

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..database import Database, query

if TYPE_CHECKING:
    from procrastinate import App

__all__ = ["TASK", "Queue"]

TASK = "reprompt.generate"


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
        self._app = self.new_app()
        # what stands in its log is ours to say: it names no generation, and shows tracebacks of what we handle
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        await self._app.open_async(self._database.pool)

    def new_app(self) -> "App":
        """An app of its own connections, for a worker; open it before use."""
        from procrastinate import App, PsycopgConnector

        connector = PsycopgConnector(
            conninfo=self._database.url,
            min_size=1,
            max_size=4,
            timeout=10,
            reconnect_timeout=5,
            kwargs={"prepare_threshold": 2 if self._database.prepare else None},
        )
        return App(connector=connector)

    async def close(self) -> None:
        """Ends the use of the queue."""
        if self._app is not None:
            await self._app.close_async()
            self._app = None

    async def add(
        self, connection: Any, generation: UUID | str, *, place: str, priority: int, after_s: float = 0
    ) -> int:
        """A task for a generation, in the caller's transaction; its id."""
        from procrastinate.exceptions import ConnectorException

        assert self._app is not None, "open the queue first"
        schedule: dict[str, Any] = {"schedule_in": {"seconds": after_s}} if after_s else {}
        task = self._app.configure_task(TASK, queue=place, priority=priority, connection=connection, **schedule)
        try:
            return await task.defer_async(generation=str(generation))
        except ConnectorException as e:
            raise e.__cause__ or e from None  # the driver's own error, which the database translates

    async def drop(self, connection: Any, task: int | None) -> None:
        """Forgets a task, in the caller's transaction, whether it waits or its worker died with it."""
        if task is not None:
            await connection.execute("DELETE FROM procrastinate_jobs WHERE id = %(task)s", {"task": task})
