"""MusicGen as a maker: in one process with the queue, on the real database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from reprompt_core import Pipeline, Settings
from reprompt_core.generation import Generation, GenerationRequest, Jobs, Worker
from reprompt_gpu import Engine
from reprompt_worker.making import MusicGenMaker
from reprompt_worker.metrics import Monitor


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest(words="slow sad piano", generator="musicgen", **{"seconds": 1.0, **fields})


def worked(settings: Settings, maker: MusicGenMaker, use: Callable[[Jobs], Awaitable[None]]) -> None:
    """Uses jobs while a worker makes them."""

    async def run() -> None:
        stop = asyncio.Event()
        async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline) as jobs:
            working = asyncio.create_task(Worker(jobs, [maker]).run(stop))
            try:
                await use(jobs)
            finally:
                stop.set()
                await working

    asyncio.run(run())


async def ended(jobs: Jobs, request: GenerationRequest) -> Generation:
    return await jobs.wait((await jobs.submit(request)).id, timeout_s=60)


def test_a_generation_that_is_cancelled_gives_its_slots_back(settings: Settings, engine: Engine) -> None:
    monitor = Monitor()

    async def use(jobs: Jobs) -> None:
        long = await jobs.submit(asked(seconds=300.0, takes=4))
        async for event in jobs.events(long.id):
            if event.kind == "progress":
                await jobs.cancel(long.id)
        assert (await jobs.get(long.id)).status == "cancelled"
        assert await jobs.store.keys(long.id) == []
        next = await ended(jobs, asked(takes=4))
        assert next.status == "succeeded"

    worked(settings, MusicGenMaker(engine, slots=4, monitor=monitor), use)
    ended_as = [
        monitor.registry.get_sample_value("reprompt_worker_generations_total", {"outcome": o}) for o in OUTCOMES
    ]
    assert ended_as == [1, 0, 1]
    assert monitor.registry.get_sample_value("reprompt_worker_audio_seconds_total") == 4.0


OUTCOMES = ("made", "failed", "stopped")


def test_a_request_that_the_model_cannot_read_fails_and_others_are_made(settings: Settings, engine: Engine) -> None:
    broken: list[bool] = []

    async def use(jobs: Jobs) -> None:
        too_long = await ended(jobs, asked(prompt="a; " * 350))  # two tokens each
        assert too_long.status == "failed"
        assert too_long.error is not None
        assert too_long.error.code == "invalid"
        assert "701 tokens: give 1 to 512" in too_long.error.message
        assert too_long.attempts == 1
        assert (await ended(jobs, asked())).status == "succeeded"

    maker = MusicGenMaker(engine, slots=4, broken=lambda: broken.append(True))
    worked(settings, maker, use)
    assert not broken
    assert not maker.is_broken


def test_a_worker_whose_engine_broke_says_so_once_and_leaves_its_work(
    settings: Settings, broken_engine: Engine
) -> None:
    broken: list[bool] = []

    async def use(jobs: Jobs) -> None:
        for one in [await jobs.submit(asked()) for _ in range(3)]:
            told: list[str] = []
            async for event in jobs.events(one.id):
                told += [event.data["status"]] if event.kind == "status" else []
                if len(told) == 3:
                    break
            assert told == ["queued", "running", "queued"]

    maker = MusicGenMaker(broken_engine, slots=4, broken=lambda: broken.append(True))
    worked(settings, maker, use)
    assert maker.is_broken
    assert broken == [True]


def test_the_last_attempt_on_a_broken_engine_fails_without_its_details(
    settings: Settings, broken_engine: Engine
) -> None:
    async def use(jobs: Jobs) -> None:
        failed = await ended(jobs, asked())
        assert failed.error is not None
        assert (failed.status, failed.error.code) == ("failed", "internal")
        assert "numbers" not in failed.error.message
        assert failed.takes == ()

    worked(replace(settings, attempts=1), MusicGenMaker(broken_engine, slots=4), use)


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_what_lies_in_the_store_is_what_the_row_says(settings: Settings, engine: Engine, format: Any) -> None:
    async def use(jobs: Jobs) -> None:
        made = await ended(jobs, asked(takes=3, format=format, seed=11))
        assert (made.status, made.model) == ("succeeded", engine.name)
        assert [take.number for take in made.takes] == [0, 1, 2]
        assert [take.seed for take in made.takes] == [11, 12, 13]
        assert sorted(made.key(take) for take in made.takes) == sorted(await jobs.store.keys(made.id))
        for take in made.takes:
            assert len(await jobs.store.get(made.key(take))) == take.bytes

    worked(settings, MusicGenMaker(engine, slots=1), use)
