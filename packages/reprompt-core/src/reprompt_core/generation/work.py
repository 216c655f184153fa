"""The work on one generation: claimed, kept alive, made, finished. What is late or not ours any more is thrown away."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, get_args
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from ..database import query
from ..errors import AudioStoreError, DatabaseError, MakingError
from ..tasks import end
from .contract import TERMINAL, ErrorCode, Format, Generation, GenerationError, Place, Status, Take, audio_key
from .jobs import Jobs, read_generation

__all__ = ["Made", "Maker", "Sound", "Work", "perform"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_BEAT_S = 0.5  # between two looks at whether to stop, which also tell how far it is
_END_S = 10.0  # for a maker to stop
_AGAIN_S = (0.2, 0.5, 1, 2, *(4,) * 10)  # pauses while the database is away and a result waits to be written
_RETRY_AFTER_S = 5.0
_LONGEST_MESSAGE = 1000
_SILENT = -120.0  # dB: the levels of silence are infinite, which JSON cannot say
_STORAGE = "The audio could not be stored; the people who run this service can see why in its log."
_OURS = "A fault of ours: the people who run this service can see it in its log."


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
        self.cancelled = False  # by who asked; a maker that is stopped otherwise leaves what it began elsewhere
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
            channels=sound.channels, loudness_lufs=max(_SILENT, sound.loudness_lufs),
            true_peak_dbtp=max(_SILENT, sound.true_peak_dbtp),
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
        """Tells of a take that is in the audio store already.

        Raises:
            DatabaseError: the database stays away.
        """
        self.takes.append(take)
        told: dict[str, Any] = {
            "id": self.generation_id,
            "attempt": self.attempt,
            "take": Jsonb(msgspec.to_builtins(take)),
        }
        await _patiently(lambda: self._jobs.database.fetch("tell_take", **told))

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
        await _tidy(jobs, work, await _release(jobs, work))
        raise
    if stopped is None:
        await _settle(jobs, work, making)
        return
    work.cancelled = stopped == "cancelled"
    await _end(making)
    status = await _finish(jobs, work, status="cancelled") if work.cancelled else None
    await _tidy(jobs, work, status)


async def _watch(jobs: Jobs, work: Work, making: "asyncio.Task[Made]") -> Literal["cancelled", "lost"] | None:
    """None once it is made or failed; else why to stop: its person cancelled it, or another attempt has it."""
    told, told_at = 0.0, 0.0
    while True:
        await asyncio.wait([making], timeout=_BEAT_S)
        if making.done():
            return None
        progress = min(max(told, float(work.progress)), 1.0)  # it never goes back, nor to what is no number
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
    """Writes what came of it. No audio is left but that of the attempt that succeeded."""
    outcome = _outcome(work, making)
    if isinstance(outcome, Made):
        status = await _finish(jobs, work, status="succeeded", made=outcome)
    elif outcome.again:
        status = await _release(jobs, work, error=_error(outcome))
    else:
        status = await _finish(jobs, work, status="failed", error=_error(outcome))
    await _tidy(jobs, work, status)


def _outcome(work: Work, making: "asyncio.Task[Made]") -> Made | MakingError:
    """What a maker that ended gave, or why it gave nothing."""
    try:
        made = making.result()
    except MakingError as e:
        return e
    except (DatabaseError, AudioStoreError) as e:
        _log.error("generation %s: %s", work.generation.id, e)
        return MakingError("The database or the audio store was away for too long.", code="storage", again=True)
    except (Exception, asyncio.CancelledError):  # whatever a maker raises, it is not this worker's end
        _log.exception("generation %s failed", work.generation.id)
        return MakingError(_OURS, code="internal", again=True)
    if sorted(take.number for take in work.takes) != list(range(work.generation.request.takes)):
        _log.error("generation %s: takes %s", work.generation.id, [take.number for take in work.takes])
        return MakingError("Not every take was made.", code="bad_result", again=True)
    return made


async def _finish(
    jobs: Jobs, work: Work, *, status: Status, made: Made | None = None, error: GenerationError | None = None
) -> Status | None:
    """The final status: this one, or cancelled where that was asked; None: it is not this attempt's to say."""
    takes = sorted(work.takes, key=lambda take: take.number) if status == "succeeded" else []
    written: dict[str, Any] = {
        "id": work.generation_id,
        "attempt": work.attempt,
        "status": status,
        "takes": Jsonb(msgspec.to_builtins(takes)),
        "error": Jsonb(msgspec.to_builtins(error)) if error else None,
        "model": made.model if made else None,
        "revision": made.model_revision if made else None,
        "timings_ms": Jsonb({k: round(v, 1) for k, v in made.timings_ms.items()} if made else {}),
    }
    rows = await _patiently(lambda: jobs.database.fetch("finish_generation", **written))
    return rows[0][0] if rows else None


async def _release(jobs: Jobs, work: Work, *, error: GenerationError | None = None) -> Status | None:
    """The status of a generation whose attempt gave nothing: it waits for the next, or that was the last try.

    Without an error its worker stops: another makes it at once, and it does not count as a try.
    """
    released: dict[str, Any] = {
        "id": work.generation_id,
        "attempt": work.attempt,
        "counts": error is not None,
        "most": jobs.settings.attempts,
        "error": Jsonb(msgspec.to_builtins(error)) if error else None,
    }

    async def release() -> Status | None:
        async with jobs.database.connection() as connection, connection.transaction():
            await connection.execute(query("hold_up_nobody"))
            row = await (await connection.execute(query("release_generation"), released)).fetchone()
            if row is None:
                return None
            status, place, priority, tries = row
            if status == "queued":
                pause = _RETRY_AFTER_S * tries if error is not None else 0
                task = await jobs.queue.add(
                    connection, work.generation_id, place=place, priority=priority, after_s=pause
                )
                await connection.execute(query("set_task"), {"id": work.generation_id, "task": task})
            return status

    if error is not None:
        return await _patiently(release)
    with suppress(DatabaseError):  # who stops does not wait for it: the sweep finds what is left
        return await release()
    return None


async def _patiently(call: Callable[[], Awaitable[_T]]) -> _T:
    """What the call gives; while the database is away it is tried again: a result is worth waiting for."""
    for pause in _AGAIN_S:
        try:
            return await call()
        except DatabaseError:
            await asyncio.sleep(pause)
    return await call()


async def _tidy(jobs: Jobs, work: Work, status: Status | None) -> None:
    """Leaves no audio but that of the attempt that succeeded. A status of None: another attempt has taken over."""
    id, attempt = work.generation.id, work.attempt
    if status == "succeeded":
        unwanted = [f"{id}/{earlier}" for earlier in range(1, attempt)]  # of workers that died
    elif status in TERMINAL:
        unwanted = [id]
    else:  # what an endpoint uploaded is paid for, and the next attempt looks for it
        unwanted = [] if work.remote else [f"{id}/{attempt}"]
    for prefix in unwanted:
        await jobs.discard(prefix)


async def _end(making: "asyncio.Task[Made]") -> None:
    """Stops a maker. One that does not stop is left to itself: what it still says is not heard."""
    if not await end(making, within_s=_END_S, again_s=_END_S):  # once: it may have an endpoint to tell
        _log.error("%s does not stop", making.get_name())


def _error(failed: MakingError) -> GenerationError:
    known: ErrorCode = failed.code if failed.code in get_args(ErrorCode) else "internal"  # pyright: ignore[reportAssignmentType]
    return GenerationError(code=known, message=str(failed)[:_LONGEST_MESSAGE])
