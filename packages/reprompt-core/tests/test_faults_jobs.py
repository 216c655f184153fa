"""What workers survive, each with real processes: killed, stopped, stalled, without a database, a full disk, poison.

`make faults` runs the long rounds, with the settings that people have, and prints what was measured.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from reprompt_core import embedded
from reprompt_core.generation import Generation, Jobs
from working import DEADLINE_S, Process, Rig, new_rig, patiently, processes, request, spread, status_of, until

ROUNDS = int(os.environ.get("REPROMPT_FAULT_ROUNDS", "2"))  # read before the tests' own environment is made
PREVIEWS = int(os.environ.get("REPROMPT_FAULT_PREVIEWS", "300"))
LONG = ROUNDS > 2
STALLED_S = 20.0 if LONG else 3.0  # 20 s is what people have
PICKED_UP_S, BACK_S = 45, 15  # the bars
SLOW: dict[str, Any] = {"seconds": 30.0, "takes": 5}  # some seconds of work


@pytest.fixture(scope="module")
def shared(environment: None, scratch: Path) -> Iterator[Rig]:
    with new_rig(scratch / "faults") as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig, tmp_path: Path) -> Rig:
    shared.empty()
    shared.audio = tmp_path / "audio"
    return shared


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    with processes(tmp_path) as starting:
        yield starting


def told(rig: Rig, **more: object) -> dict[str, object]:
    """What a worker process is told by its environment."""
    return {"database_url": rig.url, "audio_url": rig.audio, "stalled_s": STALLED_S, "threads": 1, **more}


async def first_take(jobs: Jobs, id: str) -> None:
    async for event in jobs.events(id):
        if event.kind == "take":
            return


async def attempt(jobs: Jobs, id: str, number: int) -> None:
    async for event in jobs.events(id):
        if event.data.get("attempt") == number:
            return


async def check_whole(rig: Rig, g: Generation, *, attempts: int | None = None) -> None:
    """One result: its takes are all there and soon nothing beside them, and its end was told once."""
    assert g.status == "succeeded", g.error
    assert [t.number for t in g.takes] == list(range(g.request.takes))
    assert attempts is None or g.attempts == attempts
    await until(lambda: [f for f in rig.files() if f.startswith(g.id)] == [f"{g.id}/{g.attempts}"] * g.request.takes)
    ends = "SELECT 1 FROM reprompt.generation_events WHERE generation = %s AND data ->> 'status' = 'succeeded'"
    assert len(rig.sql(ends, g.id)) == 1


# -- 1, 2: killed and stopped -----------------------------------------------------------------------------------


def test_kill_9_in_the_middle_of_a_generation_costs_time_only(rig: Rig, start: Callable[..., Process]) -> None:
    async def work() -> list[float]:
        worker, waited = start("--preview", "1", **told(rig)), list[float]()
        async with rig.jobs() as jobs:
            for _ in range(ROUNDS):
                g = await jobs.submit(request(**SLOW))
                await first_take(jobs, g.id)
                worker.end(signal.SIGKILL)
                killed = time.monotonic()
                worker = start("--preview", "1", **told(rig))
                await attempt(jobs, g.id, 2)
                waited.append(time.monotonic() - killed)
                done = await jobs.wait(g.id, timeout_s=DEADLINE_S)
                await check_whole(rig, done, attempts=2)
        return waited

    waited = rig.run(work(), within_s=ROUNDS * 2 * DEADLINE_S)
    print(f"\n1: {ROUNDS} of {ROUNDS} made after kill -9, picked up again after {spread(waited)}")
    assert max(waited) < PICKED_UP_S


def test_sigterm_lets_what_runs_end_or_gives_it_back(rig: Rig, start: Callable[..., Process]) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            # there is time: it ends
            patient = start("--preview", "1", **told(rig, drain_s=60)).ready()
            g, waiting = await jobs.submit(request(**SLOW)), await jobs.submit(request(**SLOW))
            await first_take(jobs, g.id)
            assert patient.end(signal.SIGTERM) == 0
            await check_whole(rig, await jobs.get(g.id), attempts=1)
            assert (await jobs.get(waiting.id)).status == "queued"
            # there is none: it is given back at once, and is no try
            hasty = start("--preview", "1", **told(rig, drain_s=0.1, attempts=1)).ready()
            await first_take(jobs, waiting.id)
            assert hasty.end(signal.SIGINT) == 0
            assert (await jobs.get(waiting.id)).status == "queued"
            assert not [f for f in rig.files() if f.startswith(waiting.id)]
            last = start("--preview", "2", **told(rig, attempts=1))
            await check_whole(rig, await jobs.wait(waiting.id, timeout_s=DEADLINE_S), attempts=2)
            assert last.ready().end(signal.SIGTERM) == 0
            assert rig.sql("SELECT 1 FROM reprompt.workers") == []
            for process in (patient, hasty, last):
                assert len(process.said.strip().splitlines()) == 1, process.said  # that it is ready

    rig.run(work(), within_s=3 * DEADLINE_S)


def test_a_worker_that_stood_still_and_goes_on_changes_nothing(rig: Rig, start: Callable[..., Process]) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            stalled = start("--preview", "1", **told(rig)).ready()
            g = await jobs.submit(request(**SLOW))
            await first_take(jobs, g.id)
            stalled.signal(signal.SIGSTOP)
            start("--preview", "1", **told(rig))
            await attempt(jobs, g.id, 2)
            done = await jobs.wait(g.id, timeout_s=DEADLINE_S)
            stalled.signal(signal.SIGCONT)
            following = [await jobs.submit(request()) for _ in range(4)]
            for other in following:
                await check_whole(rig, await jobs.wait(other.id, timeout_s=DEADLINE_S), attempts=1)
            await until(lambda: f"{g.id}/1" not in rig.files())
            assert await jobs.get(g.id) == done
            await check_whole(rig, done, attempts=2)
            assert stalled.end(signal.SIGTERM) == 0

    rig.run(work(), within_s=3 * DEADLINE_S)


# -- 3: the database goes and comes -----------------------------------------------------------------------------


@pytest.fixture
def own_server(environment: None, scratch: Path, tmp_path: Path) -> Iterator[tuple[Path, Rig]]:
    """A server of the test's own, which may be killed, and a rig on it."""
    data = scratch / f"faults-{uuid.uuid4().hex[:8]}"
    try:
        with Rig(embedded.start(data), tmp_path) as rig:
            yield data, rig
    finally:
        embedded.stop(data)
        shutil.rmtree(data, ignore_errors=True)


