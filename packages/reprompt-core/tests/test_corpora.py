"""Corpora of one's own: added once whatever happens, seen all at once, found, removed, written out."""

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from reprompt_core import CorpusError, DatabaseError, Pipeline, Settings
from reprompt_core.corpora.store import Corpora, Report

REPROMPT = str(Path(sys.executable).parent / "reprompt")
Work = Callable[[Pipeline, Corpora], Awaitable[Any]]


def with_corpora(url: str, work: Work) -> Any:
    async def run() -> Any:
        async with Pipeline(Settings(database_url=url)) as pipeline:
            return await work(pipeline, Corpora.of(pipeline))

    return asyncio.run(run())


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as f:
        table = csv.writer(f)
        table.writerow(("caption",))
        table.writerows((t,) for t in texts)
    return path


def captions(count: int, what: str = "piano") -> list[str]:
    return [f"A slow {what} piece number {i} with {w} strings" for i in range(count) for w in ("warm",)]


async def rows(pipeline: Pipeline, sql: str) -> list[tuple[Any, ...]]:
    async with pipeline.database.connection() as connection:
        return await (await connection.execute(sql)).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_captions_of_a_file_are_added_and_found(url: str, tmp_path: Path) -> None:
    texts = ["Glassy theremin choirs over a frozen harbour at midnight", *captions(20)]
    file = write_csv(tmp_path / "mine.csv", [*texts, texts[0].upper(), ""])

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        report = await corpora.add(file, name="mine", license="CC0-1.0", rejects=tmp_path / "rejects.csv")
        assert (report.read, report.added, report.known, report.rejected) == (23, 21, 1, 1)
        answer = await pipeline.reprompt("a theremin over the frozen harbour at midnight")
        assert answer.captions[0].text == texts[0]
        assert answer.captions[0].corpus == "mine"
        mine = next(c for c in await corpora.list() if c.name == "mine")
        assert (mine.captions, mine.license, mine.source, mine.ready) == (21, "CC0-1.0", "mine.csv", True)

    with_corpora(url, work)
    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as f:
        (reject,) = list(csv.DictReader(f))
    assert reject["line"] == "24"
    assert reject["reason"]


def test_adding_again_adds_what_is_new(url: str, tmp_path: Path) -> None:
    async def work(pipeline: Pipeline, corpora: Corpora) -> list[Report]:
        first = await corpora.add(write_csv(tmp_path / "a.csv", captions(30)), name="mine", license="CC0")
        again = await corpora.add(tmp_path / "a.csv", name="mine", license="CC0")
        more = await corpora.add(write_csv(tmp_path / "b.csv", captions(40)), name="mine", license="CC0")
        assert await rows(
            pipeline, "SELECT count(*), count(DISTINCT hash) FROM reprompt.captions WHERE corpus_id = 2"
        ) == [(40, 40)]
        # the words are counted anew, each caption once
        counted = await rows(
            pipeline, "SELECT captions FROM reprompt.caption_words WHERE corpus_id = 2 AND word = 'slow'"
        )
        assert counted == [(40,)]
        return [first, again, more]

    first, again, more = with_corpora(url, work)
    assert [(r.added, r.known) for r in (first, again, more)] == [(30, 0), (0, 30), (10, 30)]


def test_a_dry_run_tells_and_changes_nothing(url: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [*captions(5), "low quality recording", "x" * 3000])

    async def work(_: Pipeline, corpora: Corpora) -> None:
        report = await corpora.add(file, name="mine", license="CC0", dry_run=True, rejects=tmp_path / "r.csv")
        assert (report.added, report.flagged, report.rejected) == (6, 1, 1)
        assert sum((report.reasons or {}).values()) == 1
        assert [c.name for c in await corpora.list()] == ["reprompt"]

    with_corpora(url, work)


def test_flagged_captions_are_kept_and_not_offered(url: str, tmp_path: Path) -> None:
    texts = ["Low quality recording of a lonely zither at dawn", "A female singer sings sad lyrics over a zither"]

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        report = await corpora.add(write_csv(tmp_path / "a.csv", texts), name="mine", license="CC0")
        assert (report.added, report.flagged) == (2, 2)
        answer = await pipeline.reprompt("a lonely zither at dawn, low quality recording, sad singer and lyrics")
        assert not {c.text for c in answer.captions} & set(texts)
        _, shown = await corpora.show("mine")
        assert shown == texts

    with_corpora(url, work)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from reprompt_core import Pipeline
from reprompt_core.corpora.store import Corpora

