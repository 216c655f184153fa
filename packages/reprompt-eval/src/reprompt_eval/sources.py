"""Where an experiment's audio comes from: the job queue, an API, or a folder."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from reprompt_core import JobError, Pipeline, PromptError, RepromptError
from reprompt_core.generation.contract import Generation, GenerationRequest
from reprompt_core.generation.jobs import Jobs
from reprompt_core.generation.making import PreviewMaker
from reprompt_core.generation.worker import Worker

from .errors import AudioFileError, OptionError
from .plan import PLACES, Arm
from .run_folder import Prompt

__all__ = ["Source", "Take", "source_of"]

_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_TENANT = "evaluation"
_FULL_S = 2.0  # pause while the queue takes no more
_PATIENCE_S = 900.0  # for which an API may say that it is busy
_ATTEMPTS = 20  # generations of one piece that failed, over all runs


class Take(NamedTuple):
    """An audio that was made."""

    content: bytes
    suffix: str  # of its file: .wav
    made_by: str  # the model, as far as it is known


class Source(Protocol):
    """Makes one audio at a time; many may be asked for at once."""

    async def audio(self, prompt: Prompt, text: str, arm: Arm, seed: int, seconds: float) -> Take:
        """The audio of a text.

        Raises:
            AudioFileError: there is none; says why.
        """
        ...


@asynccontextmanager
async def source_of(generator: str, *, pipeline: Pipeline, run: str) -> AsyncGenerator[Source]:
    """The source that a plan names.

    Args:
        generator: preview, musicgen, runpod, auto; the address of an API; or a folder.
        pipeline: an open one; its database holds the queue.
        run: what makes this run's jobs its own: a run that is taken up again finds them.

    Raises:
        OptionError: it is none of these.
    """
    async with AsyncExitStack() as stack:
        if generator.startswith(("http://", "https://")):
            yield await stack.enter_async_context(_Api.open(generator, run))
        elif generator in PLACES:
            jobs = await stack.enter_async_context(Jobs(pipeline=pipeline))
            if generator in {"auto", "preview"}:  # otherwise nobody may be there to play them
                await stack.enter_async_context(_working(Worker(jobs, [PreviewMaker(pipeline.knowledge)])))
            yield _Queue(jobs, generator, run)
        elif await asyncio.to_thread(Path(generator).is_dir):
            yield _Folder(Path(generator))
        else:
            raise OptionError(
                f"generator {generator!r} is none of {', '.join(PLACES)}, no https:// address, and no folder that is "
                "there."
            )


def _request(prompt: Prompt, text: str, arm: Arm, seed: int, seconds: float, generator: str) -> GenerationRequest:
    edited = None if arm.mode == "off" else text
    place: Any = generator
    return GenerationRequest(
        words=prompt.words, prompt=edited, mode=arm.mode, refiner="rules", generator=place, seconds=seconds, seed=seed
    )


def _key(run: str, prompt: Prompt, text: str, arm: Arm, seed: int, attempt: int) -> str:
    """Of a generation: the same piece of the same run is made once, and once more after it failed.

    The texts are part of it: a run that was deleted and done again in the same folder may have others.
    """
    told = [run, prompt.id, arm.name, seed, attempt, prompt.words, text]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class _Queue:
    """Jobs on the project's own queue: workers on any number of machines make them."""

    def __init__(self, jobs: Jobs, generator: str, run: str) -> None:
        self._jobs, self._generator, self._run = jobs, generator, run

    async def audio(self, prompt: Prompt, text: str, arm: Arm, seed: int, seconds: float) -> Take:
        request = _request(prompt, text, arm, seed, seconds, self._generator)
        try:
            generation = await self._submit(request, _key(self._run, prompt, text, arm, seed, 0))
            for attempt in range(1, _ATTEMPTS):
                if generation.status not in {"failed", "cancelled"}:
                    break
                # what was just submitted is not done yet: this one failed in an earlier run
                generation = await self._submit(request, _key(self._run, prompt, text, arm, seed, attempt))
            while not generation.done:
                generation = await self._jobs.wait(generation.id, tenant=_TENANT, timeout_s=3600)
            return await self._take(generation)
        except (JobError, PromptError, RepromptError) as e:
            raise AudioFileError(f"{type(e).__name__}: {e}") from e

    async def _submit(self, request: GenerationRequest, key: str) -> Generation:
        from reprompt_core import QueueFullError

        while True:
            try:
                return await self._jobs.submit(request, tenant=_TENANT, key=key)
            except QueueFullError:
                await asyncio.sleep(_FULL_S)

    async def _take(self, generation: Generation) -> Take:
        if generation.status != "succeeded":
            why = generation.error.message if generation.error else generation.status
            raise AudioFileError(f"The generation {generation.status}: {why}")
        (take, *_) = generation.takes
        content = await self._jobs.store.get(generation.key(take))
        return Take(content, f".{take.format}", generation.model or generation.generator)


