"""Who waits for a generation is told when something happens to it: one listening connection for a process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg

from ..database import Database
from ..tasks import end

__all__ = ["Notice", "Notices"]

_POLL_S = 2.0  # without notices, such as behind a pooler in transaction mode
_RETRY_S = 1.0


class Notice:
    """Something may have happened."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wakes whoever waits."""
        self._event.set()

    async def wait(self) -> None:
        """Returns when something happened since the last time, or might have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._event.wait()
        self._event.clear()


class Notices:
    """Listens while anyone waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[str, set[Notice]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, generation: str) -> AsyncGenerator[Notice]:
        """Notices of a generation."""
        notice = Notice()
        self._waiting[generation].add(notice)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="generation notices")
        try:
            yield notice
        finally:
            self._waiting[generation].discard(notice)
            if not self._waiting[generation]:
                del self._waiting[generation]

    async def close(self) -> None:
        """Stops listening."""
        await end(self._listening)
        self._listening = None

    async def _listen(self) -> None:
        while True:
            with suppress(psycopg.Error, OSError):
                connection: psycopg.AsyncConnection[Any]
                async with await psycopg.AsyncConnection.connect(
                    self._database.url, autocommit=True, connect_timeout=10
                ) as connection:
                    await connection.execute("LISTEN reprompt_generations")
                    for notice in [n for waiting in self._waiting.values() for n in waiting]:
                        notice.tell()  # what happened before the connection was there
                    async for notified in connection.notifies():
                        for notice in self._waiting.get(notified.payload, ()):
                            notice.tell()
            await asyncio.sleep(_RETRY_S)
