"""What happened to a generation is told from the start, from where someone left off, and as it happens."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reprompt_core import JobNotFoundError
from reprompt_core.generation import Event, Jobs, Work
from working import Rig, TestMaker, new_rig, quickly, request, sound, status_of, until, working

LISTENERS = "FROM pg_stat_activity WHERE query = 'LISTEN reprompt_generations' AND datname = current_database()"


@pytest.fixture(scope="module")
def shared(environment: None, scratch: Path) -> Iterator[Rig]:
    with new_rig(scratch / "jobs-events") as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig, tmp_path: Path) -> Rig:
    shared.empty()
    shared.audio = tmp_path / "audio"
    return shared


def shape(events: list[Event]) -> list[Any]:
    return [e.data["status"] if e.kind == "status" else e.kind for e in events]


async def followed(jobs: Jobs, id: str, after: int = 0) -> list[Event]:
    return [event async for event in jobs.events(id, after=after)]


def test_events_are_told_as_they_happen_and_the_same_again_later(rig: Rig) -> None:
    async def halfway(work: Work) -> None:
        await work.keep(sound(0))
        work.progress = 0.5
        await asyncio.sleep(0.7)
        await work.keep(sound(1))

    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request(takes=2))
            live: list[Event] = []

            async def follow() -> None:
                async for event in jobs.events(g.id):
                    live.append(event)

            following = asyncio.create_task(follow())
            await until(lambda: shape(live) == ["queued"])
            async with working(jobs, TestMaker(halfway)):
                await following
            assert shape(live) == ["queued", "running", "take", "progress", "take", "succeeded"]
            assert [e.id for e in live] == sorted(e.id for e in live)
            assert live[1].data["attempt"] == 1
            assert live[2].data["number"] == 0
            assert live[3].data == {"progress": 0.5}
            takes = [e.data["sha256"] for e in live if e.kind == "take"]
            assert takes == [t.sha256 for t in (await jobs.get(g.id)).takes]
            assert await followed(jobs, g.id) == live
            for number, event in enumerate(live):
                assert await followed(jobs, g.id, after=event.id) == live[number + 1 :]
            assert await followed(jobs, g.id, after=2**80) == []
            assert await followed(jobs, g.id, after=-5) == live

    rig.run(work())


def test_someone_who_left_off_hears_only_what_follows(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            (queued,) = [e async for e in _first(jobs, g.id, 1)]
            async with working(jobs, TestMaker(quickly)):
                assert shape(await followed(jobs, g.id, after=queued.id)) == ["running", "take", "succeeded"]

    async def _first(jobs: Jobs, id: str, count: int) -> Any:
        async for event in jobs.events(id):
            yield event
            count -= 1
            if not count:
                return

    rig.run(work())


def test_many_follow_many_over_one_connection_and_each_hears_its_own(rig: Rig) -> None:
    def listening() -> int:
        return len(rig.sql(f"SELECT 1 {LISTENERS}"))

    async def work() -> None:
        async with rig.jobs() as jobs:
            gs = [await jobs.submit(request(takes=n)) for n in (1, 2, 3)]
            following = [asyncio.create_task(followed(jobs, g.id)) for g in gs for _ in range(20)]
            await until(lambda: listening() == 1)
            async with working(jobs, TestMaker(quickly)):
                heard = await asyncio.gather(*following)
            for number, events in enumerate(heard):
                takes = [e for e in events if e.kind == "take"]
                assert len(takes) == number // 20 + 1
                assert events[-1].data["status"] == "succeeded"
            assert listening() == 1
        await until(lambda: listening() == 0)

    rig.run(work())


def test_a_listening_connection_that_is_cut_is_made_again_and_nothing_is_missed(rig: Rig) -> None:
    cut = f"SELECT pg_terminate_backend(pid) {LISTENERS}"

    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            following = asyncio.create_task(followed(jobs, g.id))
            await until(lambda: rig.sql(cut))
            async with working(jobs, TestMaker(quickly)):
                assert shape(await following) == ["queued", "running", "take", "succeeded"]
            other = await jobs.submit(request())
            waiting = asyncio.create_task(jobs.wait(other.id, timeout_s=30))
            await until(lambda: rig.sql(cut))  # it is there again
            await jobs.cancel(other.id)
            assert (await waiting).status == "cancelled"

    rig.run(work())


def test_who_follows_while_the_end_is_written_hears_of_it(rig: Rig) -> None:
    """The end falls between two looks: after the events were read, before the status is."""

    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            get, looked = jobs.get, 0

            async def end_first(id: str, **how: Any) -> Any:
                nonlocal looked
                looked += 1
                if looked == 2:
                    await Jobs.cancel(jobs, g.id)
                return await get(id, **how)

            jobs.get = end_first  # pyright: ignore[reportAttributeAccessIssue]
            assert shape(await followed(jobs, g.id)) == ["queued", "cancelled"]

    rig.run(work())


def test_events_of_a_generation_are_numbered_in_the_order_in_which_they_are_seen(rig: Rig) -> None:
    """A take is told while the row is held by another transaction: its number must not be taken before that one's."""

    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            await jobs.database.fetch("claim_generation", id=g.id)
            with rig.connect() as other, other.transaction():
                other.execute("UPDATE reprompt.generations SET progress = 0.1 WHERE id = %s", (g.id,))
                late = Work(jobs, await jobs.get(g.id), None)
                telling = asyncio.create_task(late.keep(sound()))
                await until(lambda: rig.sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
                other.execute(
                    "INSERT INTO reprompt.generation_events (generation, kind, data) VALUES (%s, 'progress', '{}')",
                    (g.id,),
                )
            await telling
            kinds = [r["kind"] for r in rig.sql("SELECT kind FROM reprompt.generation_events ORDER BY id")]
            assert kinds == ["status", "status", "progress", "take"]

    rig.run(work())


def test_what_is_deleted_under_who_follows_is_said_to_be_gone(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            following = asyncio.create_task(followed(jobs, g.id))
            await asyncio.sleep(0.1)
            rig.sql("DELETE FROM reprompt.generations")
            with pytest.raises(JobNotFoundError):
                await following
            with pytest.raises(JobNotFoundError):
                await followed(jobs, g.id)

    rig.run(work())


def test_a_retry_is_told_with_its_attempts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprompt_core import MakingError

    monkeypatch.setattr("reprompt_core.generation.work._RETRY_AFTER_S", 0)

    async def second_time(work: Work) -> None:
        if work.attempt == 1:
            raise MakingError("Not yet.", again=True)
        await quickly(work)

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(second_time)):
            g = await jobs.submit(request())
            await status_of(jobs, g.id, "succeeded")
            events = await followed(jobs, g.id)
            assert shape(events) == ["queued", "running", "queued", "running", "take", "succeeded"]
            assert [e.data.get("attempt") for e in events if e.kind == "status"] == [None, 1, None, 2, None]

    rig.run(work())