def stop_server(data: Path) -> None:
    """As a crash: SIGQUIT is what `pg_ctl stop -m immediate` sends."""
    postmaster = psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))
    everything = [postmaster, *postmaster.children(recursive=True)]
    postmaster.send_signal(signal.SIGQUIT)
    _, alive = psutil.wait_procs(everything, timeout=DEADLINE_S)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_restart_of_postgresql_loses_no_generation(
    own_server: tuple[Path, Rig], start: Callable[..., Process]
) -> None:
    """Workers and server are as on a laptop: the first of the processes started it, all of them share it."""
    data, rig = own_server

    def counts() -> dict[str, int]:
        rows = rig.sql("SELECT status, count(*) AS n FROM reprompt.generations GROUP BY status")
        return {row["status"]: row["n"] for row in rows}

    async def work() -> float:
        environment = {name: value for name, value in told(rig).items() if name != "database_url"}
        workers = [start("--preview", "2", **environment, data_dir=data) for _ in range(2)]
        async with rig.jobs() as jobs:
            ids = [(await jobs.submit(request(seconds=10.0))).id for _ in range(50)]
            await until(lambda: counts().get("succeeded", 0) >= 3)
            stop_server(data)
            await asyncio.sleep(STALLED_S + 1)  # long enough that a worker might be taken for dead
            await asyncio.to_thread(embedded.start, data)
            up = time.monotonic()
            began = "SELECT 1 FROM reprompt.generations WHERE started_at > pg_postmaster_start_time()"
            await until(lambda: rig.sql(began))
            back = time.monotonic() - up
            for id in ids:
                await check_whole(rig, await patiently(lambda id=id: jobs.wait(id, timeout_s=DEADLINE_S)))
            assert counts() == {"succeeded": 50}
            assert all(worker.alive for worker in workers)
            # one that goes does not take the server with it
            assert workers[0].end(signal.SIGTERM) == 0
            g = await patiently(lambda: jobs.submit(request()))
            await check_whole(rig, await jobs.wait(g.id, timeout_s=DEADLINE_S), attempts=1)
            assert workers[1].end(signal.SIGTERM) == 0
            return back

    back = rig.run(work(), within_s=4 * DEADLINE_S)
    print(f"\n3: 0 of 50 lost in a restart of PostgreSQL, workers back {back:.2f} s after it")
    assert back < BACK_S


