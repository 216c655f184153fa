"""Blind comparisons: two generations nobody is told apart, one vote, and an export in the order of the votes."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from reprompt_core import DatabaseError, JobError, JobNotFoundError, Pipeline, PromptError, QueueFullError, Settings
from reprompt_core.generation.comparisons import Comparison, Comparisons
from reprompt_core.generation.jobs import Jobs

WORDS = "sad piano in the rain, 70 bpm"
NOBODY = "3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55"
FINISH = "UPDATE reprompt.generations SET status = 'succeeded', finished_at = now() WHERE id = ANY(%(ids)s)"


@pytest.fixture
def settings(url, tmp_path):
    return Settings(database_url=url, audio_url=str(tmp_path / "audio"))


@asynccontextmanager
async def opened(settings):
    async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline) as jobs:
        yield jobs, Comparisons(jobs)


async def finish(jobs, *comparisons):
    """As if a worker had made them."""
    ids = [id for c in comparisons for id in (c.raw, c.rewritten)]
    async with jobs.database.connection() as connection:
        await connection.execute(FINISH, {"ids": ids})


async def generations(jobs):
    """(tenant, status) of every generation there is."""
    async with jobs.database.connection() as connection:
        return await (await connection.execute("SELECT tenant, status FROM reprompt.generations")).fetchall()


def test_both_are_the_same_but_for_the_rewriting(settings):
    async def main():
        async with opened(settings) as (jobs, comparisons):
            c = await comparisons.start(WORDS, generator="preview", seconds=2.3, seed=7, tenant="ada")
            raw, rewritten = [await jobs.get(str(id), tenant="comparison of ada") for id in (c.raw, c.rewritten)]
            assert raw.prompt == WORDS
            assert rewritten.prompt != WORDS
            assert raw.request.mode == "off"
            for field in ("words", "seconds", "seed", "format", "takes", "guidance", "temperature", "top_k"):
                assert getattr(raw.request, field) == getattr(rewritten.request, field)
            assert raw.generator == rewritten.generator == c.generator == "preview"
            assert {c.generation("a"), c.generation("b")} == {c.raw, c.rewritten}
            assert await jobs.newest(tenant="ada") == []  # the list would tell them apart
            assert (await comparisons.get(str(c.id), tenant="ada")) == c
            with pytest.raises(JobNotFoundError):
                await comparisons.get(str(c.id), tenant="ben")

    asyncio.run(main())


def test_the_order_is_drawn_each_time(settings):
    async def main():
        async with opened(settings) as (_, comparisons):
            return [(await comparisons.start(WORDS, generator="musicgen", seed=n)).shown for n in range(20)]

    counted = Counter(asyncio.run(main()))
    assert set(counted) == {"ab", "ba"}  # a chance of 2 in 2 ** 20 to fail


@pytest.mark.parametrize(
    ("shown", "choice", "preferred"),
    [
        ("ab", "a", "raw"), ("ab", "b", "rewritten"), ("ba", "a", "rewritten"), ("ba", "b", "raw"),
        ("ab", "none", "none"), ("ba", "none", "none"), ("ab", None, None),
    ],
)  # fmt: skip
def test_what_a_choice_means(shown, choice, preferred):
    from uuid import UUID

    raw, rewritten = UUID(int=1), UUID(int=2)
    at = datetime(2026, 1, 31, tzinfo=UTC)
    c = Comparison(UUID(NOBODY), WORDS, 2.299999952, 7, "preview", raw, rewritten, shown, choice, at, at)
    assert c.preferred == preferred
    assert c.generation("a") == (raw if shown == "ab" else rewritten)
    assert c.generation("b") == (rewritten if shown == "ab" else raw)
    assert c.to_dict() == {
        "id": NOBODY, "words": WORDS, "seconds": 2.3, "seed": 7, "generator": "preview", "order": shown,
        "choice": choice, "preferred": preferred, "voted_at": "2026-01-31T00:00:00+00:00",
    }  # fmt: skip


def test_a_vote_needs_both_and_counts_once(settings):
    async def main():
        async with opened(settings) as (jobs, comparisons):
            c = await comparisons.start(WORDS, generator="musicgen")
            with pytest.raises(JobError, match="both can be heard"):
                await comparisons.vote(str(c.id), "a")
            await finish(jobs, c)
            votes = await asyncio.gather(
                *(comparisons.vote(str(c.id), choice) for choice in ("a", "b", "none")), return_exceptions=True
            )
            (counted,) = [v for v in votes if isinstance(v, Comparison)]
            assert all(isinstance(v, JobError) for v in votes if v is not counted)
            assert await comparisons.get(str(c.id)) == counted
            assert counted.voted_at is not None

    asyncio.run(main())


def test_a_vote_outlives_the_audio(settings):
    async def main():
        async with opened(settings) as (jobs, comparisons):
            c, unheard = [await comparisons.start(WORDS, generator="musicgen", seed=n) for n in range(2)]
            await finish(jobs, c, unheard)
            voted = await comparisons.vote(str(c.id), "b")
            for id in (c.raw, c.rewritten, unheard.raw):
                await jobs.remove(str(id), tenant="comparison of ")
            assert await comparisons.side(c, "a") is None
            assert await comparisons.get(str(c.id)) == voted
            assert [v.id for v in [v async for v in comparisons.voted()]] == [c.id]
            with pytest.raises(JobError):  # one of the two is gone before anyone voted
                await comparisons.vote(str(unheard.id), "a")

    asyncio.run(main())


def test_votes_come_in_their_order_over_many_pages(settings):
    """More than a page of them, many at the same time, each once, and nobody else's."""

    async def main():
        async with opened(settings) as (jobs, comparisons):
            async with jobs.database.connection() as connection:
                await connection.execute(
                    "INSERT INTO reprompt.comparisons (id, tenant, words, seconds, seed, generator, raw, rewritten, "
                    "shown, choice, voted_at) SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'ada' ELSE 'ben' END, "
                    "'rain', 5, n, 'preview', gen_random_uuid(), gen_random_uuid(), 'ab', 'a', "
                    "timestamptz '2026-01-01' + (n / 700) * interval '1 hour' FROM generate_series(1, 2400) n"
                )
            hers = [c async for c in comparisons.voted(tenant="ada")]
            assert len(hers) == 1200
            assert len({c.id for c in hers}) == 1200
            assert [(c.voted_at, c.id) for c in hers] == sorted((c.voted_at, c.id) for c in hers)
            assert all(c.seed % 2 == 0 for c in hers)
            assert [c async for c in comparisons.voted(tenant="nobody")] == []

    asyncio.run(main())


