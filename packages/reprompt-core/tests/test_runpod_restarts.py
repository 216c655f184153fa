"""Generations at RunPod when it is we who stop: cancelled, drained, killed, without a store or a database."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reprompt_core.errors import AudioStoreError, DatabaseError
from reprompt_core.generation import AudioStore
from runpod_play import ENDS_S, FINE, check_audio, impatient_server, jobs_of, put, request, rows, until, worker_of
from runpod_server import HANG, KEY, Job, Reply, RunPodServer, completed, good_result


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunPodServer]:
    with impatient_server(monkeypatch) as server:
        yield server


_LONG_AGO = "UPDATE reprompt.generations SET remote = jsonb_set(remote, '{at}', '1000000000')"


def test_a_person_cancels_and_runpod_is_told(url: str, server: RunPodServer, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        server.plays(0, status=["IN_PROGRESS"])
        server.plays(1, status=["IN_PROGRESS"], cancel=HANG)
        server.plays(2, run=[Reply(delay_s=1.0)], status=["IN_PROGRESS"])  # taken, but told late
        async with jobs_of(url, server, tmp_path) as jobs, worker_of(jobs):
            waiting = [await jobs.submit(request(seed)) for seed in range(3)]
            await until(lambda: len(server.jobs) == 3 and all(j.asked for j in server.jobs.values() if j.seed != 2))
            for waits in waiting:
                await jobs.cancel(waits.id)
            ended = [await jobs.wait(waits.id, timeout_s=ENDS_S) for waits in waiting]
        assert [e.status for e in ended] == ["cancelled"] * 3
        assert [(server.posts(seed), server.cancels(seed)) for seed in range(3)] == [(1, 1)] * 3

    asyncio.run(all_of_it())


def test_a_worker_that_stops_leaves_the_job_to_the_next(url: str, server: RunPodServer, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        server.plays(0, status=["IN_PROGRESS"])
        server.plays(1, run=[Reply(delay_s=1.0)], status=["IN_PROGRESS"])  # stopped before its id is told
        server.plays(2, run=[Reply(429, headers={"Retry-After": "4"})], status=FINE)  # stopped before it is sent again
        server.plays(3, status=["IN_PROGRESS"])  # its audio is uploaded while nobody looks
        async with jobs_of(url, server, tmp_path, drain_s=0.0) as jobs:
            async with worker_of(jobs):
                waiting = [await jobs.submit(request(seed)) for seed in range(4)]
                await until(lambda: len(server.posted) == 4 and all(server.jobs_of(s)[0].asked for s in (0, 3)))
                await asyncio.sleep(0.2)
            assert [(await jobs.get(waits.id)).status for waits in waiting] == ["queued"] * 4
            # one comes back when its time is long over: what is there by then is still taken
            await rows(jobs, f"{_LONG_AGO} WHERE request ->> 'seed' = '0' RETURNING id")
            for seed in (0, 1):
                server.plays(seed, status=FINE)
            server.plays(3, status=[completed(lambda result, job: put(tmp_path, result, job))])
            async with worker_of(jobs):
                ended = [await jobs.wait(waits.id, timeout_s=ENDS_S) for waits in waiting]
            for e in ended:
                check_audio(e, await jobs.store.keys(e.id), tmp_path, str(e.request.seed))
        assert [(e.status, e.attempts) for e in ended] == [("succeeded", 2)] * 4
        assert [server.posts(seed) for seed in range(4)] == [1, 1, 2, 1]
        assert server.cancelled == []

    asyncio.run(all_of_it())


def test_audio_that_was_uploaded_before_the_worker_stopped_is_found(
    url: str, server: RunPodServer, tmp_path: Path
) -> None:
    later: list[dict[str, Any]] = []

    def uploading(job: Job) -> dict[str, Any]:
        """The endpoint is done, and tells the next one who asks."""
        if not later:
            result = good_result(job.input)
            put(tmp_path, result, job)
            later.append({"status": "COMPLETED", "output": result})
        return {"status": "IN_PROGRESS"}

    async def all_of_it() -> None:
        server.plays(0, status=[uploading])
        async with jobs_of(url, server, tmp_path, drain_s=0.0) as jobs:
            async with worker_of(jobs):
                waits = await jobs.submit(request(0))
                await until(lambda: later)
            assert (await jobs.get(waits.id)).status == "queued"
            server.plays(0, status=[later[0]])
            async with worker_of(jobs):
                ended = await jobs.wait(waits.id, timeout_s=ENDS_S)
            assert (ended.status, ended.attempts, server.posts(0)) == ("succeeded", 2, 1)
            check_audio(ended, await jobs.store.keys(ended.id), tmp_path, "uploaded before")

    asyncio.run(all_of_it())


class _Refusing(AudioStore):
    """A store that is away once for each generation."""

    seen: set[str]

    async def put(self, key: str, content: bytes) -> None:
        seen = self.__dict__.setdefault("seen", set())
        if key.split("/")[0] not in seen:
            seen.add(key.split("/")[0])
            raise AudioStoreError("The store is away.")
        await super().put(key, content)


def test_a_result_that_could_not_be_stored_is_fetched_again(url: str, server: RunPodServer, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        server.plays(0, status=FINE)
        async with jobs_of(url, server, tmp_path, store=_Refusing) as jobs, worker_of(jobs):
            ended = await jobs.wait((await jobs.submit(request(0))).id, timeout_s=ENDS_S)
            check_audio(ended, await jobs.store.keys(ended.id), tmp_path, "fetched again")
        assert (ended.status, ended.attempts, server.posts(0), server.cancels(0)) == ("succeeded", 2, 1, 0)

    asyncio.run(all_of_it())


def test_an_id_that_cannot_be_written_down_is_kept_in_mind(
    url: str, server: RunPodServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_it() -> None:
        server.plays(0, status=["IN_PROGRESS", "IN_PROGRESS", *FINE])
        async with jobs_of(url, server, tmp_path) as jobs:
            fetch, failed = jobs.database.fetch, []

            async def away(name: str, /, **parameters: Any) -> list[Any]:
                if name == "set_remote" and server.posted and len(failed) < 2:
                    failed.append(name)
                    raise DatabaseError("The database went away.")
                return await fetch(name, **parameters)

            monkeypatch.setattr(jobs.database, "fetch", away)
            async with worker_of(jobs):
                ended = await jobs.wait((await jobs.submit(request(0))).id, timeout_s=ENDS_S)
            ((remote,),) = await rows(jobs, "SELECT remote FROM reprompt.generations")
        assert (ended.status, server.posts(0), len(failed)) == ("succeeded", 1, 2)
        assert (remote["state"], remote["id"]) == ("submitted", server.jobs_of(0)[0].id)

    asyncio.run(all_of_it())


def test_a_worker_killed_before_it_knew_or_before_it_stored(url: str, server: RunPodServer, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        server.plays(0, run=[HANG], status=FINE)  # killed between submitting and storing the id
        server.plays(1, status=FINE)  # killed between the result and storing it
        server.plays(2, status=["IN_PROGRESS"])  # killed while it waits
        server.plays(3, status=["IN_PROGRESS"])  # so is this, and then its person cancels it
        async with jobs_of(url, server, tmp_path) as jobs:
            waiting = [await jobs.submit(request(seed)) for seed in range(4)]
            await killed(url, server, tmp_path)
            assert {(await jobs.get(waits.id)).status for waits in waiting} == {"running"}
            server.plays(2, status=FINE)
            await jobs.cancel(waiting[3].id)
            async with worker_of(jobs):
                ended = [await jobs.wait(waits.id, timeout_s=ENDS_S) for waits in waiting]
            for e in ended:
                check_audio(e, await jobs.store.keys(e.id), tmp_path, str(e.request.seed))
        outcomes = [(e.status, e.error and e.error.code, e.attempts) for e in ended]
        assert outcomes == [
            ("failed", "unknown", 2),
            ("succeeded", None, 2),
            ("succeeded", None, 2),
            ("cancelled", None, 2),
        ]
        assert [(server.posts(seed), server.cancels(seed)) for seed in range(4)] == [(1, 0)] * 3 + [(1, 1)]

    asyncio.run(all_of_it())


async def killed(url: str, server: RunPodServer, folder: Path) -> None:
    """A worker of its own process, killed when it has submitted everything and is about to store something."""
    own = {
        "REPROMPT_DATABASE_URL": url,
        "REPROMPT_AUDIO_URL": str(folder / "audio"),
        "REPROMPT_RUNPOD_URL": server.url,
        "REPROMPT_RUNPOD_ENDPOINT": "tiny",
        "REPROMPT_RUNPOD_API_KEY": KEY,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, str(folder / "storing"), env=os.environ | own
    )
    try:
        await until(
            lambda: (
                len(server.posted) == 4
                and (folder / "storing").exists()
                and all(server.jobs_of(seed)[0].asked for seed in (2, 3))
            )
        )
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


# a worker that never gets an audio file stored
_WORKER = """
import asyncio, sys
from pathlib import Path
from reprompt_core import Settings
from reprompt_core.generation import AudioStore, Jobs, RunPodMaker
from reprompt_core.generation.process import run_worker

class Stuck(AudioStore):
    async def put(self, key, content):
        Path(sys.argv[1]).touch()
        await asyncio.sleep(600)

async def main():
    settings = Settings(stalled_s=2.0)
    async with Jobs(settings, store=Stuck.open(settings)) as jobs:
        await run_worker(jobs, [RunPodMaker(jobs)])

asyncio.run(main())
"""