# -- 6: poison --------------------------------------------------------------------------------------------------

POISONED = """
import asyncio, os, signal
from reprompt_core import Pipeline, Settings
from reprompt_core.generation import Jobs, PreviewMaker
from reprompt_core.generation.process import run_worker

class Poisoned(PreviewMaker):
    async def make(self, work):
        if "poison" in work.generation.request.words:
            await asyncio.sleep(0.3)  # others are under way
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().make(work)

async def main():
    async with Pipeline(Settings()) as p, Jobs(pipeline=p) as jobs:
        await run_worker(jobs, [Poisoned(p.knowledge, slots=4)], ready=lambda _: print("Ready:", flush=True))

asyncio.run(main())
"""


@asynccontextmanager
async def supervised(begin: Callable[[], Process]) -> AsyncIterator[list[Process]]:
    """A process that is started again whenever it dies, as a supervisor does."""
    started = [begin()]

    async def look() -> None:
        while True:
            if not started[-1].alive:
                started.append(begin())
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield started
    finally:
        looking.cancel()


def test_what_always_kills_its_worker_fails_and_the_others_go_on(rig: Rig, start: Callable[..., Process]) -> None:
    attempts = 3 if LONG else 2

    async def work() -> None:
        async with rig.jobs() as jobs:
            poison = await jobs.submit(request(words="a cup of poison in the rain"))
            others = [await jobs.submit(request(**SLOW)), *[await jobs.submit(request()) for _ in range(10)]]
            async with supervised(lambda: start(code=POISONED, **told(rig, attempts=attempts))) as started:
                done = await jobs.wait(poison.id, timeout_s=2 * DEADLINE_S)
                assert done.error is not None
                assert (done.status, done.attempts, done.error.code) == ("failed", attempts, "crashed")
                for other in others:
                    await check_whole(rig, await jobs.wait(other.id, timeout_s=DEADLINE_S))
                assert [p.end() for p in started[:attempts]] == [-signal.SIGKILL] * attempts
                assert len(started) == attempts + 1
                assert started[-1].ready().end(signal.SIGTERM) == 0

    rig.run(work(), within_s=4 * DEADLINE_S)
    print(f"\n6: failed after {attempts} attempts, 11 of 11 others made")


