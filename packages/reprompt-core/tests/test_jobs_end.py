"""A final status never changes, whatever arrives late, twice or out of order; no audio is left of what was not kept."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg.types.json import Jsonb
from reprompt_core import MakingError, RepromptError
from reprompt_core.generation import Jobs, Made, PreviewMaker, Work
from reprompt_core.generation.sweep import sweep
from reprompt_core.generation.work import perform
from working import Rig, TestMaker, forever, new_rig, quickly, request, sound, status_of, until, working

FINAL = ["succeeded", "failed", "cancelled"]


@pytest.fixture(scope="module")
def shared(environment: None, scratch: Path) -> Iterator[Rig]:
    with new_rig(scratch / "jobs-end") as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig, tmp_path: Path) -> Rig:
    shared.empty()
    shared.audio = tmp_path / "audio"
    return shared


def whole(rig: Rig) -> Any:
    """Everything that is kept of generations."""
    return (
        rig.sql("SELECT * FROM reprompt.generations ORDER BY id"),
        rig.sql("SELECT * FROM reprompt.generation_events ORDER BY id"),
    )


async def claimed(jobs: Jobs, **fields: Any) -> Work:
    """A generation in the hands of a worker of which only this is left."""
    g = await jobs.submit(request(**fields))
    await jobs.database.fetch("claim_generation", id=UUID(g.id))
    return Work(jobs, await jobs.get(g.id), None)


def writes(work: Work) -> dict[str, dict[str, Any]]:
    """Every query by which a worker speaks of an attempt, with what it would say."""
    mine: dict[str, Any] = {"id": work.generation_id, "attempt": work.attempt}
    end = {"takes": Jsonb([]), "error": None, "model": "late", "revision": "late", "timings_ms": Jsonb({"late": 1})}
    return {
        "keep_alive": {**mine, "progress": 0.9, "tell": True},
        "tell_take": {**mine, "take": Jsonb({"late": 1})},
        "set_remote": {**mine, "remote": Jsonb({"late": 1})},
        "release": {"name": "release_generation", **mine, "counts": True, "most": 3, "error": None},
        "give back": {"name": "release_generation", **mine, "counts": False, "most": 3, "error": None},
        **{status: {"name": "finish_generation", **mine, **end, "status": status} for status in FINAL},
    }


async def say(jobs: Jobs, name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    return await jobs.database.fetch(parameters.pop("name", name), **parameters)


@pytest.mark.parametrize("end", FINAL)
def test_nothing_that_comes_late_changes_a_final_generation(rig: Rig, end: str) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            late = await claimed(jobs)
            if end == "cancelled":
                await jobs.cancel(late.generation.id)
            await say(jobs, end, writes(late)[end])
            before = whole(rig)
            assert before[0][0]["status"] == end
            for name, parameters in writes(late).items():
                said = await say(jobs, name, parameters)
                assert said in ([], [(end,)]), name  # what is final, to the one who made it so
                assert whole(rig) == before, name
            assert await jobs.database.fetch("claim_generation", id=late.generation_id) == []
            assert (await jobs.cancel(late.generation.id)).status == end
            await perform(jobs, TestMaker(quickly), late.generation.id)  # its task, fetched twice
            with pytest.raises(MakingError, match="taken over"):
                await late.remember({"state": "late"})
            await sweep(jobs)
            assert whole(rig) == before

    rig.run(work())


@pytest.mark.parametrize("end", FINAL)
def test_an_earlier_attempt_is_not_heard_while_a_later_one_runs_or_after_it(rig: Rig, end: str) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            first = await claimed(jobs)
            await say(jobs, "give back", writes(first)["give back"])
            await jobs.database.fetch("claim_generation", id=first.generation_id)
            second = Work(jobs, await jobs.get(first.generation.id), None)
            assert (first.attempt, second.attempt) == (1, 2)
            for _ in range(2):
                before = whole(rig)
                for name, parameters in writes(first).items():
                    assert await say(jobs, name, parameters) == [], name
                    assert whole(rig) == before, name
                await say(jobs, end, writes(second)[end])

    rig.run(work())


@pytest.mark.parametrize("end", FINAL)
@pytest.mark.parametrize(
    "change", ["status = 'running'", "status = 'succeeded', takes = '[1]'", "takes = '[1]'", "attempts = 9",
               "finished_at = now()", "error = '{}'", "cancel = NOT cancel", "model = 'x'", "seconds"])  # fmt: skip
def test_the_database_itself_refuses_to_change_what_is_final(rig: Rig, end: str, change: str) -> None:
    change = change.replace("seconds", "request = request || '{\"seconds\": 2}'")

    async def work() -> None:
        async with rig.jobs() as jobs:
            late = await claimed(jobs)
            await say(jobs, end, writes(late)[end])
            with pytest.raises(psycopg.errors.RaiseException, match=f"is {end}: that is final"):
                rig.sql(f"UPDATE reprompt.generations SET {change}")
            rig.sql("UPDATE reprompt.generations SET status = status")

    rig.run(work())


def test_what_was_to_be_cancelled_is_cancelled_whatever_came_of_it(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            for name in ("succeeded", "failed", "release", "give back"):
                late = await claimed(jobs)
                assert (await jobs.cancel(late.generation.id)).status == "running"
                parameters = writes(late)[name]
                if name in FINAL:
                    take = {"number": 0}
                    parameters |= {"takes": Jsonb([take]), "error": Jsonb({"code": "internal", "message": "m"})}
                said = await say(jobs, name, parameters)
                assert said[0][0] == "cancelled", name
                g = await jobs.get(late.generation.id)
                assert (g.status, g.takes, g.error, g.progress) == ("cancelled", (), None, 0), name
                assert g.finished_at is not None

    rig.run(work())


# -- cancelled while it runs (fault 8) --------------------------------------------------------------------------


def test_cancelled_while_it_runs_it_ends_within_seconds_and_its_audio_goes(rig: Rig) -> None:
    async def work() -> None:
        maker = TestMaker(forever)
        async with rig.jobs() as jobs, working(jobs, maker) as worker:
            g = await jobs.submit(request())
            await until(lambda: rig.files())
            await jobs.cancel(g.id)
            done = await jobs.wait(g.id, timeout_s=5)
            assert (done.status, done.takes, done.error) == ("cancelled", (), None)
            await until(lambda: maker.now == worker.running == 0)
            await until(lambda: not rig.files())

    rig.run(work())


def test_a_result_that_comes_after_the_cancel_is_thrown_away(rig: Rig) -> None:
    """The cancel comes when everything is made, and before that is written."""

    async def work() -> None:
        async with rig.jobs() as jobs:

            async def make(work: Work) -> None:
                await quickly(work)
                await jobs.cancel(work.generation.id)

            async with working(jobs, TestMaker(make)):
                g = await jobs.submit(request(takes=2))
                done = await jobs.wait(g.id, timeout_s=30)
                assert (done.status, done.takes, done.progress) == ("cancelled", (), 0)
                await until(lambda: not rig.files())

    rig.run(work())


def test_a_real_preview_is_cancelled_in_the_middle(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, PreviewMaker(rig.pipeline.knowledge, slots=1)):
            g = await jobs.submit(request(seconds=60, takes=8))
            async for event in jobs.events(g.id):
                if event.kind == "take":
                    break
            await jobs.cancel(g.id)
            assert (await jobs.wait(g.id, timeout_s=5)).status == "cancelled"
            await until(lambda: not rig.files())
            following = await jobs.submit(request())
            assert (await jobs.wait(following.id, timeout_s=30)).status == "succeeded"
            assert rig.files() == [f"{following.id}/1"]

    rig.run(work())


def test_a_maker_that_does_not_stop_is_left_to_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprompt_core.generation.work._END_S", 0.2)
    released = asyncio.Event()

    async def stubborn(work: Work) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(stubborn, slots=1)) as worker:
            g, following = await jobs.submit(request()), await jobs.submit(request())
            await status_of(jobs, g.id, "running")
            await jobs.cancel(g.id)
            assert (await jobs.wait(g.id, timeout_s=5)).status == "cancelled"
            await status_of(jobs, following.id, "running")  # the slot is free
            await jobs.cancel(following.id)
            await jobs.wait(following.id, timeout_s=5)
            await until(lambda: worker.running == 0)
            released.set()
            await asyncio.sleep(0.05)
            assert (await jobs.get(g.id)).status == "cancelled"

    rig.run(work())


def test_a_cancel_at_any_moment_ends_in_one_final_status(rig: Rig) -> None:
    """Cancels fall before, into and after the claim, the making and the end."""

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(quickly, slots=4)):

            async def one(number: int) -> tuple[str, str]:
                g, seen = await jobs.submit(request()), 0
                async for _ in jobs.events(g.id):
                    seen += 1
                    if seen > number % 5:
                        break
                told = (await jobs.cancel(g.id)).status
                return told, (await jobs.wait(g.id, timeout_s=30)).status

            ends = await asyncio.gather(*(one(i) for i in range(40)))
            assert {end for _, end in ends} == {"succeeded", "cancelled"}
            assert all(told in {end, "running"} for told, end in ends)
            await until(lambda: not rig.sql("SELECT 1 FROM procrastinate_jobs"))
            kept = {str(r["id"]) for r in rig.sql("SELECT id FROM reprompt.generations WHERE status = 'succeeded'")}
            await until(lambda: {f.split("/")[0] for f in rig.files()} == kept)
            said = rig.sql(
                "SELECT generation, count(*) FILTER (WHERE data ->> 'status' IN ('succeeded', 'failed', 'cancelled')) "
                "AS ends FROM reprompt.generation_events GROUP BY generation"
            )
            assert [row["ends"] for row in said] == [1] * 40

    rig.run(work())


def test_a_cancelled_one_that_was_submitted_elsewhere_is_handed_to_a_maker_that_ends_it_there(rig: Rig) -> None:
    """Its worker died: nobody else knows that it runs at RunPod, and is billed."""
    ended: list[bool] = []

    async def follow(work: Work) -> None:
        assert work.remote == {"state": "submitted", "id": "r-1"}
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append(work.cancelled)
            raise

    async def work() -> None:
        async with rig.jobs(stalled_s=1.5) as jobs:
            for status in ("queued", "running"):
                late = await claimed(jobs)
                await late.remember({"state": "submitted", "id": "r-1"})
                if status == "queued":
                    await say(jobs, "give back", writes(late)["give back"])
                assert (await jobs.cancel(late.generation.id)).status == status
            await asyncio.sleep(1.6)
            await sweep(jobs)
            async with working(jobs, TestMaker(follow)):
                for g in await jobs.newest():
                    assert (await jobs.wait(g.id, timeout_s=10)).status == "cancelled"
            waiting = await claimed(jobs)
            await waiting.remember({"state": "waiting"})  # nothing is out
            await say(jobs, "give back", writes(waiting)["give back"])
            assert (await jobs.cancel(waiting.generation.id)).status == "cancelled"

    rig.run(work())
    assert ended == [True, True]


# -- answers that are lost on the way ---------------------------------------------------------------------------


class Deaf:
    """A database whose answers get lost: the query is done, and its connection breaks before that is heard."""

    def __init__(self, jobs: Jobs, *names: str) -> None:
        self._database, self.lost = jobs.database, list(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def fetch(self, named: str, /, **parameters: Any) -> Any:
        rows = await self._database.fetch(named, **parameters)
        if named in self.lost:
            self.lost.remove(named)
            from reprompt_core import DatabaseError

            raise DatabaseError("The connection broke.")
        return rows


@pytest.mark.parametrize("lost", ["finish_generation", "tell_take", "keep_alive"])
def test_an_answer_that_is_lost_does_not_lose_the_result(rig: Rig, lost: str) -> None:
    async def slow(work: Work) -> None:
        await asyncio.sleep(0.7)  # past a sign of life
        await quickly(work)

    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            jobs.database = deaf = Deaf(jobs, lost)  # pyright: ignore[reportAttributeAccessIssue]
            await perform(jobs, TestMaker(slow), g.id)
            assert deaf.lost == []
            done = await jobs.get(g.id)
            assert (done.status, done.attempts, len(done.takes)) == ("succeeded", 1, 1)
            assert await jobs.store.get(done.key(done.takes[0]))

    rig.run(work())


# -- attempts that give nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "tries"),
    [
        (MakingError("Too long for it.", code="invalid"), "invalid", 1),
        (MakingError("Full.", code="capacity", again=True), "capacity", 3),
        (MakingError("?", code="not a code", again=False), "internal", 1),
        (ZeroDivisionError("secret words"), "internal", 3),
        (asyncio.CancelledError(), "internal", 3),
        (RepromptError("secret words"), "internal", 3),
    ],
    ids=str,
)
def test_a_maker_that_fails_is_tried_as_often_as_it_may_help(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: str, tries: int
) -> None:
    monkeypatch.setattr("reprompt_core.generation.work._RETRY_AFTER_S", 0)

    async def fail(work: Work) -> None:
        await work.keep(sound())
        raise raised

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(fail)):
            g = await jobs.submit(request())
            done = await jobs.wait(g.id, timeout_s=30)
            assert (done.status, done.attempts) == ("failed", tries)
            assert done.error is not None
            assert done.error.code == code
            assert "secret" not in done.error.message
            await until(lambda: not rig.files())

    rig.run(work())


@pytest.mark.parametrize("numbers", [[], [0], [0, 0], [0, 1, 2], [1, 2]])
def test_not_exactly_the_takes_that_were_asked_for_is_no_success(rig: Rig, numbers: list[int]) -> None:
    async def some(work: Work) -> None:
        for number in numbers:
            await work.keep(sound(number))

    async def work() -> None:
        async with rig.jobs(attempts=1) as jobs, working(jobs, TestMaker(some)):
            g = await jobs.submit(request(takes=2))
            done = await jobs.wait(g.id, timeout_s=30)
            assert done.error is not None
            assert (done.status, done.error.code, done.takes) == ("failed", "bad_result", ())
            await until(lambda: not rig.files())

    rig.run(work())


def test_takes_come_in_order_and_a_later_attempts_audio_is_all_that_is_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprompt_core.generation.work._RETRY_AFTER_S", 0)

    async def second_time(work: Work) -> None:
        for number in (2, 0, 1):
            await work.keep(sound(number, content=b"%d of attempt %d" % (number, work.attempt)))
        if work.attempt == 1:
            raise MakingError("Not yet.", again=True)
        # as if the first attempt's worker had been killed
        await work._jobs.store.put(f"{work.generation.id}/1/left.wav", b"x")  # pyright: ignore[reportPrivateUsage]

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(second_time)):
            g = await jobs.submit(request(takes=3))
            done = await jobs.wait(g.id, timeout_s=30)
            assert (done.attempts, [t.number for t in done.takes]) == (2, [0, 1, 2])
            for take in done.takes:
                assert await jobs.store.get(done.key(take)) == b"%d of attempt 2" % take.number
            await until(lambda: rig.files() == [f"{g.id}/2"] * 3)

    rig.run(work())


def test_silence_and_a_progress_that_is_no_number_are_told_as_numbers(rig: Rig) -> None:
    async def silent(work: Work) -> None:
        work.progress = 0.25
        await asyncio.sleep(0.7)
        work.progress = math.nan
        await asyncio.sleep(0.7)
        assert (await work._jobs.get(work.generation.id)).progress == 0.25  # pyright: ignore[reportPrivateUsage]
        await work.keep(replace(sound(), loudness_lufs=-math.inf, true_peak_dbtp=-math.inf))

    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(silent)):
            g = await jobs.submit(request())
            done = await jobs.wait(g.id, timeout_s=30)
            assert (done.status, done.progress) == ("succeeded", 1.0)
            assert (done.takes[0].loudness_lufs, done.takes[0].true_peak_dbtp) == (-120.0, -120.0)

    rig.run(work())


def test_a_made_result_says_what_made_it(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, TestMaker(quickly)):
            g = await jobs.submit(request())
            done = await jobs.wait(g.id, timeout_s=30)
            made = Made("test", "1", {"making": 1.0})
            assert (done.model, done.model_revision) == (made.model, made.model_revision)
            assert done.timings_ms["making"] == 1.0
            assert msgspec.to_builtins(done)["version"] == 1

    rig.run(work())
