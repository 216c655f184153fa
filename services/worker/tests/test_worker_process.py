"""Workers as they run: real processes on a real database, with a tiny MusicGen; and what happens when they die."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest
import soundfile
from reprompt_core import Pipeline, Settings
from reprompt_core.generation import Generation, GenerationRequest, Jobs

pytestmark = pytest.mark.xdist_group("workers")  # one test's processes at a time
ROUNDS = int(os.environ.get("REPROMPT_FAULT_ROUNDS", "2"))
PICKED_UP_S = 45  # issue 6, fault 1
Start = Callable[..., Any]  # of conftest's Process


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest(words="slow sad piano", generator="musicgen", **{"seconds": 2.0, **fields})


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Jobs]:
    async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline) as jobs:
        yield jobs


async def ended(jobs: Jobs, id: str) -> Generation:
    generation = await jobs.wait(id, timeout_s=120)
    assert generation.done, generation.status
    return generation


async def told(jobs: Jobs, id: str) -> list[tuple[str, datetime]]:
    """Every status that a finished generation had, and when."""
    return [(event.data["status"], event.at) async for event in jobs.events(id) if event.kind == "status"]


async def check_one_result(jobs: Jobs, generation: Generation) -> None:
    """It succeeded once, and its audio is there once, whole."""
    assert generation.status == "succeeded"
    assert [status for status, _ in await told(jobs, generation.id)].count("succeeded") == 1
    assert len(generation.takes) == generation.request.takes
    assert sorted(await jobs.store.keys(generation.id)) == sorted(generation.key(take) for take in generation.takes)
    for take in generation.takes:
        content = await jobs.store.get(generation.key(take))
        assert (sha256(content).hexdigest(), len(content)) == (take.sha256, take.bytes)


def first_busy(workers: list[Any]) -> Any:
    """The worker that holds a generation."""
    busy: list[Any] = []
    workers[0].until(lambda: busy.extend(w for w in workers if w.is_busy) or bool(busy))
    return busy[0]


def test_a_worker_from_its_start_to_its_end(settings: Settings, start: Start, hub: Any) -> None:
    worker = start()
    assert worker.ask("/readyz") == (503, "the model is not loaded yet; the queue is not connected\n")
    assert worker.ask("/livez")[0] == 200

    async def use() -> str:
        async with opened(settings) as jobs:
            waiting = await jobs.submit(asked(seed=3))
            await asyncio.to_thread(worker.until_ready)
            made = await ended(jobs, waiting.id)
            await check_one_result(jobs, made)
            assert (made.model, made.model_revision, made.attempts) == (hub.model, hub.commit, 1)
            assert made.timings_ms.keys() == {"reprompt", "queued", "running", "making"}
            (take,) = made.takes
            samples, rate = soundfile.read(BytesIO(await jobs.store.get(made.key(take))))
            assert (rate, len(samples), take.seconds, take.seed) == (8000, 16_000, 2.0, 3)

            refused = await ended(jobs, (await jobs.submit(asked(prompt="a; " * 350))).id)
            assert refused.error is not None
            assert (refused.status, refused.error.code) == ("failed", "invalid")
            assert "701 tokens: give 1 to 512" in refused.error.message

            again = await ended(jobs, (await jobs.submit(asked(seed=3))).id)
            assert again.takes[0].sha256 == take.sha256

            last = await jobs.submit(asked(seconds=20.0))
            await asyncio.to_thread(worker.until_busy)
            return last.id

    last = asyncio.run(use())
    counted = {o: worker.metric(f'reprompt_worker_generations_total{{outcome="{o}"}}') for o in ("made", "failed")}
    assert counted == {"made": 2, "failed": 1}
    probe = [sys.executable, "-m", "reprompt_worker", "healthcheck", "--metrics-port", str(worker.port)]
    assert subprocess.run(probe, check=True, capture_output=True, text=True).stdout == "ready\n"
    assert worker.end(signal.SIGTERM) == 0  # in the middle of it

    async def look() -> None:
        async with opened(settings) as jobs:
            drained = await jobs.get(last)
            assert drained.attempts == 1
            await check_one_result(jobs, drained)
            (musicgen,) = [place for place in await jobs.places() if place.place == "musicgen"]
            assert not musicgen.available

    asyncio.run(look())
    assert f"The licence of the weights of {hub.model} is not known here" in worker.log
    assert "Traceback" not in worker.log


def test_workers_share_a_queue_and_one_takes_over_what_the_other_leaves(settings: Settings, start: Start) -> None:
    workers = [start(REPROMPT_DRAIN_S="0", REPROMPT_WORKER_JOBS="1"), start(REPROMPT_WORKER_JOBS="1")]
    for worker in workers:
        worker.until_ready()

    async def use() -> None:
        async with opened(settings) as jobs:
            submitted = [await jobs.submit(asked(seed=seed)) for seed in range(12)]
            for each in submitted:
                await check_one_result(jobs, await ended(jobs, each.id))
            shares = [worker.metric('reprompt_worker_generations_total{outcome="made"}') for worker in workers]
            assert sum(shares) == 12
            assert min(shares) > 0

            both = [await jobs.submit(asked(seconds=60.0)) for _ in workers]
            for worker in workers:
                await asyncio.to_thread(worker.until_busy)
            assert await asyncio.to_thread(workers[0].end, signal.SIGTERM) == 0
            finished = [await ended(jobs, each.id) for each in both]
            for generation in finished:
                await check_one_result(jobs, generation)
            taken_over = [[status for status, _ in await told(jobs, each.id)] for each in finished]
            assert sorted(taken_over, key=len) == [
                ["queued", "running", "succeeded"],
                ["queued", "running", "queued", "running", "succeeded"],
            ]

    asyncio.run(use())


def test_what_a_killed_worker_had_is_made_by_another(settings: Settings, start: Start) -> None:
    """Fault 1: kill -9 of a worker in the middle of a generation, every round; its replacement starts at once."""
    workers = [start(), start()]

    async def use() -> None:
        picked_up_s: list[float] = []
        async with opened(settings) as jobs:
            for round in range(ROUNDS):
                for worker in workers:
                    await asyncio.to_thread(worker.until_ready)
                generation = await jobs.submit(asked(seconds=30.0, takes=2, seed=round))
                busy = await asyncio.to_thread(first_busy, workers)
                killed_at = datetime.now(UTC)
                await asyncio.to_thread(busy.end, signal.SIGKILL)
                workers.remove(busy)
                if round + 1 < ROUNDS:
                    workers.append(start())
                made = await ended(jobs, generation.id)
                await check_one_result(jobs, made)
                statuses = await told(jobs, generation.id)
                assert [s for s, _ in statuses] == ["queued", "running", "queued", "running", "succeeded"]
                picked_up_s.append((statuses[3][1] - killed_at).total_seconds())
        print(f"{ROUNDS} rounds, picked up after {min(picked_up_s):.1f} to {max(picked_up_s):.1f} s")
        assert max(picked_up_s) < PICKED_UP_S
        assert len(picked_up_s) == ROUNDS

    asyncio.run(use())


# -- what cannot start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "no/such/folder/here"], 1, "There is no folder no/such/folder/here"),
        ([], 2, "No model is named: give --model, or set REPROMPT_WORKER_MODEL"),
        (["--model", "x", "--slots", "0"], 2, "The number of slots is 0"),
        (["--model", "x", "--dtype", "int3"], 2, "The dtype is 'int3'"),
    ],
)
def test_what_cannot_start_is_told_in_a_line(settings: Settings, arguments: list[str], code: int, said: str) -> None:
    environment = {**os.environ, "REPROMPT_DATABASE_URL": str(settings.database_url), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reprompt_worker", "run", "--metrics-port", "0", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away_is_told_before_a_model_is_loaded() -> None:
    environment = {
        **os.environ,
        "REPROMPT_DATABASE_URL": "postgresql://someone:secret@127.0.0.1:1/none",
        "REPROMPT_DATABASE_TIMEOUT_S": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "reprompt_worker", "run", "--model", "no/such/folder/here", "--metrics-port", "0"],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "The database (127.0.0.1:1/none) cannot be used" in done.stderr
    assert "secret" not in done.stderr