# -- 9: the disk is full ----------------------------------------------------------------------------------------


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = scratch / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here; a file in the way is tried elsewhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_a_generation_waits_until_there_is_room(
    rig: Rig, small: Path, start: Callable[..., Process]
) -> None:
    async def work() -> None:
        rig.audio = small
        (small / "something else").write_bytes(b"x" * 1_500_000)
        start("--preview", "1", **told(rig, attempts=2)).ready()
        async with rig.jobs() as jobs:
            g = await jobs.submit(request(seconds=10.0))  # 1.3 MB
            await status_of(jobs, g.id, "running")
            await status_of(jobs, g.id, "queued")
            assert rig.files() == ["."]
            (small / "something else").unlink()
            await check_whole(rig, await jobs.wait(g.id, timeout_s=DEADLINE_S), attempts=2)
            big = await jobs.submit(request(seconds=30.0))  # 3.8 MB: there is never room
            failed = await jobs.wait(big.id, timeout_s=DEADLINE_S)
            assert failed.error is not None
            assert (failed.status, failed.attempts, failed.error.code) == ("failed", 2, "storage")
            assert rig.files() == [f"{g.id}/2"]

    rig.run(work(), within_s=3 * DEADLINE_S)


# -- 10: very many ----------------------------------------------------------------------------------------------


def test_very_many_queued_previews_are_all_made_and_memory_stays(rig: Rig, start: Callable[..., Process]) -> None:
    async def work() -> tuple[float, list[float], list[float]]:
        async with rig.jobs() as jobs:
            limit = asyncio.Semaphore(8)

            async def one(number: int) -> None:
                async with limit:
                    await jobs.submit(request(seed=number))

            await asyncio.gather(*(one(i) for i in range(PREVIEWS)))
            worker = start("--preview", "2", **told(rig)).ready()
            began, memory = time.monotonic(), list[float]()
            process = psutil.Process(worker.pid)
            while (done := _done(rig)) < PREVIEWS:
                if done > PREVIEWS / 4:
                    memory.append(process.memory_info().rss / 1e6)
                assert worker.alive
                assert time.monotonic() - began < PREVIEWS, "it does not go on"
                await asyncio.sleep(0.2)
            took = time.monotonic() - began
        rows = rig.sql("SELECT status, attempts, (timings_ms ->> 'queued')::float8 AS ms FROM reprompt.generations")
        assert {(r["status"], r["attempts"]) for r in rows} == {("succeeded", 1)}
        assert len(rig.files()) == PREVIEWS
        assert rig.sql("SELECT 1 FROM procrastinate_jobs") == []
        return took, [r["ms"] / 1000 for r in rows], memory

    took, queued, memory = rig.run(work(), within_s=3 * PREVIEWS)
    print(
        f"\n10: {PREVIEWS} previews of 1 s in {took:.0f} s, {PREVIEWS / took:.1f} a second; queued for "
        f"{spread(queued)}; memory of the worker {memory[0]:.0f} MB after a quarter, {memory[-1]:.0f} MB at the end"
    )
    assert memory[-1] - memory[0] < 40


def _done(rig: Rig) -> int:
    return rig.sql("SELECT count(*) AS n FROM reprompt.generations WHERE finished_at IS NOT NULL")[0]["n"]


# -- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preview", "0"], "nothing to do"),
        (["--runpod", "3"], "REPROMPT_RUNPOD_ENDPOINT"),
        (["--preview", "-1"], "--preview"),
        (["--preview", "many"], "--preview"),
    ],
)
def test_a_worker_that_cannot_work_says_why(start: Callable[..., Process], arguments: list[str], says: str) -> None:
    worker = start(*arguments)
    assert worker.end() == 2
    assert says in worker.said
    assert "Traceback" not in worker.said


def test_a_worker_without_a_database_or_a_store_says_which_setting(
    rig: Rig, start: Callable[..., Process], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"database_url": "postgresql://localhost:9/x"}, "REPROMPT_DATABASE_URL"),
        ({"audio_url": tmp_path / "file" / "audio"}, "REPROMPT_AUDIO_URL"),
    ]
    for worker, says in [(start("--preview", "1", **told(rig, **settings)), says) for settings, says in wrong]:
        assert worker.end() == 1
        assert says in worker.said
        assert "Traceback" not in worker.said
