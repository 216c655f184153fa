"""How far a load is: the share of the file that is read, and the bar that a person sees, on a terminal alone."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_core import CorpusError, Pipeline, Settings
from reprompt_core.corpora.reading import read_rows
from reprompt_core.corpora.rows import Place
from reprompt_core.corpora.store import Corpora, Report

REPROMPT = str(Path(sys.executable).parent / "reprompt")
ENDINGS = ["csv", "jsonl", "parquet"]


def write(path: Path, texts: list[str]) -> Path:
    """A file of captions in the format of its ending."""
    if path.suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"text": texts}), path, row_group_size=1500)
    elif path.suffix == ".csv":
        path.write_text("\n".join(["text", *(f'"{t}"' for t in texts)]))
    else:
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    return path


def songs(count: int) -> list[str]:
    return [f"A slow piano piece number {i:05} with warm strings" for i in range(count)]


def with_corpora(url: str, work: Callable[[Pipeline, Corpora], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Pipeline(Settings(database_url=url)) as pipeline:
            return await work(pipeline, Corpora.of(pipeline))

    return asyncio.run(run())


# The share of the file


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_share_is_that_of_the_rows_and_grows_to_1(tmp_path: Path, ending: str) -> None:
    rows = read_rows(write(tmp_path / f"a.{ending}", songs(20_000)))
    assert rows.share < 0.05
    shares = [rows.share for _ in rows]
    assert rows.share == 1.0
    assert shares == sorted(shares)
    assert np.abs(np.array(shares) - np.arange(1, 20_001) / 20_000).max() < 0.02


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_with_no_more_than_a_header_is_read(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", [])
    if ending == "jsonl":
        with pytest.raises(CorpusError):  # which has no header
            read_rows(path)
        return
    assert read_rows(path).share == 1.0


def test_of_a_pipe_the_share_is_told_at_the_end(tmp_path: Path) -> None:
    pipe = tmp_path / "a.csv"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_text, args=("\n".join(["text", *songs(2000)]),))
    writing.start()
    rows = read_rows(pipe)
    shares = [rows.share for _ in rows]
    writing.join()
    assert shares == [0.0] * 2000
    assert rows.share == 1.0


def test_of_a_file_that_grew_the_share_is_no_more_than_1(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", songs(2000))
    rows = read_rows(path)
    with path.open("a") as f:
        f.write("\n" + "\n".join(songs(5000)))
    shares = [rows.share for _ in rows]
    assert len(shares) == 7000
    assert max(shares) == 1.0


def test_the_share_stays_where_it_was_when_an_error_closed_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345678")
    place = Place()
    with path.open("rb") as file:
        place.begin(8, file.tell)
        file.read(4)
        assert place.share == 0.5
    assert place.share == 0.5


# The report


@pytest.mark.parametrize(("ending", "dry_run"), [*((ending, True) for ending in ENDINGS), ("csv", False)])
def test_the_report_tells_the_share_after_every_batch(url: str, tmp_path: Path, ending: str, dry_run: bool) -> None:
    file = write(tmp_path / f"a.{ending}", songs(2500))
    told: list[tuple[int, int, float]] = []

    async def work(_: Pipeline, corpora: Corpora) -> Report:
        return await corpora.add(
            file, name="mine", license="CC0", dry_run=dry_run,
            progress=lambda report: told.append((report.read, report.added, report.share)),
        )  # fmt: skip

    report = with_corpora(url, work)
    assert [(read, added) for read, added, _ in told] == [(1024, 1024), (2048, 2048), (2500, 2500)]
    assert [share for *_, share in told] == pytest.approx([0.41, 0.82, 1.0], abs=0.08)
    assert told[-1][2] == report.share == 1.0


def test_progress_is_told_where_nothing_is_new(url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", ["A slow piano"] * 50_000)
    told: list[tuple[int, int]] = []

    async def work(_: Pipeline, corpora: Corpora) -> list[Report]:
        return [
            await corpora.add(
                file, name="mine", license="CC0", progress=lambda report: told.append((report.read, report.added))
            )
            for _ in range(2)
        ]

    first, again = with_corpora(url, work)
    assert (first.added, first.known, again.added, again.known) == (1, 49_999, 0, 50_000)
    reads = [16_384, 32_768, 49_152, 50_000]
    assert told == [(read, 1) for read in reads] + [(read, 0) for read in reads]


# The bar


def on_a_terminal(*command: str, url: str) -> tuple[str, str]:
    """What a command says on stdout, which is none, and on a terminal."""
    terminal, stderr = pty.openpty()
    said: list[bytes] = []

    def read() -> None:
        try:
            while some := os.read(terminal, 65536):
                said.append(some)
        except OSError:  # the command is done with it
            return

    reading = threading.Thread(target=read)
    reading.start()
    try:
        done = subprocess.run(command, env=clean(url), stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=120)
    finally:
        os.close(stderr)
        reading.join()
        os.close(terminal)
    screen = b"".join(said).decode()
    assert done.returncode == 0, screen
    return done.stdout, screen


def clean(url: str) -> dict[str, str]:
    """An environment in which nothing but the stream decides what is a terminal."""
    told = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"}
    kept = {k: v for k, v in os.environ.items() if k not in told}
    return kept | {"REPROMPT_DATABASE_URL": url, "TERM": "xterm-256color", "COLUMNS": "90"}


def test_the_bar_is_seen_on_a_terminal_alone(url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", songs(2500))
    add = (REPROMPT, "corpus", "add", str(file), "--name", "mine", "--license", "CC0")
    quiet = subprocess.run([*add, "--dry-run"], env=clean(url), capture_output=True, text=True, timeout=120)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    for command in ((*add, "--dry-run"), add):
        stdout, screen = on_a_terminal(*command, url=url)
        assert stdout.startswith("mine: 2,500 captions")
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
        assert re.search(r"━{10,} 0 rows read 0 captions a second -:--:-- left", plain), plain
        assert re.search(r"━{10,} 2,500 rows read [1-9][\d,]* captions a second 0:00:00 left", plain), plain
    assert screen.rstrip().endswith("\x1b[2K")  # and when it is done, it is gone
