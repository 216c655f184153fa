"""Takes of MusicGen as the rest of Reprompt knows them: made by the engine, finished, encoded, measured.

The queue worker and the serverless handler both make their audio here, so that one request and seed give one file.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from reprompt_core.errors import MakingError
from reprompt_core.generation.contract import Format, GenerationRequest, RemoteJob
from reprompt_core.generation.work import Sound
from reprompt_core.tasks import end
from reprompt_gpu import AudioError, CapacityError, GpuError, RequestError
from reprompt_gpu import GenerationRequest as EngineRequest

if TYPE_CHECKING:
    from reprompt_gpu import Engine, Job, Take

__all__ = ["make_takes"]

_log = logging.getLogger(__name__)
_LOOK_S = 0.25  # between two looks at how far the takes are
_QUIETEST_DB = -70.0  # the meter's gate: silence has no level, and JSON no infinity
_FAILED = "The model failed while it made this; the people who run this service can see why in the worker's log."


async def make_takes(
    engine: "Engine",
    *,
    prompt: str,
    asked: GenerationRequest | RemoteJob,
    keep: Callable[[Sound], Awaitable[object]],
    progress: Callable[[float], None] | None = None,
) -> None:
    """Makes every take of a request, side by side, on an engine that others may use at the same time.

    Take k has the seed `asked.seed + k` and is the same alone: asked for with that seed and one take. Each is brought
    to -14 LUFS and at most -1 dBTP, encoded, measured and handed to `keep`, in the order in which they are done.
    Nothing here blocks the event loop. Cancelled, or when a take or `keep` fails, the rest leaves the engine within
    two steps.

    Args:
        engine: loaded.
        prompt: what the model is given (`asked` may hold the words from which it was written).
        asked: length, takes, seed, guidance, temperature, top_k and format.
        keep: is awaited with each take; what it raises ends the whole.
        progress: is told the share of the frames that are made, 0 to 1, a few times a second.

    Raises:
        MakingError: why it cannot be made, with its code and whether another attempt may succeed.
    """
    jobs = await _submit(engine, prompt, asked)
    keeping = [asyncio.create_task(_keep(job, number, asked, keep)) for number, job in enumerate(jobs)]
    looking = asyncio.create_task(_look(jobs, progress)) if progress else None
    try:
        await asyncio.gather(*keeping)
    finally:
        for job in jobs:
            job.cancel()
        await end(*keeping, looking)
    if progress:
        progress(1.0)


async def _submit(engine: "Engine", prompt: str, asked: GenerationRequest | RemoteJob) -> "list[Job]":
    """A job for each take. On a thread: the text encoder takes a while."""
    submitting = asyncio.get_running_loop().run_in_executor(None, _jobs, engine, prompt, asked)
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(lambda done: None if done.exception() else _cancel(done.result()))
        raise


def _jobs(engine: "Engine", prompt: str, asked: GenerationRequest | RemoteJob) -> "list[Job]":
    jobs: list[Job] = []
    try:
        for number in range(asked.takes):
            request = EngineRequest(
                prompt=prompt,
                seconds=asked.seconds,
                seed=asked.seed + number,
                guidance=asked.guidance,
                temperature=asked.temperature,
                top_k=asked.top_k,
            )
            jobs += engine.submit(request)
    except BaseException as e:
        _cancel(jobs)
        if isinstance(e, GpuError):
            raise _told(e) from e
        raise
    return jobs


def _cancel(jobs: "Sequence[Job]") -> None:
    for job in jobs:
        job.cancel()


async def _keep(
    job: "Job",
    number: int,
    asked: GenerationRequest | RemoteJob,
    keep: Callable[[Sound], Awaitable[object]],
) -> None:
    """Waits for a take, finishes it on a thread, and hands it on."""
    try:
        # shielded: a future that is cancelled under the engine's hands would end its thread
        result = asyncio.wrap_future(job.future)
        result.add_done_callback(_seen)
        take = await asyncio.shield(result)
        sound = await asyncio.to_thread(_sound, take, number, asked.format)
    except GpuError as e:
        raise _told(e) from e
    await keep(sound)


def _seen(result: "asyncio.Future[Take]") -> None:
    """What is cancelled ends with an error that no one waits for."""
    if not result.cancelled():
        result.exception()


def _sound(take: "Take", number: int, format: Format) -> Sound:
    from reprompt_gpu import audio  # scipy takes a second

    samples = audio.finish(take.samples, take.sample_rate)
    loudness, peak = audio.measure(samples, take.sample_rate)
    try:
        content = audio.encode(samples, take.sample_rate, format)
    except AudioError as e:
        raise MakingError(str(e), code="invalid") from e
    return Sound(
        content=content,
        number=number,
        seed=take.request.seed,
        format=format,
        seconds=samples.shape[1] / take.sample_rate,
        sample_rate=take.sample_rate,
        channels=samples.shape[0],
        loudness_lufs=max(round(loudness, 2), _QUIETEST_DB),
        true_peak_dbtp=max(round(peak, 2), _QUIETEST_DB),
    )


async def _look(jobs: "Sequence[Job]", progress: Callable[[float], None]) -> None:
    frames = sum(job.frames for job in jobs)
    while True:
        progress(sum(job.ready for job in jobs) / frames)
        await asyncio.sleep(_LOOK_S)


def _told(error: Exception) -> MakingError:
    """An error of reprompt-gpu as the person who asked is told of it."""
    if isinstance(error, RequestError):
        return MakingError(str(error), code="invalid")
    _log.error("%s", error)
    if isinstance(error, CapacityError):
        # whoever asked for too much beside it may be gone the next time
        return MakingError(str(error), code="capacity", again=True)
    # a sound that is not finite would be so again
    return MakingError(_FAILED, code="internal", again=not isinstance(error, AudioError))
