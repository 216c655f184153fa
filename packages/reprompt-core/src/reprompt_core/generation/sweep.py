"""What workers left behind: generations whose worker died wait again or fail, and old ones are deleted."""

import logging
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from ..database import query
from .contract import GenerationError
from .jobs import Jobs
from .queue import TASK

__all__ = ["forget_old", "sweep"]

_log = logging.getLogger(__name__)
_AT_ONCE = 500


async def sweep(jobs: Jobs) -> None:
    """Looks after what no worker does any more. Of any number of processes that ask, one does it at a time.

    Raises:
        DatabaseError: the database is away.
    """
    stalled = {"stalled_s": jobs.settings.stalled_s}
    async with jobs.database.connection() as connection, connection.transaction():
        await connection.execute(query("hold_up_nobody"))
        if await (await connection.execute(query("lock_sweep"))).fetchone() != (True,):
            return
        lost = await (await connection.execute(query("lost_generations"), stalled)).fetchall()
        ended = [row[0] for row in lost if await _look_after(jobs, connection, *row)]
        await connection.execute(query("drop_leftover_tasks"), {**stalled, "name": TASK})
    for id in ended:
        await jobs.discard(str(id))
    await jobs.database.fetch("forget_workers")


async def _look_after(
    jobs: Jobs,
    connection: Any,
    id: UUID,
    place: str,
    status: str,
    tries: int,
    priority: int,
    cancel: bool,
    task: int | None,
    submitted: bool,
) -> bool:
    """One that was lost: whether it was ended; else it has a new task."""
    most = jobs.settings.attempts
    await jobs.queue.drop(connection, task, waiting=False)
    given_up = status == "running" and tries >= most
    if cancel and (given_up or not submitted):  # a submitted one is cancelled by the worker that takes it up
        await _end(connection, id, "cancelled", None)
    elif given_up:
        _log.error("generation %s: its worker died %d times", id, tries)
        message = f"Its worker died each of the {tries} times that it was tried." if tries > 1 else "Its worker died."
        await _end(connection, id, "failed", GenerationError(code="crashed", message=message))
    else:
        _log.warning("generation %s lost its worker: it waits for another", id)
        # it may be what brings workers down: before its last try it is kept apart from others that may be it
        alone = status == "running" and tries == most - 1
        new = await jobs.queue.add(connection, id, place=place, priority=priority, alone=alone)
        await connection.execute(query("requeue_generation"), {"id": id, "task": new})
        return False
    return True


async def _end(connection: Any, id: UUID, status: str, error: GenerationError | None) -> None:
    told = Jsonb(msgspec.to_builtins(error)) if error else None
    await connection.execute(query("end_lost_generation"), {"id": id, "status": status, "error": told})


async def forget_old(jobs: Jobs) -> int:
    """Deletes generations past their retention; the number. The audio goes first, so that none is left without a row.

    Raises:
        DatabaseError: the database is away.
        AudioStoreError: some audio cannot be deleted now; it and its generation stay.
    """
    done = 0
    while True:
        rows = await jobs.database.fetch("old_generations", days=jobs.settings.retention_days, limit=_AT_ONCE)
        for (id,) in rows:
            await jobs.store.remove(str(id))
            await jobs.database.fetch("remove_generation", id=id, tenant=None)
        done += len(rows)
        if len(rows) < _AT_ONCE:
            return done
