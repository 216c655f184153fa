"""What workers left behind: generations whose worker died wait again or fail, and old ones are deleted."""

import logging
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from ..database import query
from ..errors import AudioStoreError
from .contract import GenerationError
from .jobs import Jobs

__all__ = ["sweep"]

_log = logging.getLogger(__name__)


async def sweep(jobs: Jobs) -> None:
    """Looks after what no worker does any more. Any number of processes may do it at once.

    Raises:
        DatabaseError: the database is away.
    """
    async with jobs.database.connection() as connection, connection.transaction():
        lost = {"stalled_s": jobs.settings.stalled_s}
        rows = await (await connection.execute(query("lost_generations"), lost)).fetchall()
        for id, place, status, attempts, priority, cancel, task, _ in rows:
            await jobs.queue.drop(connection, task)
            if cancel:
                await _end(connection, id, "cancelled", None)
            elif status == "running" and attempts >= jobs.settings.attempts:
                _log.error("generation %s: its worker died %d times", id, attempts)
                message = f"Its worker died {attempts} times while making it; it is not tried again."
                await _end(connection, id, "failed", GenerationError(code="crashed", message=message))
            else:
                _log.warning("generation %s lost its worker: attempt %d follows", id, attempts + 1)
                new = await jobs.queue.add(connection, id, place=place, priority=priority)
                await connection.execute(query("requeue_generation"), {"id": id, "task": new})
    await jobs.database.fetch("forget_workers")
    await _forget_old(jobs)


async def _end(connection: Any, id: UUID, status: str, error: GenerationError | None) -> None:
    told = Jsonb(msgspec.to_builtins(error)) if error else None
    await connection.execute(query("end_lost_generation"), {"id": id, "status": status, "error": told})


async def _forget_old(jobs: Jobs) -> None:
    """Deletes generations past their retention: the audio first, so that none is left without its row."""
    for (id,) in await jobs.database.fetch("old_generations", days=jobs.settings.retention_days):
        try:
            await jobs.store.remove(str(id))
        except AudioStoreError as e:
            _log.warning("old audio stays for now: %s", e)
            return
        await jobs.database.fetch("remove_generation", id=id, tenant=None)