class _Api:
    """The REST API of another Reprompt. REPROMPT_API_KEY is its key."""

    def __init__(self, client: Any, address: str, run: str) -> None:
        self._client, self._address, self._run = client, address, run

    @classmethod
    @asynccontextmanager
    async def open(cls, address: str, run: str) -> AsyncGenerator["_Api"]:
        import httpx2

        key = os.environ.get("REPROMPT_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx2.AsyncClient(base_url=address.rstrip("/"), headers=headers, timeout=60) as client:
            yield cls(client, address, run)

    async def audio(self, prompt: Prompt, text: str, arm: Arm, seed: int, seconds: float) -> Take:
        import httpx2

        request = _request(prompt, text, arm, seed, seconds, "auto")
        body = {f: getattr(request, f) for f in request.__struct_fields__}
        try:
            made: dict[str, Any] = {}
            for attempt in range(_ATTEMPTS):
                headers = {"Idempotency-Key": _key(self._run, prompt, text, arm, seed, attempt)}
                made = await self._call("POST", "/v1/generations", json=body, headers=headers)
                if made["status"] not in {"failed", "cancelled"}:  # not one that failed in an earlier run
                    break
            while made["status"] in {"queued", "running"}:
                await asyncio.sleep(1)
                made = await self._call("GET", f"/v1/generations/{made['id']}")
            if made["status"] != "succeeded":
                raise AudioFileError(f"The generation {made['status']}: {(made.get('error') or {}).get('message', '')}")
            made_by = str(made.get("model") or made["generator"])
            take = made["takes"][0]
            place, suffix = str(take["audio"]), f".{take['format']}"
            # the key goes to no other server, and the name of a file is ours
            if not place.startswith("/") or place.startswith("//") or suffix not in _SUFFIXES:
                raise AudioFileError(f"{made_by}: the answer names no audio of its own: {place[:100]!r}, {suffix!r}")
            answer = await self._client.get(place)
            answer.raise_for_status()
            return Take(answer.content, suffix, made_by)
        except (httpx2.HTTPError, LookupError, TypeError, ValueError) as e:
            raise AudioFileError(f"{self._address}: {type(e).__name__}: {e}") from e

    async def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            answer = await self._client.request(method, path, **more)
            if answer.status_code not in {429, 503} or time.monotonic() > give_up:
                break
            told = answer.headers.get("retry-after", "")  # seconds, or a date
            await asyncio.sleep(min(60.0, float(told)) if told.isdecimal() else _FULL_S)
        if answer.status_code >= 400:
            is_ours = answer.headers.get("content-type", "").endswith("json")
            why = answer.json().get("detail", "") if is_ours else answer.reason_phrase
            raise AudioFileError(f"{path}: {answer.status_code}: {why}")
        return answer.json()


class _Folder:
    """Audio that is there: PROMPT-ARM-SEED.wav, or .flac, .ogg, .mp3."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def audio(self, prompt: Prompt, text: str, arm: Arm, seed: int, seconds: float) -> Take:
        for suffix in _SUFFIXES:
            path = self._folder / f"{prompt.id}-{arm.name}-{seed}{suffix}"
            try:
                if path.is_file():
                    return Take(await asyncio.to_thread(path.read_bytes), suffix, f"folder {self._folder.name}")
            except OSError as e:
                raise AudioFileError(f"{path.name} cannot be read: {e.strerror or e}.") from e
        raise AudioFileError(f"There is no {prompt.id}-{arm.name}-{seed}.wav (or .flac, .ogg, .mp3) in {self._folder}.")


@asynccontextmanager
async def _working(worker: Worker) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
