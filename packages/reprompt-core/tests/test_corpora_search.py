"""Searching corpora: what the indexes find, and what a filter lets through."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, LiteralString, cast

import numpy as np
import pytest
from reprompt_core import CaptionFilter, CorpusError, Pipeline, Settings
from reprompt_core.captions import Found, search
from reprompt_core.corpora.partition import Entry, Partition, text_hash
from reprompt_core.corpora.store import Corpora
from reprompt_core.database import Database, query
from reprompt_core.encoder import Vectors

REPROMPT = str(Path(sys.executable).parent / "reprompt")


def with_pipeline(url: str, work: Callable[[Pipeline], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Pipeline(Settings(database_url=url)) as pipeline:
            await work(pipeline)

    asyncio.run(run())


class Explained:
    """A database that tells how it would fetch."""

    def __init__(self, database: Database) -> None:
        self._database, self.plan = database, ""

    async def fetch(self, named: str, /, *, dimensions: int, **parameters: Any) -> list[Any]:
        async with self._database.connection() as connection:
            sql = cast("LiteralString", "EXPLAIN " + query(named, dimensions=dimensions))
            self.plan = str(await (await connection.execute(sql, parameters)).fetchall())
        return []


def clustered(count: int) -> Vectors:
    """Unit vectors that have neighbours, as those of captions do."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((200, 384))
    vectors = centres[rng.integers(0, 200, count)] + 0.6 * rng.standard_normal((count, 384))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


async def load(pipeline: Pipeline, name: str, entries: list[Entry], *, license: str = "CC0") -> None:
    async with pipeline.database.connection() as connection, connection.transaction():
        encoder = pipeline.encoder.fingerprint
        new = {"name": name, "license": license, "encoder": encoder, "version": "", "source": ""}
        row = await (await connection.execute(query("add_corpus"), new)).fetchone()
        assert row is not None
        partition = Partition(connection, row[0])
        await partition.create()
        await partition.copy(entries)
        await partition.show(dimensions=384)


def test_indexed_captions_are_found_as_an_exact_search_finds_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprompt_core.corpora.partition.HNSW_FROM", 2000)
    vectors = clustered(8400)
    questions = [vectors[2 * i] + 0.01 * vectors[i + 1] for i in range(0, 1200, 30)]

    async def work(pipeline: Pipeline) -> None:
        # every second one is flagged
        await load(pipeline, "big", [Entry(f"{i}", text_hash(f"{i}"), i % 2, [], [], v) for i, v in enumerate(vectors)])
        for step, wanted, indexes in (
            (2, CaptionFilter(corpora=("big",)), {"captions_2_vectors"}),
            (1, CaptionFilter(corpora=("big",), flagged=True), {"captions_2_vectors", "captions_2_flagged_vectors"}),
        ):
            shares: list[float] = []
            for target in questions:
                found = await search(pipeline.database, target, "", limit=10, wanted=wanted)
                assert len(found) == 10  # those that may not be found do not starve the search
                exact = {f"{step * j}" for j in np.argsort(-(vectors[::step] @ target))[:10]}
                shares.append(len(exact & {f.text for f in found}) / 10)
            assert np.mean(shares) >= 0.95, wanted
            explained = Explained(pipeline.database)
            await search(cast("Database", explained), vectors[0], "", limit=10, wanted=wanted)
            assert set(re.findall(r"captions_2_\w*vectors", explained.plan)) >= indexes

    with_pipeline(url, work)


def test_captions_are_filtered_by_corpus_licence_and_flags(url: str) -> None:
    vectors = clustered(40)

    async def work(pipeline: Pipeline) -> None:
        for n, (name, license) in enumerate((("one", "CC0"), ("two", "CC-BY"), ("three", "CC-BY"))):
            entries = [
                Entry(f"theremin {name} {i}", text_hash(f"{n} {i}"), i % 2, [], [], v) for i, v in enumerate(vectors)
            ]
            await load(pipeline, name, entries, license=license)

        async def found(text: str, **wanted: Any) -> list[Found]:
            return await search(pipeline.database, vectors[0], text, limit=10, wanted=CaptionFilter(**wanted))

        for text in ("", "theremin"):  # by vector, and by words
            assert {f.corpus for f in await found(text, corpora=("one",))} == {"one"}
            assert {f.corpus for f in await found(text, corpora=("one", "three"))} == {"one", "three"}
            assert {(f.corpus, f.license) for f in await found(text, licenses=("CC-BY",))} == {
                ("two", "CC-BY"), ("three", "CC-BY"),
            }  # fmt: skip
            assert {f.corpus for f in await found(text, corpora=("one", "two"), licenses=("CC-BY",))} == {"two"}
            assert not await found(text, corpora=("one",), licenses=("CC-BY",))
            offered = {int(f.text.split()[-1]) % 2 for f in await found(text, corpora=("one",))}
            with_flagged = {int(f.text.split()[-1]) % 2 for f in await found(text, corpora=("one",), flagged=True)}
            assert (offered, with_flagged) == ({0}, {0, 1})
        answer = await pipeline.reprompt("theremin", captions=CaptionFilter(licenses=("CC-BY",)))
        assert {(c.corpus, c.license) for c in answer.captions} <= {("two", "CC-BY"), ("three", "CC-BY")}
        assert answer.captions
        assert not (await pipeline.reprompt("theremin", captions=CaptionFilter(corpora=()))).captions
        for wanted, word in ((CaptionFilter(corpora=("on",)), "corpus 'on'"), (CaptionFilter(licenses=("X",)), "'X'")):
            with pytest.raises(CorpusError, match=word):
                await pipeline.reprompt("theremin", captions=wanted)

    with_pipeline(url, work)


def test_a_corpus_that_grows_large_is_indexed(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprompt_core.corpora.partition.HNSW_FROM", 30)

    async def work(pipeline: Pipeline) -> None:
        indexes: list[tuple[int]] = []
        for count in (20, 40):
            file = tmp_path / "a.csv"
            file.write_text("caption\n" + "".join(f"A theremin of number {i}\n" for i in range(count)))
            await Corpora.of(pipeline).add(file, name="mine", license="CC0")
            async with pipeline.database.connection() as connection:
                sql = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'captions_2_%vectors'"
                indexes += await (await connection.execute(sql)).fetchall()
        assert indexes == [(0,), (1,)]

    with_pipeline(url, work)


def test_the_command_searches_the_corpora_that_it_is_told(url: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("caption\nA theremin over the frozen harbour\n")
    env = {**os.environ, "REPROMPT_DATABASE_URL": url}

    def reprompt(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([REPROMPT, *arguments], capture_output=True, text=True, env=env)

    assert reprompt("corpus", "add", str(file), "--name", "mine", "--license", "CC-BY-4.0").returncode == 0
    for option in (("--corpus", "mine"), ("--license", "CC-BY-4.0")):
        answer = json.loads(reprompt("--json", *option, "a theremin").stdout)
        assert [(c["corpus"], c["license"]) for c in answer["captions"]] == [("mine", "CC-BY-4.0")]
    wrong = reprompt("--corpus", "yours", "a theremin")
    assert wrong.returncode == 2
    assert "There is no corpus 'yours' to search; there are: mine, reprompt." in wrong.stderr
