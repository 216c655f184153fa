"""Generations: accepted, looked up, cancelled, followed, forgotten. The row in PostgreSQL is the truth."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID, uuid4

import msgspec
from psycopg import Rollback
from psycopg.types.json import Jsonb

from ..database import Database, query
from ..errors import (
    AudioStoreError,
    JobError,
    JobNotFoundError,
    KeyReusedError,
    PromptError,
    QueueFullError,
    SettingsError,
)
from ..pipeline import Pipeline
from ..settings import Settings
from ..types import Reprompt
from ..words import Words
from .contract import TERMINAL, Generation, GenerationRequest, Place, Status, from_object, to_json
from .notices import Notices
from .places import PlaceState, place_states
from .queue import Queue
from .storage import AudioStore

__all__ = ["Event", "Jobs", "PlaceState", "read_generation"]

_FIELDS = tuple(
    "id status generator request reprompt priority attempts progress created_at started_at finished_at model "
    "model_revision takes error timings_ms".split()
)
_log = logging.getLogger(__name__)
_PRIORITIES = range(-100, 101)
_LONGEST_NAME = 255
_LAST_EVENT = 2**63 - 1


class Event(NamedTuple):
    """Something that happened to a generation."""

    id: int  # grows
    kind: Literal["status", "progress", "take"]
    data: dict[str, Any]
    at: datetime


class Jobs:
    """Every generation of a database.

        async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline) as jobs:
            g = await jobs.submit(GenerationRequest(words="slow rain"))
            g = await jobs.wait(g.id, timeout_s=30)

    Args:
        settings: of the database and the audio store; None: the pipeline's.
        pipeline: an open one, which writes the prompts, and whose database is used. None: for a process that makes
            generations and accepts none.
        store: where audio is kept; None: what the settings say.

    Raises (on entering):
        DatabaseError, AudioStoreError: with the setting to change.
    """

    def __init__(
        self, settings: Settings | None = None, *, pipeline: Pipeline | None = None, store: AudioStore | None = None
    ) -> None:
        self.settings = settings or (pipeline.settings if pipeline else Settings())
        self._pipeline, self._given_store = pipeline, store

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Prepares the queue and the audio store."""
        self.store = self._given_store or AudioStore.open(self.settings)
        self.database = self._pipeline.database if self._pipeline else await Database.open(self.settings)
        self.queue, self._notices = Queue(self.database), Notices(self.database)
        try:
            await self.queue.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Gives up the connections."""
        await self._notices.close()
        await self.queue.close()
        if self._pipeline is None:
            await self.database.close()

    # -- for those who ask ---------------------------------------------------------------------------------------

    async def submit(
        self, request: GenerationRequest, *, tenant: str = "", key: str | None = None, priority: int = 0
    ) -> Generation:
        """Accepts a generation: from now on it will end, one way or another.

        Args:
            request: what to make.
            tenant: whose it is.
            key: an idempotency key: the same key and request are the same generation.
            priority: -100 to 100; higher is made earlier.

        Raises:
            PromptError: the words cannot be used.
            SettingsError: the generator or refiner asked for is not configured.
            KeyReusedError: the key was used for another request.
            QueueFullError: too many are waiting.
            DatabaseError: the database went away.
        """
        if priority not in _PRIORITIES:
            raise SettingsError(f"The priority is {priority}: from -100 to 100.")
        _check_name(tenant, "A tenant", least=0)
        if key is not None:
            _check_name(key, "An idempotency key", least=1)
        request = from_object(msgspec.to_builtins(request), GenerationRequest)  # made in Python it was not checked
        for words in (request.words, request.prompt):
            if words is not None:
                Words.check(words)
        digest = hashlib.sha256(to_json(request)).hexdigest()
        if (known := await self._by_key(tenant, key, digest)) is not None:
            return known
        async with self.database.connection() as connection:
            await self._check_room(connection, more=1)  # before any work is done
        place = await self._choose(request)
        started = time.perf_counter()
        reprompt = await self._write(request)
        written_ms = round(1000 * (time.perf_counter() - started), 2)
        row: dict[str, Any] = {
            "id": uuid4(),
            "tenant": tenant,
            "key": key,
            "digest": digest,
            "generator": place,
            "request": Jsonb(msgspec.to_builtins(request)),
            "reprompt": Jsonb(reprompt.to_dict()),
            "priority": priority,
            "timings_ms": Jsonb({"reprompt": written_ms}),
        }
        if (added := await self._add(row)) is not None:
            return added
        known = await self._by_key(tenant, key, digest)  # another of the same key was quicker
        if known is None:
            raise JobError("The generation of this idempotency key was removed at this moment; ask again.")
        return known

    async def _add(self, row: dict[str, Any]) -> Generation | None:
        """The row and its task, both or none; None: the key is used already."""
        async with self.database.connection() as connection, connection.transaction() as transaction:
            await connection.execute(query("hold_up_nobody"))
            await connection.execute(query("lock_admission"))
            row["task"] = await self.queue.add(connection, row["id"], place=row["generator"], priority=row["priority"])
            added = await (await connection.execute(query("add_generation"), row)).fetchone()
            if added is None:
                raise Rollback(transaction)
            await self._check_room(connection, more=0)
            return read_generation(added)
        return None

    async def _check_room(self, connection: Any, *, more: int) -> None:
        """Raises a QueueFullError when more wait than may."""
        (queued,) = await (await connection.execute(query("count_queued"))).fetchone()
        if queued + more > self.settings.queue_limit:
            raise QueueFullError(
                f"{self.settings.queue_limit:,} generations are waiting already, and no more are accepted; try again "
                "in a while."
            )

    async def get(self, id: str, *, tenant: str | None = None) -> Generation:
        """A generation as it is now.

        Args:
            id: of the generation.
            tenant: whose it must be; None: anyone's.

        Raises:
            JobNotFoundError: there is none.
        """
        _check_name(tenant or "", "A tenant", least=0)
        rows = await self.database.fetch("generation", id=_uuid(id), tenant=tenant)
        if not rows:
            raise JobNotFoundError(f"There is no generation {id}: it was never made, or is deleted.")
        return read_generation(rows[0])

    async def newest(
        self,
        *,
        tenant: str = "",
        status: Status | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 20,
    ) -> list[Generation]:
        """The generations of a tenant, newest first.

        Args:
            tenant: whose.
            status: only those.
            before: `created_at` and `id` of the last one of the page before.
            limit: at most so many.
        """
        _check_name(tenant, "A tenant", least=0)
        at, id = (before[0], _uuid(before[1])) if before else (None, None)
        rows = await self.database.fetch(
            "newest_generations", tenant=tenant, status=status, before_at=at, before_id=id, limit=limit
        )
        return [read_generation(row) for row in rows]

    async def cancel(self, id: str, *, tenant: str | None = None) -> Generation:
        """Ends a generation that waits at once, and one that runs within seconds; a final one stays as it is.

        Raises:
            JobNotFoundError: there is none.
        """
        _check_name(tenant or "", "A tenant", least=0)
        async with self.database.connection() as connection, connection.transaction():
            await connection.execute(query("hold_up_nobody"))
            asked = {"id": _uuid(id), "tenant": tenant}
            row = await (await connection.execute(query("cancel_generation"), asked)).fetchone()
            if row is not None and row[0] == "cancelled":
                await self.queue.drop(connection, row[1], waiting=True)
        if row is not None and row[0] == "cancelled" and row[2]:
            await self.discard(str(asked["id"]))
        return await self.get(id, tenant=tenant)

    async def remove(self, id: str, *, tenant: str | None = None) -> None:
        """Deletes a finished generation, its events and its audio.

        Raises:
            JobNotFoundError: there is none.
            JobError: it is not finished; cancel it first.
            AudioStoreError: its audio cannot be deleted; nothing is.
        """
        generation = await self.get(id, tenant=tenant)
        if not generation.done:
            raise JobError(f"Generation {id} is {generation.status}: cancel it first.")
        await self.store.remove(generation.id)
        await self.database.fetch("remove_generation", id=_uuid(id), tenant=tenant)

    async def wait(self, id: str, *, tenant: str | None = None, timeout_s: float) -> Generation:
        """The generation once it is final, or as it is when the time is over."""
        with_deadline = asyncio.timeout(timeout_s)
        try:
            async with with_deadline:
                async for _ in self.events(id, tenant=tenant):
                    pass
        except TimeoutError:
            if not with_deadline.expired():
                raise
        return await self.get(id, tenant=tenant)

    async def events(self, id: str, *, tenant: str | None = None, after: int = 0) -> AsyncIterator[Event]:
        """What happened to a generation since an event, and what happens, until its status is final.

        Raises:
            JobNotFoundError: there is none, or it was deleted meanwhile.
        """
        known = (await self.get(id, tenant=tenant)).id
        after, ended = max(0, min(after, _LAST_EVENT)), False
        async with self._notices.of(known) as notice:
            while True:
                rows = await self.database.fetch("events_after", id=UUID(known), after=after)
                for row in rows:
                    event = Event(*row)
                    after = event.id
                    yield event
                    if event.kind == "status" and event.data["status"] in TERMINAL:
                        return
                if rows:
                    continue
                if ended:  # its last event was seen before `after`
                    return
                ended = (await self.get(known, tenant=tenant)).done
                if not ended:
                    await notice.wait()

    async def places(self) -> list[PlaceState]:
        """Where music can be made now, and how busy it is there."""
        return await place_states(self.database, self.settings)

    async def discard(self, prefix: str) -> None:
        """Deletes audio that belongs to no result: of a generation, or of one of its attempts.

        Where the store is away it stays, and goes with its generation in the end.
        """
        try:
            await self.store.remove(prefix)
        except AudioStoreError as e:
            _log.warning("audio was left behind: %s", e)

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _stalled_s(self) -> float:
        return self.settings.stalled_s

    async def _by_key(self, tenant: str, key: str | None, digest: str) -> Generation | None:
        if key is None:
            return None
        rows = await self.database.fetch("generation_by_key", tenant=tenant, key=key)
        if not rows:
            return None
        *columns, known = rows[0]
        if known != digest:
            raise KeyReusedError
        return read_generation(columns)

    async def _choose(self, request: GenerationRequest) -> Place:
        """Where it will be made."""
        if request.generator == "runpod" and self.settings.runpod_endpoint is None:
            raise SettingsError("RunPod is not configured: set REPROMPT_RUNPOD_ENDPOINT and REPROMPT_RUNPOD_API_KEY.")
        if request.generator != "auto":
            return request.generator
        if self.settings.runpod_endpoint is not None:
            return "runpod"
        live = await self.database.fetch("live_workers", stalled_s=self._stalled_s)
        return "musicgen" if any(place == "musicgen" for place, *_ in live) else "preview"

    async def _write(self, request: GenerationRequest) -> Reprompt:
        """Before and after; a prompt that was edited by hand stands as it is, and its own words make the plan."""
        if self._pipeline is None:
            raise JobError("These jobs were opened without a pipeline: they are made here, not accepted.")
        reprompt = await self._pipeline.reprompt(request.words, mode=request.mode, refiner=request.refiner)
        if request.prompt is None or request.prompt == reprompt.prompt:
            if request.mode != "off":
                return reprompt
            # a preview must not play what the prompt does not say
            plan, reasons = await self._pipeline.literal_plan(request.words)
            return replace(reprompt, plan=plan, reasons=reasons)
        edited = await self._pipeline.reprompt(request.prompt, mode="off", refiner="rules")
        note = "The prompt was edited by hand; the plan was read from it."
        return replace(
            reprompt,
            prompt=request.prompt,
            refiner="person",
            plan=edited.plan,
            reasons=edited.reasons,
            warnings=(*reprompt.warnings, note),
        )


def read_generation(row: Any) -> Generation:
    """The generation of a row with the columns of the queries' {generation}."""
    fields = dict(zip(_FIELDS, row, strict=True))
    fields["id"] = str(fields["id"])
    fields["progress"] = round(fields["progress"], 3)
    return from_object(fields, Generation)


def _check_name(name: str, what: str, *, least: int) -> None:
    """Raises a PromptError for a tenant or key that is no text, or too long."""
    if not least <= len(name) <= _LONGEST_NAME:
        raise PromptError(f"{what} has {least} to {_LONGEST_NAME} characters, not {len(name):,}.")
    if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        raise PromptError(f"{what} holds a NUL character or half of a character pair; leave it out.")


def _uuid(id: str) -> UUID:
    try:
        return UUID(id)
    except ValueError:
        raise JobNotFoundError(f"There is no generation {id!r}: an id looks like {UUID(int=0)}.") from None