def progress(report):
    if report.added >= 2048:
        print("killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Pipeline() as pipeline:
        await Corpora.of(pipeline).add(Path(sys.argv[1]), name="mine", license="CC0", progress=progress)

asyncio.run(main())
"""


def test_a_load_killed_half_way_shows_nothing_and_goes_on(url: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", captions(3000))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(file)],
        env=os.environ | {"REPROMPT_DATABASE_URL": url},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        (mine,) = [c for c in await corpora.list() if c.name == "mine"]
        assert not mine.ready
        answer = await pipeline.reprompt("a slow piano piece number 7 with warm strings")
        assert {c.corpus for c in answer.captions} == {"reprompt"}
        for _ in range(50):  # until the server has noticed that the killed one is gone
            try:
                report = await corpora.add(file, name="mine", license="CC0")
                break
            except CorpusError:
                await asyncio.sleep(0.1)
        assert (report.added, report.known) == (952, 2048)
        assert await rows(
            pipeline, "SELECT count(*), count(DISTINCT hash) FROM reprompt.captions WHERE corpus_id = 2"
        ) == [(3000, 3000)]
        answer = await pipeline.reprompt("a slow piano piece number 7 with warm strings")
        assert "mine" in {c.corpus for c in answer.captions}

    with_corpora(url, work)


def test_of_two_loads_of_one_corpus_one_is_told_so(url: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", captions(2500))

    async def work(_: Pipeline, corpora: Corpora) -> None:
        done = await asyncio.gather(
            *(corpora.add(file, name="mine", license="CC0") for _ in range(2)), return_exceptions=True
        )
        (error,) = [d for d in done if isinstance(d, BaseException)]
        assert isinstance(error, CorpusError)
        assert "another process" in str(error)
        (report,) = [d for d in done if isinstance(d, Report)]
        assert report.added == 2500
        assert (await corpora.add(file, name="mine", license="CC0")).known == 2500  # the lock was given back

    with_corpora(url, work)


def test_losing_the_server_in_a_load_is_an_error_and_the_load_goes_on(url: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", captions(3000))

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        def cut(report: Report) -> None:
            if report.added == 1024:
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )

        with pytest.raises(DatabaseError):
            await corpora.add(file, name="mine", license="CC0", progress=cut)
        for _ in range(5):  # the pool drops its dead connections
            try:
                report = await corpora.add(file, name="mine", license="CC0")
                break
            except DatabaseError:
                continue
        assert (report.added, report.known) == (3000 - 1024, 1024)
        assert (await pipeline.reprompt("rain")).prompt

    with_corpora(url, work)


def test_a_corpus_is_removed_with_its_captions(url: str, tmp_path: Path) -> None:
    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        await corpora.add(write_csv(tmp_path / "a.csv", captions(5)), name="mine", license="CC0")
        await corpora.remove("mine")
        assert [c.name for c in await corpora.list()] == ["reprompt"]
        assert await rows(pipeline, "SELECT DISTINCT corpus_id FROM reprompt.captions") == [(1,)]
        assert await rows(pipeline, "SELECT DISTINCT corpus_id FROM reprompt.caption_words") == [(1,)]
        for name in ("mine", "reprompt"):
            with pytest.raises(CorpusError, match=name):
                await corpora.remove(name)

    with_corpora(url, work)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_is_exported_can_be_added_again(url: str, tmp_path: Path, ending: str) -> None:
    texts = ['A "quoted", comma piano', "Ein größeres Orchester", *captions(10)]

    async def work(_: Pipeline, corpora: Corpora) -> None:
        await corpora.add(write_csv(tmp_path / "a.csv", texts), name="mine", license="CC0")
        assert await corpora.export("mine", tmp_path / f"out.{ending}") == 12
        assert (await corpora.add(tmp_path / f"out.{ending}", name="copy", license="CC0")).added == 12
        _, shown = await corpora.show("copy", limit=100)
        assert shown == texts
        for path in (tmp_path / "out.txt", tmp_path / "nowhere" / "out.csv"):
            with pytest.raises(CorpusError):
                await corpora.export("mine", path)
        with pytest.raises(CorpusError, match="there are: copy, mine, reprompt"):
            await corpora.export("nothing", tmp_path / "x.csv")

    with_corpora(url, work)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é", "a;b", "reprompt"])
def test_a_name_that_cannot_be_used_is_told(url: str, tmp_path: Path, name: str) -> None:
    async def work(_: Pipeline, corpora: Corpora) -> None:
        with pytest.raises(CorpusError, match="name"):
            await corpora.add(write_csv(tmp_path / "a.csv", captions(1)), name=name, license="CC0")
        with pytest.raises(CorpusError, match="licence"):
            await corpora.add(tmp_path / "a.csv", name="mine", license=" ")

    with_corpora(url, work)


def test_the_commands(url: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [*captions(5), "\0"])

    def call(*args: str) -> "subprocess.CompletedProcess[str]":
        env = os.environ | {"REPROMPT_DATABASE_URL": url}
        return subprocess.run([REPROMPT, "corpus", *args], env=env, capture_output=True, text=True)

    assert call("add", str(file), "--name", "mine", "--license", "CC0", "--dry-run").stdout.startswith(
        "mine: 5 captions would be added"
    )
    added = call("add", str(file), "--name", "mine", "--license", "CC0")
    assert (added.returncode, added.stdout.splitlines()[0]) == (
        0,
        "mine: 5 captions added, 0 of them flagged (kept, not offered as examples), 0 known already, 1 refused",
    )
    assert (tmp_path / "a.rejects.csv").exists()
    assert "mine\t5 captions, 0 flagged\tCC0\ta.csv" in call("list").stdout
    assert f"- {captions(1)[0]}" in call("show", "mine").stdout
    assert call("export", "mine", str(tmp_path / "o.jsonl")).returncode == 0
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 5
    assert json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["text"] == captions(1)[0]
    assert call("remove", "mine").returncode == 0
    missing = call("show", "mine")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "There is no corpus 'mine'" in missing.stderr
