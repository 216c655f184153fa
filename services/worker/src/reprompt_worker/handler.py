"""The worker of a RunPod serverless endpoint: a job comes as JSON, its takes go back inline or to object storage.

Nothing is loaded on import; `serve` loads the model, then hands over to RunPod's own loop.
"""

import asyncio
import base64
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from reprompt_core import Settings
from reprompt_core.errors import AudioStoreError, MakingError, PromptError, SettingsError
from reprompt_core.generation.contract import (
    ErrorCode,
    GenerationError,
    RemoteJob,
    RemoteResult,
    RemoteTake,
    Take,
    audio_key,
    from_object,
    to_json,
)
from reprompt_core.generation.storage import AudioStore
from reprompt_core.generation.work import Sound

from .music import make_takes
from .options import Options, load_engine

if TYPE_CHECKING:
    from reprompt_gpu import Engine

__all__ = ["Handler", "serve"]

_log = logging.getLogger(__name__)
_MOST_BYTES = 10_000_000  # of JSON that RunPod takes as a result
_REST_BYTES = 20_000  # of it that are not audio
_TELL_S = 1.0  # at least, between two words of progress
_SENT_S = 2.0  # for which a result waits for the last of them
_WAV_BYTES = 2  # a sample: 16 bits


class Handler:
    """What RunPod's loop calls with each job. A result is a RemoteResult; so is an error, and nothing is raised.

    A GPU that failed once may fail from then on, and a worker that fails quickly would empty the queue. So after an
    error of the engine it is tried, and when it makes no music any more, `broken` is called.

    Args:
        engine: loaded.
        store: object storage that the asking side reads, too; None: takes go inline.
        tell: sends a word of progress of a job, as `runpod.serverless.progress_update` does.
        broken: called when the engine makes no music any more: stop fetching.
        most_bytes: of JSON in an answer.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        store: AudioStore | None = None,
        tell: Callable[[dict[str, Any], Any], None],
        broken: Callable[[], None] = lambda: None,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._engine, self._store, self._tell = engine, store, tell
        self._broken, self._most_bytes = broken, most_bytes

    async def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """Makes the takes of a job; cancelled, it leaves nothing behind."""
        try:
            asked = from_object(job.get("input"), RemoteJob)
        except PromptError as e:
            return _failed("invalid", f"The job cannot be understood: {e}")
        try:
            self._check_size(asked)
            return msgspec.to_builtins(await self._make(job, asked))
        except MakingError as e:
            await self._discard(asked)
            if e.code == "internal":
                await self._try()
            return _failed(e.code, str(e))
        except AudioStoreError as e:
            _log.error("job %s: %s", job.get("id"), e)
            await self._discard(asked)
            return _failed("storage", "The endpoint could not store the audio; the log of its worker says why.")
        except asyncio.CancelledError:
            await self._discard(asked)
            raise
        except Exception:  # what is raised is sent back with its traceback
            _log.exception("job %s failed", job.get("id"))
            await self._discard(asked)
            return _failed("internal", "The endpoint failed; the log of its worker says why.")

    async def _make(self, job: dict[str, Any], asked: RemoteJob) -> RemoteResult:
        takes: list[RemoteTake] = []
        encoded = 0

        async def keep(sound: Sound) -> None:
            nonlocal encoded
            take = _take(sound)
            if self._store is not None:
                await self._store.put(audio_key(asked.id, asked.attempt, take.sha256, take.format), sound.content)
                takes.append(RemoteTake(take=take))
                return
            encoded += _encoded(take.bytes)
            if encoded + _REST_BYTES > self._most_bytes:  # before it is encoded
                raise self._too_large(encoded)
            takes.append(RemoteTake(take=take, audio=base64.b64encode(sound.content).decode()))

        started = time.perf_counter()
        progress = _Progress(job, self._tell)
        await make_takes(self._engine, prompt=asked.prompt, asked=asked, keep=keep, progress=progress.tell)
        making_ms = round(1000 * (time.perf_counter() - started), 1)
        await progress.sent()
        return RemoteResult(
            takes=tuple(sorted(takes, key=lambda remote: remote.take.number)),
            model=self._engine.name,
            model_revision=self._engine.revision,
            timings_ms={"making": making_ms},
        )

    def _check_size(self, asked: RemoteJob) -> None:
        """Refuses before it is made what will not fit; only of WAV is the size known."""
        if self._store is not None or asked.format != "wav":
            return
        samples = asked.seconds * self._engine.sample_rate * self._engine.config.channels
        size = asked.takes * _encoded(int(samples) * _WAV_BYTES)
        if size + _REST_BYTES > self._most_bytes:
            raise self._too_large(size)

    def _too_large(self, size: int) -> MakingError:
        return MakingError(
            f"The audio makes {size / 1e6:.1f} MB of JSON or more, and an answer of RunPod's holds "
            f"{self._most_bytes / 1e6:g} MB: ask for mp3 or ogg, for less at once, or set REPROMPT_AUDIO_URL to the "
            "same object storage here and where you ask.",
            code="too_large",
        )

    async def _try(self) -> None:
        """Whether the engine still makes music."""
        from reprompt_gpu import GenerationRequest, GpuError

        try:
            await asyncio.to_thread(self._engine.generate, [GenerationRequest(prompt="music", seconds=0.1)])
        except GpuError as e:
            _log.critical("the engine makes no music any more, this worker stops: %s", e)
            self._broken()

    async def _discard(self, asked: RemoteJob) -> None:
        """Removes what was uploaded of a job that has no result."""
        if self._store is not None:
            try:
                await self._store.remove(f"{asked.id}/{asked.attempt}")
            except AudioStoreError as e:
                _log.warning("audio was left behind: %s", e)


class _Progress:
    """Tells how far a job is, at most every second, and never after its result: that would be overwritten."""

    def __init__(self, job: dict[str, Any], tell: Callable[[dict[str, Any], Any], None]) -> None:
        self._job, self._tell = job, tell
        self._told, self._told_at = 0.0, float("-inf")
        self._sending: list[threading.Thread] = []

    def tell(self, share: float) -> None:
        """A share from 0 to 1; the whole is told by the result."""
        now = time.monotonic()
        if not self._told < share < 1 or now - self._told_at < _TELL_S:
            return
        self._told, self._told_at = share, now
        before = set(threading.enumerate())
        with suppress(RuntimeError):  # no more threads: the next word may find one
            self._tell(self._job, {"progress": round(share, 3)})
        # RunPod sends each word on a thread that it does not hand out
        self._sending += [thread for thread in threading.enumerate() if thread.daemon and thread not in before]

    async def sent(self) -> None:
        """Returns when every word has arrived, or might have."""
        deadline = time.monotonic() + _SENT_S
        for thread in self._sending:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))


def serve() -> None:
    """Loads the model of REPROMPT_WORKER_*, then makes RunPod's jobs until SIGTERM; those under way are finished first.

    Raises:
        SettingsError: a setting is missing or cannot be used.
        GpuError: the model cannot be loaded.
    """
    if not os.environ.get("RUNPOD_WEBHOOK_GET_JOB"):
        raise SettingsError(
            "This is the worker of a RunPod serverless endpoint: RunPod starts it, and sets RUNPOD_WEBHOOK_GET_JOB. "
            "On a machine of your own use `reprompt-worker run`."
        )
    options, store = Options(), _store()
    with load_engine(options) as engine:
        import runpod  # seconds, and a hundred packages

        handler = Handler(
            engine,
            store=store,
            tell=runpod.serverless.progress_update,
            broken=lambda: signal.raise_signal(signal.SIGTERM),
        )

        def at_once(_: int) -> int:
            return options.at_once

        runpod.serverless.start({"handler": handler.handle, "concurrency_modifier": at_once})


def _store() -> AudioStore | None:
    """Object storage; none where audio would go to a folder, which is gone with this machine."""
    settings = Settings()
    if settings.audio_url is None or urlsplit(settings.audio_url).scheme in {"", "file"}:
        return None
    return AudioStore.open(settings)


def _take(sound: Sound) -> Take:
    return Take(
        number=sound.number,
        seed=sound.seed,
        format=sound.format,
        bytes=len(sound.content),
        sha256=hashlib.sha256(sound.content).hexdigest(),
        seconds=sound.seconds,
        sample_rate=sound.sample_rate,
        channels=sound.channels,
        loudness_lufs=sound.loudness_lufs,
        true_peak_dbtp=sound.true_peak_dbtp,
    )


def _encoded(size: int) -> int:
    """Characters of base64."""
    return 4 * -(-size // 3)


def _failed(code: str, message: str) -> dict[str, Any]:
    """An error as a text: RunPod's loop takes `error` out of an answer, and marks the job as failed with it."""
    known: ErrorCode = code if code in ErrorCode.__args__ else "internal"  # type: ignore[attr-defined,assignment]
    return {"error": to_json(RemoteResult(error=GenerationError(code=known, message=message[:1000]))).decode()}
