"""Generations as those who ask see them: accepted once, found, listed, cancelled, deleted, refused with a reason."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reprompt_core import JobError, JobNotFoundError, KeyReusedError, PromptError, QueueFullError, SettingsError
from reprompt_core.generation import Jobs, PreviewMaker
from working import WORDS, Rig, TestMaker, forever, new_rig, quickly, request, status_of, until, working

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def shared(environment: None, scratch: Path) -> Iterator[Rig]:
    with new_rig(scratch / "jobs") as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig, tmp_path: Path) -> Rig:
    shared.empty()
    shared.audio = tmp_path / "audio"
    return shared


def tasks(rig: Rig) -> list[dict[str, Any]]:
    return rig.sql("SELECT id, status::text, args ->> 'generation' AS generation FROM procrastinate_jobs")


# -- accepted ---------------------------------------------------------------------------------------------------


def test_an_accepted_generation_holds_what_it_takes_to_make_it_again(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            asked = request(takes=2, seed=5, format="flac")
            g = await jobs.submit(asked, priority=7)
            assert (g.status, g.generator, g.priority, g.attempts, g.request) == ("queued", "preview", 7, 0, asked)
            assert g.reprompt["words"] == WORDS
            assert g.prompt == g.reprompt["prompt"] != WORDS
            assert await jobs.get(g.id) == g
            async with working(jobs, PreviewMaker(rig.pipeline.knowledge)):
                done = await jobs.wait(g.id, timeout_s=30)
            assert (done.status, done.attempts, done.progress, done.error) == ("succeeded", 1, 1.0, None)
            assert done.model == "reprompt-preview"
            assert done.model_revision
            assert set(done.timings_ms) == {"reprompt", "queued", "running", "making"}
            made = [(t.number, t.seed, t.format, t.seconds) for t in done.takes]
            assert made == [(0, 5, "flac", 1), (1, 6, "flac", 1)]
            for take in done.takes:
                content = await jobs.store.get(done.key(take))
                assert (len(content), hashlib.sha256(content).hexdigest()) == (take.bytes, take.sha256)
                assert -15 < take.loudness_lufs < -13
                assert take.true_peak_dbtp <= -1
        assert tasks(rig) == []

    rig.run(work())


def test_the_same_request_gives_the_same_sound_alone_or_among_others(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs, working(jobs, PreviewMaker(rig.pipeline.knowledge, slots=3)):
            asked = [request(seed=1), request(seed=2), request(seed=1, takes=2), request(seed=1)]
            made = [await jobs.wait((await jobs.submit(a)).id, timeout_s=30) for a in asked[:1]]
            queued = [await jobs.submit(a) for a in asked[1:]]
            made += [await jobs.wait(g.id, timeout_s=30) for g in queued]
            alone, other, both, again = ([t.sha256 for t in g.takes] for g in made)
            assert alone == again
            assert both == [alone[0], other[0]]
            assert alone != other

    rig.run(work())


def test_auto_is_runpod_if_configured_else_a_live_musicgen_worker_else_a_preview(rig: Rig) -> None:
    async def place(jobs: Jobs) -> str:
        return (await jobs.submit(request(generator="auto"))).generator

    async def work() -> None:
        async with rig.jobs(stalled_s=5.0) as jobs:
            assert await place(jobs) == "preview"
            with pytest.raises(SettingsError, match="REPROMPT_RUNPOD_ENDPOINT"):
                await jobs.submit(request(generator="runpod"))
            async with working(jobs, TestMaker(forever, place="musicgen")):
                await until(lambda: rig.sql("SELECT 1 FROM reprompt.workers"))
                assert await place(jobs) == "musicgen"
            assert await place(jobs) == "preview"  # it said that it goes
            rig.sql(
                "INSERT INTO reprompt.workers (id, generator, slots, seen_at) "
                "VALUES (gen_random_uuid(), 'musicgen', 1, now() - interval '6 s')"
            )
            assert await place(jobs) == "preview"  # one that was killed
            assert (await jobs.submit(request(generator="musicgen"))).generator == "musicgen"
        async with rig.jobs(runpod_endpoint="abc", runpod_api_key="key") as jobs:
            assert await place(jobs) == "runpod"

    rig.run(work())


def test_a_prompt_edited_by_hand_stands_and_makes_the_plan(rig: Rig) -> None:
    edited = "Solo harp at 60 BPM in C major, soft."

    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request(prompt=edited))
            assert g.prompt == edited
            assert (g.reprompt["words"], g.reprompt["refiner"]) == (WORDS, "person")
            assert (g.reprompt["plan"]["tempo_bpm"], g.reprompt["plan"]["lead"]) == (60, "harp")
            assert "edited by hand" in g.reprompt["warnings"][-1]
            plain = await jobs.submit(request())
            untouched = await jobs.submit(request(prompt=plain.prompt))
            assert untouched.reprompt["refiner"] == "rules"
            off = await jobs.submit(request(mode="off"))
            assert off.prompt == WORDS

    rig.run(work())


# -- refused ----------------------------------------------------------------------------------------------------

BAD = {
    "NUL in the words": ({"words": "rain\0"}, {}, "NUL"),
    "half a pair in the words": ({"words": "rain \ud800"}, {}, "surrogate"),
    "no words": ({"words": " . "}, {}, "empty"),
    "NUL in the prompt": ({"prompt": "a\0b"}, {}, "NUL"),
    "half a pair in the prompt": ({"prompt": "a\udfff"}, {}, "surrogate"),
    "NUL in the key": ({}, {"key": "a\0"}, "An idempotency key holds"),
    "half a pair in the key": ({}, {"key": "\ud800"}, "An idempotency key holds"),
    "an empty key": ({}, {"key": ""}, "1 to 255 characters, not 0"),
    "a long key": ({}, {"key": "k" * 256}, "1 to 255 characters, not 256"),
    "NUL in the tenant": ({}, {"tenant": "a\0"}, "A tenant holds"),
    "a long tenant": ({}, {"tenant": "t" * 10_000}, "A tenant has"),
    "too long": ({"seconds": 301.0}, {}, r"seconds"),
    "not a number": ({"seconds": float("nan")}, {}, r"seconds"),
    "no such generator": ({"generator": "tape"}, {}, r"generator"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_used_is_refused_in_words_and_nothing_is_kept(rig: Rig, what: str) -> None:
    fields, how, says = BAD[what]

    async def work() -> None:
        async with rig.jobs() as jobs:
            with pytest.raises(PromptError, match=says):
                await jobs.submit(request(**fields), **how)

    rig.run(work())
    assert rig.sql("SELECT 1 FROM reprompt.generations") == []
    assert tasks(rig) == []


def test_the_longest_key_and_tenant_of_the_widest_characters_fit(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request(), tenant="𝄞" * 255, key="🎹" * 255)
            assert await jobs.submit(request(), tenant="𝄞" * 255, key="🎹" * 255) == g
            assert await jobs.newest(tenant="𝄞" * 255) == [g]

    rig.run(work())


@pytest.mark.parametrize("priority", [-101, 101])
def test_a_priority_out_of_its_range_is_refused(rig: Rig, priority: int) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            with pytest.raises(SettingsError, match="-100 to 100"):
                await jobs.submit(request(), priority=priority)

    rig.run(work())


def test_jobs_without_a_pipeline_accept_nothing_and_say_why(rig: Rig) -> None:
    async def work() -> None:
        async with Jobs(rig.settings()) as jobs:
            with pytest.raises(JobError, match="without a pipeline"):
                await jobs.submit(request())

    rig.run(work())


def test_no_more_wait_than_may_and_a_full_queue_still_knows_its_keys(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(queue_limit=5) as jobs:
            first = await jobs.submit(request(), key="first")
            results = await asyncio.gather(*(jobs.submit(request()) for _ in range(20)), return_exceptions=True)
            refused = [r for r in results if isinstance(r, QueueFullError)]
            assert len(refused) == 16
            assert "5 generations are waiting" in str(refused[0])
            assert len(tasks(rig)) == len(rig.sql("SELECT 1 FROM reprompt.generations")) == 5
            assert await jobs.submit(request(), key="first") == first
            with pytest.raises(QueueFullError):
                await jobs.submit(request(), key="second")
            await jobs.cancel(first.id)
            assert (await jobs.submit(request(), key="second")).status == "queued"

    rig.run(work())


# -- once (fault 7) ---------------------------------------------------------------------------------------------


def test_the_same_key_a_hundred_times_at_once_is_one_generation(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs(queue_limit=1) as jobs, Jobs(rig.settings(queue_limit=1), pipeline=rig.pipeline) as other:
            both = (jobs, other)
            asked = [both[i % 2].submit(request(), tenant="a", key="one") for i in range(100)]
            accepted = await asyncio.gather(*asked)
            assert len({g.id for g in accepted}) == 1
            assert [t["generation"] for t in tasks(rig)] == [accepted[0].id]
            assert len(rig.sql("SELECT 1 FROM reprompt.generation_events")) == 1

    rig.run(work())


def test_a_key_is_a_tenants_own_and_of_one_request(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request(), tenant="a", key="one")
            with pytest.raises(KeyReusedError, match="used for another request"):
                await jobs.submit(request(seed=1), tenant="a", key="one")
            assert (await jobs.submit(request(seed=1), tenant="b", key="one")).id != g.id
            again = {await asyncio.create_task(submitted_id(jobs, None)) for _ in range(2)}
            assert len(again) == 2  # without a key each is its own
            await jobs.cancel(g.id)
            known = await jobs.submit(request(), tenant="a", key="one")
            assert (known.id, known.status) == (g.id, "cancelled")  # what came of it, not another
            await jobs.remove(g.id)
            assert (await jobs.submit(request(), tenant="a", key="one")).id != g.id

    async def submitted_id(jobs: Jobs, key: str | None) -> str:
        return (await jobs.submit(request(), tenant="a", key=key)).id

    rig.run(work())


# -- found, listed, ended ---------------------------------------------------------------------------------------


def test_another_tenants_generation_is_not_there(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request(), tenant="a")
            for ask in (jobs.get, jobs.cancel, jobs.remove):
                for id, tenant in ((g.id, "b"), (g.id, ""), (NOBODY, None), ("no id", None), ("", None)):
                    with pytest.raises(JobNotFoundError, match="There is no generation"):
                        await ask(id, tenant=tenant)
            with pytest.raises(JobNotFoundError):
                await jobs.wait(g.id, tenant="b", timeout_s=1)
            assert (await jobs.get(g.id, tenant="a")).status == "queued"
            assert await jobs.newest(tenant="b") == []

    rig.run(work())


def test_the_newest_come_first_page_by_page(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            ids = [(await jobs.submit(request(), tenant="a")).id for _ in range(5)]
            # of one moment: the id decides
            rig.sql("UPDATE reprompt.generations SET created_at = '2026-01-01' WHERE id = ANY(%s)", ids[:3])
            await jobs.cancel(ids[4])
            seen, before = list[str](), None
            while page := await jobs.newest(tenant="a", before=before, limit=2):
                seen += [g.id for g in page]
                before = (page[-1].created_at, page[-1].id)
            assert seen == [ids[4], ids[3], *sorted(ids[:3], reverse=True)]
            assert [g.id for g in await jobs.newest(tenant="a", status="cancelled")] == [ids[4]]

    rig.run(work())


def test_the_higher_priority_is_made_first_then_the_earlier(rig: Rig) -> None:
    async def work() -> None:
        maker = TestMaker(quickly, slots=1)
        async with rig.jobs() as jobs:
            ids = [(await jobs.submit(request(), priority=p)).id for p in (0, -5, 100, 0, 3)]
            async with working(jobs, maker):
                for id in ids:
                    await jobs.wait(id, timeout_s=30)
            assert maker.made == [ids[i] for i in (2, 4, 0, 3, 1)]

    rig.run(work())


def test_cancelled_while_it_waits_it_ends_at_once_and_is_never_made(rig: Rig) -> None:
    async def work() -> None:
        maker = TestMaker(quickly)
        async with rig.jobs() as jobs:
            g, other = await jobs.submit(request()), await jobs.submit(request())
            cancelled = await jobs.cancel(g.id)
            assert (cancelled.status, cancelled.done) == ("cancelled", True)
            assert cancelled.finished_at is not None
            assert [t["generation"] for t in tasks(rig)] == [other.id]
            assert await jobs.cancel(g.id) == cancelled
            async with working(jobs, maker):
                await jobs.wait(other.id, timeout_s=30)
            assert maker.made == [other.id]

    rig.run(work())


def test_deleting_takes_the_row_the_events_and_the_audio(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g, other = await jobs.submit(request()), await jobs.submit(request())
            with pytest.raises(JobError, match="cancel it first"):
                await jobs.remove(g.id)
            async with working(jobs, TestMaker(quickly)):
                await jobs.wait(g.id, timeout_s=30)
                await jobs.wait(other.id, timeout_s=30)
            assert rig.files() == sorted([f"{g.id}/1", f"{other.id}/1"])
            await jobs.remove(g.id)
            assert rig.files() == [f"{other.id}/1"]
            assert {str(r["generation"]) for r in rig.sql("SELECT generation FROM reprompt.generation_events")} == {
                other.id
            }
            with pytest.raises(JobNotFoundError):
                await jobs.get(g.id)

    rig.run(work())


def test_waiting_ends_with_the_time_or_with_the_generation(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            g = await jobs.submit(request())
            assert (await jobs.wait(g.id, timeout_s=0.05)).status == "queued"
            waiting = asyncio.create_task(jobs.wait(g.id, timeout_s=60))
            await asyncio.sleep(0.05)
            await jobs.cancel(g.id)
            assert (await waiting).status == "cancelled"
            assert (await jobs.wait(g.id, timeout_s=60)).status == "cancelled"

    rig.run(work())


def test_the_places_say_how_busy_they_are(rig: Rig) -> None:
    async def work() -> None:
        async with rig.jobs() as jobs:
            before = {p.place: p for p in await jobs.places()}
            assert list(before) == ["preview", "musicgen", "runpod"]
            assert not any(p.available or p.slots or p.wait_s is not None for p in before.values())
            async with working(jobs, TestMaker(forever, slots=2)):
                await until(lambda: rig.sql("SELECT 1 FROM reprompt.workers"))
                idle = (await jobs.places())[0]
                assert (idle.available, idle.slots, idle.wait_s, idle.model) == (True, 2, 0.0, "test")
                ids = [(await jobs.submit(request())).id for _ in range(3)]
                await status_of(jobs, ids[1], "running")
                busy = (await jobs.places())[0]
                assert (busy.running, busy.queued, busy.wait_s) == (2, 1, None)  # nothing ended yet: not known
                rig.sql(
                    "INSERT INTO reprompt.generations (id, digest, status, generator, request, reprompt, started_at, "
                    "finished_at) SELECT gen_random_uuid(), '', 'succeeded', 'preview', '{}', '{}', now(), "
                    "now() + interval '4 s' FROM generate_series(1, 3)"
                )
                assert (await jobs.places())[0].wait_s == pytest.approx(4 * 2 / 2)
                for id in ids:
                    await jobs.cancel(id)

    rig.run(work())