def test_half_a_comparison_is_none(settings):
    """The second generation, or the comparison itself, cannot be written: what was accepted is cancelled."""

    async def main():
        async with opened(settings) as (jobs, comparisons):
            jobs.settings = Settings(database_url=settings.database_url, audio_url=settings.audio_url, queue_limit=1)
            with pytest.raises(QueueFullError):
                await comparisons.start(WORDS, generator="musicgen")
            assert await generations(jobs) == [("comparison of ", "cancelled")]
            jobs.settings = settings
            async with jobs.database.connection() as connection:
                await connection.execute("ALTER TABLE reprompt.comparisons RENAME TO elsewhere")
            with pytest.raises(DatabaseError):
                await comparisons.start(WORDS, generator="musicgen")
            assert await generations(jobs) == [("comparison of ", "cancelled")] * 3

    asyncio.run(main())


def test_words_and_ids_that_cannot_be(settings):
    async def main():
        async with opened(settings) as (jobs, comparisons):
            for words in ("", "\0", "?!", "x" * 2001):
                with pytest.raises(PromptError):
                    await comparisons.start(words)
            for id in ("x", "", NOBODY, "\0"):
                with pytest.raises(JobNotFoundError):
                    await comparisons.get(id)
                with pytest.raises(JobNotFoundError):
                    await comparisons.vote(id, "a")
            assert await generations(jobs) == []

    asyncio.run(main())
