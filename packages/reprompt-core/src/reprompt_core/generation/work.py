"""The work on one generation: claimed, kept alive, made, finished. What is late or not ours any more is thrown away."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from ..database import query
from ..errors import AudioStoreError, DatabaseError, MakingError
from .contract import ErrorCode, Format, Generation, GenerationError, Place, Status, Take, audio_key
from .jobs import Jobs, read_generation

__all__ = ["Made", "Maker", "Sound", "Work", "perform"]

_log = logging.getLogger(__name__)
_BEAT_S = 0.5  # between two looks at whether to stop, which also tell how far it is
_AGAIN_S = (0.2, 0.5, 1, 2, 4, 8, 15, 15)  # pauses while the database is away and a result waits to be written
_RETRY_AFTER_S = 5.0
_STORAGE = "The audio could not be stored; the people who run this service can see why in its log."


@dataclass(frozen=True, slots=True)
class Sound:
    """An encoded take, with what was measured of it."""

    content: bytes
    number: int
    seed: int
    format: Format
    seconds: float
    sample_rate: int
    channels: int
    loudness_lufs: float
    true_peak_dbtp: float


@dataclass(frozen=True, slots=True)
class Made:
    """What a maker says at the end; its takes were kept one by one."""

    model: str | None = None
    model_revision: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict[str, float])


class Maker(Protocol):
    """Makes the audio of generations at one place."""

    place: Place
    slots: int  # generations at once
    model: str | None
    model_revision: str | None

    async def make(self, work: "Work") -> Made:
        """Keeps every take with `work.keep`; cancelled, it stops soon.

        Raises:
            MakingError: why it cannot be made.
        """
        ...


class Work:
    """A generation in the hands of a maker."""

    def __init__(self, jobs: Jobs, generation: Generation, remote: dict[str, Any] | None) -> None:
        self.generation, self.remote = generation, remote
        self.progress = 0.0  # 0 to 1; set it from any thread
        self.takes: list[Take] = []
        self._jobs = jobs

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.generation.attempts

    async def keep(self, sound: Sound) -> Take:
        """Stores a take and tells of it.

        Raises:
            MakingError: it could not be stored.
        """
        take = Take(
            number=sound.number, seed=sound.seed, format=sound.format, bytes=len(sound.content),
            sha256=hashlib.sha256(sound.content).hexdigest(), seconds=sound.seconds, sample_rate=sound.sample_rate,
            channels=sound.channels, loudness_lufs=sound.loudness_lufs, true_peak_dbtp=sound.true_peak_dbtp,
        )  # fmt: skip
        key = audio_key(self.generation.id, self.attempt, take.sha256, take.format)
        try:
            await self._jobs.store.put(key, sound.content)
        except AudioStoreError as e:
            _log.error("%s", e)  # where it lies is not for the person who asked
            raise MakingError(_STORAGE, code="storage", again=True) from e
        await self.kept(take)
        return take

    async def kept(self, take: Take) -> None:
        """Tells of a take that is in the audio store already."""
        self.takes.append(take)
        await self._jobs.database.fetch(
            "tell_take", id=self.generation_id, attempt=self.attempt, take=Jsonb(msgspec.to_builtins(take))
        )

    async def remember(self, remote: dict[str, Any]) -> None:
        """Keeps how far a submission elsewhere is, so that another attempt goes on from there.

        Raises:
            MakingError: this attempt is not the current one any more.
            DatabaseError: it could not be kept.
        """
        rows = await self._jobs.database.fetch(
            "set_remote", id=self.generation_id, attempt=self.attempt, remote=Jsonb(remote)
        )
        if not rows:
            raise MakingError("Another attempt has taken over.", code="internal")
        self.remote = remote

    @property
    def generation_id(self) -> UUID:
        """As the database knows it."""
        return UUID(self.generation.id)


async def perform(jobs: Jobs, maker: Maker, generation: str) -> None:
    """Makes a generation that waits; one that does not, any more, is left alone.

    Raises:
        CancelledError: the worker stops; the generation waits for another.
        DatabaseError: the database stays away; the generation is found again when it is back.
    """
    rows = await jobs.database.fetch("claim_generation", id=UUID(generation))
    if not rows:
        return
    *columns, remote = rows[0]
    work = Work(jobs, read_generation(columns), remote)
    making = asyncio.create_task(maker.make(work), name=f"make {generation}")
    try:
        stopped = await _watch(jobs, work, making)
    except asyncio.CancelledError:
        await _end(making)
        await _write(jobs, "release_generation", work)
        await _discard(jobs, work)
        raise
    if stopped is not None:
        await _end(making)
        if stopped == "cancelled":
            await _finish(jobs, work, status="cancelled")
        await _discard(jobs, work)
        return
    await _settle(jobs, work, making)


async def _watch(jobs: Jobs, work: Work, making: "asyncio.Task[Made]") -> str | None:
    """None once it is made or failed; else why to stop: "cancelled", or "lost" to another attempt."""
    told, told_at = 0.0, 0.0
    while True:
        await asyncio.wait([making], timeout=_BEAT_S)
        if making.done():
            return None
        progress = min(max(float(work.progress), 0.0), 1.0)
        tell = progress > told + 0.001 and time.monotonic() - told_at >= _BEAT_S
        try:
            rows = await jobs.database.fetch(
                "keep_alive", id=work.generation_id, attempt=work.attempt, progress=progress, tell=tell
            )
        except DatabaseError:
            continue  # it comes back, or not: what is being made is not thrown away for it
        if not rows:
            return "lost"
        if rows[0][0]:
            return "cancelled"
        if tell:
            told, told_at = progress, time.monotonic()


async def _settle(jobs: Jobs, work: Work, making: "asyncio.Task[Made]") -> None:
    """Writes what came of it."""
    error: GenerationError | None = None
    made, again = Made(), False
    try:
        made = making.result()
    except MakingError as e:
        error, again = _shown(str(e), e.code), e.again
    except (DatabaseError, AudioStoreError) as e:
        _log.error("generation %s: %s", work.generation.id, e)
        error, again = _shown("The database or the audio store was away for too long.", "storage"), True
    except Exception:
        _log.exception("generation %s failed", work.generation.id)
        error, again = (
            _shown("A fault of ours: the people who run this service can see it in its log.", "internal"),
            True,
        )
    if error is not None and again and work.attempt < jobs.settings.attempts:
        await _release(jobs, work)
        await _discard(jobs, work)
        return
    if error is not None:
        await _finish(jobs, work, status="failed", error=error)
        await _discard(jobs, work)
        return
    if not await _finish(jobs, work, status="succeeded", made=made):
        await _discard(jobs, work)  # cancelled at the last moment, or another attempt's by now
        await _finish(jobs, work, status="cancelled")
    elif work.attempt > 1:
        await _discard_earlier(jobs, work)


async def _finish(
    jobs: Jobs, work: Work, *, status: Status, made: Made | None = None, error: GenerationError | None = None
) -> bool:
    """Whether the final status was written: only for the current attempt, and no success for what was cancelled."""
    takes = sorted(work.takes, key=lambda take: take.number) if status == "succeeded" else []
    rows = await _write(
        jobs,
        "finish_generation",
        work,
        status=status,
        takes=Jsonb(msgspec.to_builtins(takes)),
        error=Jsonb(msgspec.to_builtins(error)) if error else None,
        model=made.model if made else None,
        revision=made.model_revision if made else None,
        timings_ms=Jsonb({k: round(v, 1) for k, v in made.timings_ms.items()} if made else {}),
    )
    return bool(rows)


async def _release(jobs: Jobs, work: Work) -> None:
    """Lets it wait for another attempt, which starts in a while."""
    async with jobs.database.connection() as connection, connection.transaction():
        asked = {"id": work.generation_id, "attempt": work.attempt}
        row = await (await connection.execute(query("release_generation"), asked)).fetchone()
        if row is None:
            return
        id, place, priority = row
        pause = _RETRY_AFTER_S * work.attempt
        task = await jobs.queue.add(connection, id, place=place, priority=priority, after_s=pause)
        await connection.execute(
            "UPDATE reprompt.generations SET task = %(task)s WHERE id = %(id)s", {"id": id, "task": task}
        )


async def _write(jobs: Jobs, name: str, work: Work, **parameters: Any) -> list[tuple[Any, ...]]:
    """A query about this attempt; while the database is away it is tried again: a result is worth waiting for."""
    for pause in (*_AGAIN_S, None):
        try:
            return await jobs.database.fetch(name, id=work.generation_id, attempt=work.attempt, **parameters)
        except DatabaseError:
            if pause is None:
                raise
            await asyncio.sleep(pause)
    raise AssertionError


async def _discard(jobs: Jobs, work: Work) -> None:
    """Removes the audio of an attempt without a result."""
    await _remove(jobs, f"{work.generation.id}/{work.attempt}")


async def _discard_earlier(jobs: Jobs, work: Work) -> None:
    """Removes what attempts left whose workers died."""
    for attempt in range(1, work.attempt):
        await _remove(jobs, f"{work.generation.id}/{attempt}")


async def _remove(jobs: Jobs, prefix: str) -> None:
    try:
        await jobs.store.remove(prefix)
    except AudioStoreError as e:
        _log.warning("audio was left behind: %s", e)  # the retention finds it


async def _end(making: "asyncio.Task[Made]") -> None:
    making.cancel()
    await asyncio.wait([making])
    if not making.cancelled():
        making.exception()  # seen


def _shown(message: str, code: str) -> GenerationError:
    known: ErrorCode = code if code in ErrorCode.__args__ else "internal"  # type: ignore[attr-defined,assignment]
    return GenerationError(code=known, message=message[:1000])
