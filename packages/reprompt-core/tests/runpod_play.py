"""Generations that are made at RunPod, played against a server on loopback: real jobs, worker, maker and database."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
from reprompt_core import Pipeline, Settings
from reprompt_core.generation import AudioStore, Generation, GenerationRequest, Jobs, RunPodMaker, Worker
from reprompt_core.generation import runpod as runpod_module
from reprompt_core.generation import work as work_module
from reprompt_core.generation.contract import audio_key
from runpod_server import KEY, RATE, Job, RunPodServer, Step, completed

SHORT_S, LONG_S = 4.0, 60.0  # of a job at RunPod: to see the time run out, or not on the busiest machine
ENDS_S = 120.0  # in which everything ends
FINE: list[Step] = [completed()]
TAKEN = ("succeeded", None, 1, 0)  # an outcome of `played`
TRACE = 'Traceback (most recent call last):\n  File "/app/handler.py", line 7, in handler\nZeroDivisionError: division'


@contextmanager
def impatient_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunPodServer]:
    """A server for a maker that waits parts of seconds, and asks no proxy for loopback."""
    monkeypatch.setattr(runpod_module, "_POLL_S", 0.1)
    monkeypatch.setattr(work_module, "_RETRY_AFTER_S", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with RunPodServer() as server:
        yield server


@asynccontextmanager
async def jobs_of(
    url: str, server: RunPodServer, folder: Path, *, store: type[AudioStore] = AudioStore, **more: Any
) -> AsyncGenerator[Jobs]:
    settings = Settings(
        database_url=url,
        audio_url=str(folder / "audio"),
        runpod_url=server.url,
        runpod_endpoint="tiny",
        runpod_api_key=KEY,
        **{"runpod_timeout_s": LONG_S, "stalled_s": 2.0} | more,
    )
    async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline, store=store.open(settings)) as jobs:
        yield jobs


@asynccontextmanager
async def worker_of(jobs: Jobs) -> AsyncGenerator[RunPodMaker]:
    maker, stop = RunPodMaker(jobs, slots=64), asyncio.Event()
    working = asyncio.create_task(Worker(jobs, [maker]).run(stop))
    try:
        yield maker
    finally:
        stop.set()
        await working
        await maker.close()


def request(seed: int, **more: Any) -> GenerationRequest:
    return GenerationRequest(
        **{"words": "slow rain", "mode": "off", "generator": "runpod", "seconds": 1, "seed": seed} | more
    )


async def until(what: Callable[[], object | Awaitable[object]], *, timeout_s: float = ENDS_S) -> None:
    """Waits for something to become true."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = what()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


async def played(
    url: str, server: RunPodServer, folder: Path, plays: dict[str, dict[str, Any]], *, timeout_s: float = LONG_S
) -> tuple[dict[str, Any], dict[str, Generation]]:
    """What came of each play, all at once: (status, error code or None, submissions, cancellations at RunPod)."""
    names = list(plays)
    for seed, name in enumerate(names):
        server.plays(seed, **{k: v for k, v in plays[name].items() if k != "asked"})
    outcomes: dict[str, Any] = {}
    ended: dict[str, Generation] = {}
    async with jobs_of(url, server, folder, runpod_timeout_s=timeout_s) as jobs, worker_of(jobs):
        waiting = [await jobs.submit(request(i, **plays[name].get("asked", {}))) for i, name in enumerate(names)]
        for seed, (name, waits) in enumerate(zip(names, waiting, strict=True)):
            ended[name] = end = await jobs.wait(waits.id, timeout_s=ENDS_S)
            told = repr(end) + repr([event.data async for event in jobs.events(waits.id)])
            assert "Traceback" not in told, name
            assert "handler.py" not in told, name
            assert KEY not in told, name
            check_audio(end, await jobs.store.keys(end.id), folder, name)
            outcomes[name] = (end.status, end.error and end.error.code, server.posts(seed), server.cancels(seed))
    assert server.keys == {f"Bearer {KEY}"}
    return outcomes, ended


def message(ended: Generation) -> str:
    assert ended.error
    return ended.error.message


def check_audio(ended: Generation, kept: list[str], folder: Path, name: str) -> None:
    """What succeeded has all its audio, what did not has none."""
    if ended.status != "succeeded":
        assert (ended.takes, kept) == ((), []), name
        return
    assert len(ended.takes) == ended.request.takes, name
    assert sorted(kept) == sorted({ended.key(take) for take in ended.takes}), name
    for take in ended.takes:
        samples, rate = soundfile.read(folder / "audio" / ended.key(take))
        assert (rate, len(samples)) == (RATE, RATE * ended.request.seconds), name
    assert (ended.model, ended.model_revision, ended.progress) == ("tiny", "r1", 1.0), name
    assert ended.timings_ms["making"] == 5.5, name


def put(folder: Path, result: dict[str, Any], job: Job, change: Callable[[bytes], bytes] = bytes) -> None:
    """Uploads the takes of a result, as the endpoint does."""
    for each in result["takes"]:
        take = each["take"]
        path = folder / "audio" / audio_key(job.input["id"], job.input["attempt"], take["sha256"], take["format"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(change(base64.b64decode(each["audio"])))
        each["audio"] = None


async def rows(jobs: Jobs, sql: str) -> list[Any]:
    async with jobs.database.connection() as connection:
        return await (await connection.execute(sql)).fetchall()  # pyright: ignore[reportArgumentType]
