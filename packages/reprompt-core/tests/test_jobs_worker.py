"""Workers: fetch while they have room, drain, come back after a cut connection; sweeps; what is old is deleted."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from reprompt_core import AudioStoreError, JobNotFoundError
from reprompt_core.generation import Jobs, PreviewMaker, Work
from reprompt_core.generation.sweep import forget_old, sweep
from reprompt_core.generation.work import perform
from working import Rig, TestMaker, forever, new_rig, patiently, quickly, request, sound, status_of, until, working

STALLED_S = 1.5


@pytest.fixture(scope="module")
def shared(environment: None, scratch: Path) -> Iterator[Rig]:
    with new_rig(scratch / "jobs-worker") as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig, tmp_path: Path) -> Rig:
    shared.empty()
    shared.audio = tmp_path / "audio"
    return shared


def row(rig: Rig, id: str) -> dict[str, Any]:
    return rig.sql("SELECT * FROM reprompt.generations WHERE id = %s", id)[0]


def tasks(rig: Rig) -> list[dict[str, Any]]:
    return rig.sql("SELECT id, status::text, lock, args ->> 'generation' AS id_of FROM procrastinate_jobs ORDER BY id")


async def long_ago() -> None:
    """Until what was seen before counts as lost."""
    await asyncio.sleep(STALLED_S + 0.1)


# -- fetching and draining --------------------------------------------------------------------------------------


def test_as_many_at_once_as_there_are_slots_and_each_once(rig: Rig) -> None:
    async def work() -> None:
        maker, other = TestMaker(quickly, slots=3), TestMaker(quickly, slots=2, place="musicgen")
        async with rig.jobs() as jobs, Jobs(rig.settings()) as elsewhere:
            ids = [(await jobs.submit(request(generator=g))).id for g in ("preview", "musicgen") * 20]
            async with working(jobs, maker, other), working(elsewhere, TestMaker(quickly, slots=3)) as second:
                for id in ids:
                    assert (await jobs.wait(id, timeout_s=30)).attempts == 1
                (third,) = second.makers
            assert maker.most <= 3
            assert other.most <= 2
            assert sorted(maker.made + other.made + third.made) == sorted(ids)  # pyright: ignore[reportAttributeAccessIssue]
            assert sorted(other.made) == sorted(ids[1::2])
        assert tasks(rig) == []

    rig.run(work())


def test_a_generation_that_is_fetched_many_times_at_once_is_made_once(rig: Rig) -> None:
    async def slowly(work: Work) -> None:
        await asyncio.sleep(0.2)
        await quickly(work)

    async def work() -> None:
        maker = TestMaker(slowly)
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            await asyncio.gather(*(perform(jobs, maker, g.id) for _ in range(10)))
            assert maker.made == [g.id]
            done = await jobs.get(g.id)
            assert (done.status, done.attempts) == ("succeeded", 1)

    rig.run(work())


def test_a_stopping_worker_lets_what_runs_end_and_takes_nothing_more(rig: Rig) -> None:
    async def work() -> None:
        going = asyncio.Event()

        async def wait(work: Work) -> None:
            await going.wait()
            await quickly(work)

        async with rig.jobs() as jobs:
            running, waiting = await jobs.submit(request()), await jobs.submit(request())
            async with working(jobs, TestMaker(wait, slots=1)):
                await status_of(jobs, running.id, "running")
                asyncio.get_running_loop().call_later(0.5, going.set)
            assert (await jobs.get(running.id)).status == "succeeded"
            assert (await jobs.get(waiting.id)).status == "queued"
            async with working(jobs, TestMaker(quickly)):
                assert (await jobs.wait(waiting.id, timeout_s=30)).attempts == 1

    rig.run(work())


def test_what_a_stopping_worker_cannot_end_is_given_back_and_is_no_try(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(drain_s=0.1, attempts=1) as jobs:
            g = await jobs.submit(request())
            for attempt in (1, 2, 3):
                async with working(jobs, TestMaker(forever)):
                    await until(lambda: rig.files())
                assert (await jobs.get(g.id)).status == "queued"
                assert (row(rig, g.id)["attempts"], row(rig, g.id)["tries"]) == (attempt, 0)
                assert [(t["status"], t["id_of"]) for t in tasks(rig)] == [("todo", g.id)]
                assert rig.files() == []
            async with working(jobs, TestMaker(quickly)):
                assert (await jobs.wait(g.id, timeout_s=30)).status == "succeeded"

    rig.run(work())


def test_a_worker_stopped_while_it_starts_stops(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            for pause in (0, 0.005, 0.02, 0.05):
                from reprompt_core.generation import Worker

                stop, worker = asyncio.Event(), Worker(jobs, [TestMaker(quickly)])
                running = asyncio.create_task(worker.run(stop))
                await asyncio.sleep(pause)
                stop.set()
                await running
                assert (worker.connected, worker.running) == (False, 0)
            assert rig.sql("SELECT 1 FROM reprompt.workers") == []

    rig.run(work())


@pytest.mark.parametrize("whose", ["query ~ '^LISTEN.*procrastinate'", "pid <> pg_backend_pid()"])
def test_a_worker_whose_connections_are_cut_goes_on_with_what_it_makes_and_fetches_again(rig: Rig, whose: str) -> None:
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {whose} AND datname = current_database()"

    async def work() -> None:
        going = asyncio.Event()

        async def wait(work: Work) -> None:
            await going.wait()
            await quickly(work)

        maker = TestMaker(wait, slots=1)
        async with rig.jobs() as jobs, working(jobs, maker):
            running = await jobs.submit(request())
            await status_of(jobs, running.id, "running")
            await until(lambda: rig.sql(cut))
            following = await patiently(lambda: jobs.submit(request()))
            going.set()
            for g in (running, following):
                done = await patiently(lambda g=g: jobs.wait(g.id, timeout_s=30))
                assert (done.status, done.attempts) == ("succeeded", 1)
            assert maker.most == 1  # no more at once than there are slots
            assert maker.made == [running.id, following.id]

    rig.run(work())


def let_in(rig: Rig, yes: bool) -> None:
    """Whether anybody may be connected to the database."""
    with psycopg.connect(rig.url, dbname="postgres", autocommit=True) as connection:
        name = psycopg.conninfo.conninfo_to_dict(rig.url)["dbname"]
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}")  # pyright: ignore[reportArgumentType]
        if not yes:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_while_the_database_is_away_what_runs_goes_on_and_the_fetcher_comes_back(rig: Rig) -> None:
    async def work() -> None:
        going = asyncio.Event()

        async def wait(work: Work) -> None:
            await going.wait()
            await quickly(work)

        maker = TestMaker(wait, slots=2)
        async with rig.jobs(database_timeout_s=2) as jobs, working(jobs, maker) as worker:
            running = await jobs.submit(request())
            await status_of(jobs, running.id, "running")
            try:
                let_in(rig, False)
                await until(lambda: not worker.connected)
            finally:
                let_in(rig, True)
            await until(lambda: worker.connected)
            following = [await patiently(lambda: jobs.submit(request())) for _ in range(2)]
            fetched = [{"status": "doing", "id_of": g.id} for g in following]
            await until(lambda: all(f.items() <= t.items() for f, t in zip(fetched, tasks(rig)[-2:], strict=True)))
            # the new fetcher does not know of the one that runs: the second one waits for room
            await until(lambda: maker.now == 2)
            assert worker.running == 2
            going.set()
            for g in (running, *following):
                done = await patiently(lambda g=g: jobs.wait(g.id, timeout_s=30))
                assert (done.status, done.attempts) == ("succeeded", 1)
            assert maker.most == 2
            assert maker.made == [g.id for g in (running, *following)]

    rig.run(work())


def test_an_error_of_ours_in_a_maker_or_a_sweep_does_not_end_the_worker(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(jobs: Jobs) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("reprompt_core.generation.worker.sweep", broken)
    monkeypatch.setattr("reprompt_core.generation.work._RETRY_AFTER_S", 0)

    async def fail_once(work: Work) -> None:
        if work.attempt == 1:
            raise KeyError
        await quickly(work)

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(fail_once)):
            g = await jobs.submit(request())
            done = await jobs.wait(g.id, timeout_s=30)
            assert (done.status, done.attempts) == ("succeeded", 2)

    with caplog.at_level(logging.ERROR):
        rig.run(work())
    assert "ZeroDivisionError" in caplog.text
    assert "KeyError" in caplog.text


# -- sweeping ---------------------------------------------------------------------------------------------------


async def claim(jobs: Jobs, rig: Rig) -> str:
    """A generation whose worker is gone: claimed, its task fetched."""
    g = await jobs.submit(request())
    rig.sql("UPDATE procrastinate_jobs SET status = 'doing' WHERE (args ->> 'generation') = %s", g.id)
    await jobs.database.fetch("claim_generation", id=g.id)
    return g.id


def test_a_generation_without_a_sign_of_life_waits_again_and_fails_in_the_end(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(stalled_s=STALLED_S, attempts=3) as jobs:
            id = await claim(jobs, rig)
            await jobs.store.put(f"{id}/1/left.wav", b"x")
            await sweep(jobs)
            assert (await jobs.get(id)).status == "running"  # not yet
            for attempt in (1, 2):
                await long_ago()
                await asyncio.gather(*(sweep(jobs) for _ in range(5)))
                assert (await jobs.get(id)).status == "queued"
                (task,) = tasks(rig)
                # before its last try it is kept apart from what else may bring workers down
                assert (task["status"], task["id_of"], bool(task["lock"])) == ("todo", id, attempt == 2)
                assert row(rig, id)["task"] == task["id"]
                await jobs.database.fetch("claim_generation", id=id)
            await long_ago()
            await sweep(jobs)
            done = await jobs.get(id)
            assert done.error is not None
            assert (done.status, done.attempts, done.error.code) == ("failed", 3, "crashed")
            assert "each of the 3 times" in done.error.message
            assert (tasks(rig), rig.files()) == ([], [])

    rig.run(work())


def test_a_sign_of_life_keeps_a_generation_however_long_it_takes(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(stalled_s=STALLED_S) as jobs, working(jobs, TestMaker(forever)):
            g = await jobs.submit(request())
            await status_of(jobs, g.id, "running")
            await long_ago()
            await long_ago()
            found = await jobs.get(g.id)
            assert (found.status, found.attempts) == ("running", 1)
            await jobs.cancel(g.id)
            await jobs.wait(g.id, timeout_s=5)

    rig.run(work())


def test_the_time_in_which_the_server_was_down_counts_against_nobody(rig: Rig) -> None:
    """The server of the tests was started less than a day ago: until then nobody could give a sign."""

    async def work() -> None:
        async with rig.jobs(stalled_s=86_000.0) as jobs:
            id = await claim(jobs, rig)
            rig.sql("UPDATE reprompt.generations SET kept_at = now() - interval '2 days'")
            waiting = await jobs.submit(request())
            rig.sql("UPDATE procrastinate_jobs SET status = 'doing'")
            rig.sql("UPDATE procrastinate_events SET at = now() - interval '2 days'")
            await sweep(jobs)
            assert [(await jobs.get(i)).status for i in (id, waiting.id)] == ["running", "queued"]
            assert {t["status"] for t in tasks(rig)} == {"doing"}

    rig.run(work())


@pytest.mark.parametrize("lost", ["gone", "fetched long ago", "fetched", "failed"])
def test_a_generation_that_waits_without_a_task_gets_another(rig: Rig, lost: str) -> None:
    async def work() -> None:
        async with rig.jobs(stalled_s=STALLED_S) as jobs:
            g = await jobs.submit(request())
            if lost == "gone":
                rig.sql("DELETE FROM procrastinate_jobs")
            else:
                rig.sql("UPDATE procrastinate_jobs SET status = 'doing'")
            if lost == "failed":
                rig.sql("UPDATE procrastinate_jobs SET status = 'failed'")
            if lost == "fetched long ago":
                await long_ago()
            before = tasks(rig)
            await sweep(jobs)
            if lost == "fetched":  # its worker is about to claim it
                assert tasks(rig) == before
                return
            (task,) = tasks(rig)
            assert (task["status"], task["id_of"], row(rig, g.id)["tries"]) == ("todo", g.id, 0)
            assert task not in before
            await sweep(jobs)
            assert tasks(rig) == [task]  # once is enough
            async with working(jobs, TestMaker(quickly)):
                assert (await jobs.wait(g.id, timeout_s=30)).attempts == 1

    rig.run(work())


def test_a_lost_generation_that_was_cancelled_ends_and_tasks_that_lead_nowhere_go(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(stalled_s=STALLED_S) as jobs:
            id = await claim(jobs, rig)
            await jobs.store.put(f"{id}/1/left.wav", b"x")
            assert (await jobs.cancel(id)).status == "running"
            final = await jobs.submit(request())
            await jobs.cancel(final.id)
            for name in ("reprompt.generate", "another's"):
                rig.sql(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q', %s, 'doing')", name
                )
            await long_ago()
            await sweep(jobs)
            assert (await jobs.get(id)).status == "cancelled"
            assert rig.sql("SELECT task_name FROM procrastinate_jobs") == [{"task_name": "another's"}]
            assert rig.files() == []

    rig.run(work())


def test_a_worker_that_was_stalled_and_comes_back_changes_nothing(rig: Rig) -> None:
    """Its process stood still (the machine slept, the disk hung); another made the generation meanwhile."""

    async def work() -> None:
        going, standing = asyncio.Event(), asyncio.Event()

        async def stall(work: Work) -> None:
            await work.keep(sound(content=b"of the first attempt"))
            standing.set()
            await going.wait()

        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            stalled = asyncio.create_task(perform(jobs, TestMaker(stall), g.id))
            await standing.wait()
            rig.sql("UPDATE reprompt.generations SET status = 'queued'")  # as a sweep does
            await perform(jobs, TestMaker(quickly), g.id)
            done = await jobs.get(g.id)
            going.set()
            await stalled
            assert await jobs.get(g.id) == done
            assert (done.status, done.attempts) == ("succeeded", 2)
            assert rig.files() == [f"{g.id}/2"]

    rig.run(work())


def test_a_worker_that_lost_a_generation_stops_making_it(rig: Rig) -> None:
    async def work() -> None:
        maker = TestMaker(forever)
        async with rig.jobs() as jobs, working(jobs, maker):
            g = await jobs.submit(request())
            await until(lambda: rig.files())
            rig.sql("UPDATE reprompt.generations SET attempts = 2")
            await until(lambda: maker.now == 0)
            await until(lambda: not rig.files())
            assert (await jobs.get(g.id)).status == "running"  # the other's

    rig.run(work())


# -- the audio store is away (fault 9) --------------------------------------------------------------------------


def test_while_audio_cannot_be_kept_a_generation_waits_and_then_is_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprompt_core.generation.work._RETRY_AFTER_S", 0)

    async def work() -> None:
        async with rig.jobs() as jobs:
            in_the_way = rig.audio / "x"

            async def mended(work: Work) -> None:
                if work.attempt == 1:
                    in_the_way.rename(rig.audio / work.generation.id)
                else:
                    (rig.audio / work.generation.id).unlink(missing_ok=True)
                await quickly(work)

            in_the_way.write_text("")
            async with working(jobs, TestMaker(mended)):
                g = await jobs.submit(request(takes=2))
                done = await jobs.wait(g.id, timeout_s=30)
                assert (done.status, done.attempts) == ("succeeded", 2)
                assert rig.files() == [f"{g.id}/2"] * 2

    rig.run(work())


def test_audio_that_cannot_be_kept_fails_in_the_end_with_a_reason_that_hides_where_it_lies(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("reprompt_core.generation.work._RETRY_AFTER_S", 0)

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(quickly)):
            g = await jobs.submit(request(), priority=-1)
            (rig.audio / g.id).write_text("in the way")
            done = await jobs.wait(g.id, timeout_s=30)
            assert done.error is not None
            assert (done.status, done.attempts, done.error.code, done.takes) == ("failed", 3, "storage", ())
            assert str(rig.audio) not in done.error.message
            following = await jobs.submit(request())
            assert (await jobs.wait(following.id, timeout_s=30)).status == "succeeded"

    rig.run(work())
    assert str(rig.audio) in caplog.text


# -- forgetting -------------------------------------------------------------------------------------------------


def age(rig: Rig, id: str, days: int) -> None:
    """Makes a final generation older, which nobody else may."""
    rig.sql("ALTER TABLE reprompt.generations DISABLE TRIGGER keep_final")
    rig.sql("UPDATE reprompt.generations SET finished_at = now() - make_interval(days => %s) WHERE id = %s", days, id)
    rig.sql("ALTER TABLE reprompt.generations ENABLE TRIGGER keep_final")


def test_what_is_old_goes_with_its_events_and_audio_and_the_rest_stays(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(retention_days=30) as jobs:
            async with working(jobs, TestMaker(quickly)):
                old, new, gone = [(await jobs.submit(request())).id for _ in range(3)]
                for id in (old, new, gone):
                    await jobs.wait(id, timeout_s=30)
            waiting = (await jobs.submit(request())).id
            for id, days in ((old, 31), (gone, 31), (new, 29)):
                age(rig, id, days)
            rig.sql("UPDATE reprompt.generations SET created_at = now() - interval '99 days' WHERE id = %s", waiting)
            await jobs.store.remove(gone)  # its audio went another way
            assert await forget_old(jobs) == 2
            for id in (old, gone):
                with pytest.raises(JobNotFoundError):
                    await jobs.get(id)
            assert rig.files() == [f"{new}/1"]
            kept = {str(r["generation"]) for r in rig.sql("SELECT generation FROM reprompt.generation_events")}
            assert kept == {new, waiting}
            assert await forget_old(jobs) == 0

    rig.run(work())


def test_while_audio_cannot_be_deleted_its_generation_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with rig.jobs(retention_days=1) as jobs, working(jobs, TestMaker(quickly)):
            g = await jobs.submit(request())
            await jobs.wait(g.id, timeout_s=30)
            age(rig, g.id, 2)

            async def away(prefix: str) -> int:
                raise AudioStoreError("away")

            with monkeypatch.context() as patched:
                patched.setattr(jobs.store, "remove", away)
                for ask in (forget_old(jobs), jobs.remove(g.id)):
                    with pytest.raises(AudioStoreError):
                        await ask
            assert (await jobs.get(g.id)).status == "succeeded"
            assert rig.files() == [f"{g.id}/1"]
            await forget_old(jobs)
            assert rig.files() == []

    rig.run(work())


def test_who_reads_audio_that_is_deleted_meanwhile_is_told(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, PreviewMaker(rig.pipeline.knowledge)):
            g = await jobs.submit(request())
            done = await jobs.wait(g.id, timeout_s=30)
            (take,) = done.takes
            reading = jobs.store.stream(done.key(take), start=0, end=take.bytes, chunk=1000)
            assert len(await anext(reading)) == 1000
            await jobs.remove(g.id)
            with pytest.raises(AudioStoreError):
                await anext(reading)

    rig.run(work())
