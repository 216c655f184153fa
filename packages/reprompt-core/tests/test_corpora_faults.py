"""What goes wrong around corpora: the server restarts, the disk is full, files vanish, Ctrl-C, two loads at once."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from reprompt_core import CorpusError, DatabaseError, Pipeline, Reprompt, Settings, database, embedded
from reprompt_core.corpora.store import Corpora, Report

REPROMPT = str(Path(sys.executable).parent / "reprompt")
BACK_S = 5 if os.getloadavg()[0] < (os.cpu_count() or 1) else 10  # 5 s are promised, on a machine that is free
OUTAGE_S = 12  # and until the next try to connect; where pauses double, the one after that is 13 s later
DEADLINE_S = 40  # for what should take a second or two
CANNOT_READ, CANNOT_WRITE = r"^[^\n]+ cannot be read[^\n]+\Z", r"^[^\n]+ cannot be written[^\n]+\Z"


def kill_server(data: Path, how: signal.Signals) -> None:
    """Ends the postmaster and waits for its children; SIGQUIT is what `pg_ctl stop -m immediate` sends."""
    postmaster = psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    postmaster.send_signal(how)
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_S)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def data(environment: None, scratch: Path) -> Iterator[Path]:
    """The data folder of a server of the test's own, which may be killed."""
    folder = scratch / f"faults-{uuid.uuid4().hex[:8]}"
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def run(settings: Settings, work: Callable[[Pipeline, Corpora], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        async with Pipeline(settings) as pipeline:
            return await work(pipeline, Corpora.of(pipeline))

    return asyncio.run(opened())


def alone(url: str, **more: Any) -> Settings:
    """A pool of one connection: whoever does not give it back is found out."""
    return Settings(database_url=url, database_pool=1, database_timeout_s=3, **more)


def text(number: int, what: str) -> str:
    return f"A slow {what} piece number {number} with warm strings"


def write_csv(path: Path, count: int, *, what: str = "piano", bad: int = 0) -> Path:
    """Captions, after them rows that cannot be used."""
    lines = [text(i, what) for i in range(count)] + [f"{i}" + "x" * 3000 for i in range(bad)]
    path.write_text("\n".join(["caption", *lines]) + "\n", encoding="utf-8")
    return path


def write_jsonl(path: Path, count: int, *, what: str = "piano") -> Path:
    """Captions with vectors: encoding them would take seconds."""
    vectors = np.random.default_rng(1).standard_normal((count, 384)).round(2).tolist()
    rows = [json.dumps({"text": text(i, what), "v": v}) for i, v in enumerate(vectors)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


async def counted(pipeline: Pipeline, name: str) -> tuple[int, int]:
    """(captions, different ones) of a corpus, among those that a search sees."""
    sql = "SELECT count(*), count(DISTINCT hash) FROM reprompt.captions JOIN reprompt.corpora k ON k.id = corpus_id "
    async with pipeline.database.connection() as connection:
        return await (await connection.execute(sql + "WHERE name = %s", (name,))).fetchone() or (0, 0)


async def patiently(call: Callable[[], Awaitable[Any]], within_s: float = BACK_S) -> Any:
    """What the call gives, once the database answers again."""
    end = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except DatabaseError:
            assert time.monotonic() < end, "the server is back and there was no answer"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("how", "before"), [(signal.SIGKILL, 0), (signal.SIGQUIT, 10)])  # captions of a ready corpus
def test_a_restart_in_the_middle_of_a_load_shows_nothing_and_the_load_goes_on(
    data: Path, tmp_path: Path, how: signal.Signals, before: int
) -> None:
    whole = write_jsonl(tmp_path / "whole.jsonl", 1100)

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        def cut(report: Report) -> None:
            if report.added == 1024:
                kill_server(data, how)

        add = partial(corpora.add, name="mine", license="CC0", vectors="v")
        if before:
            await add(write_jsonl(tmp_path / "small.jsonl", before))
        with pytest.raises(DatabaseError):
            await add(whole, progress=cut)
        await asyncio.to_thread(embedded.start, data)
        answer = await patiently(lambda: pipeline.reprompt(text(1000, "piano")))
        assert text(1000, "piano") not in {c.text for c in answer.captions}
        assert await counted(pipeline, "mine") == (before, before)
        report = await patiently(lambda: add(whole))
        known = before or 1024  # what was committed is not lost, and the other is all or nothing
        assert (report.added, report.known) == (1100 - known, known)
        assert await counted(pipeline, "mine") == (1100, 1100)
        assert ("mine", True, 1100) in {(c.name, c.ready, c.captions) for c in await corpora.list()}

    run(Settings(data_dir=data, database_timeout_s=3), work)


@pytest.mark.parametrize("outage_s", [0, OUTAGE_S])
def test_searches_go_on_soon_after_the_server_is_back(data: Path, caplog: Any, outage_s: int) -> None:
    async def work(pipeline: Pipeline, _: Corpora) -> None:
        await pipeline.reprompt("rain")
        await asyncio.to_thread(kill_server, data, signal.SIGKILL)
        searches = [asyncio.create_task(patiently(lambda: pipeline.reprompt("rain"), 90)) for _ in range(3)]
        await asyncio.sleep(outage_s)
        caplog.clear()
        for _ in range(250 if outage_s else 0):
            if "error connecting" in caplog.text:
                break
            await asyncio.sleep(0.02)
        assert not (outage_s and any(s.done() for s in searches))
        await asyncio.to_thread(embedded.start, data)
        await asyncio.wait_for(asyncio.gather(*searches), BACK_S)
        assert (await pipeline.reprompt("rain")).captions

    run(Settings(data_dir=data, database_pool=1), work)


@pytest.mark.parametrize("prepare", [False, True])
def test_statements_are_prepared_only_where_the_setting_says_so(url: str, prepare: bool) -> None:
    async def work(pipeline: Pipeline, _: Corpora) -> None:
        for _ in range(6):
            assert (await pipeline.reprompt("a theremin")).captions
        async with pipeline.database.connection() as connection:
            prepared = await connection.execute("SELECT count(*) > 0 FROM pg_prepared_statements")
            assert await prepared.fetchone() == (prepare,)

    run(alone(url, database_prepare=prepare), work)


@pytest.fixture
def pooler(url: str, tmp_path: Path) -> Iterator[str]:
    """The database behind PgBouncer in transaction mode: whoever asks gets another session each time."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    tmp_path.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = conninfo_to_dict(url)
    config = tmp_path / "pgbouncer.ini"
    config.write_text(
        f"[databases]\nreprompt = host={server['host']} dbname={server['dbname']} user=postgres\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        "default_pool_size = 2\nserver_reset_query = DISCARD ALL\nserver_reset_query_always = 1\n"
    )
    user = ["-u", Path(str(server["host"])).owner()] if os.geteuid() == 0 else []  # who may use the server's socket
    with subprocess.Popen([program, "-q", *user, str(config)]) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"postgresql://postgres@127.0.0.1:{port}/reprompt"
        finally:
            process.kill()


def test_searches_go_through_a_pooler_in_transaction_mode(
    url: str, pooler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "SELECT current_setting('jit'), current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')"
    monkeypatch.setitem(database._queries(), "shown_settings", shown)

    async def fill(_: Pipeline, corpora: Corpora) -> None:
        await corpora.add(write_csv(tmp_path / "a.csv", 20, what="theremin"), name="mine", license="CC0")

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        for _ in range(5):
            answers = await pipeline.reprompt_many([text(i, "theremin") for i in range(12)])
            assert all(isinstance(a, Reprompt) and "mine" in {c.corpus for c in a.captions} for a in answers)
        found = await pipeline.database.fetch("shown_settings")
        assert found == [("off", "150", "strict_order")]
        with pytest.raises(CorpusError, match="direct connection"):  # its lock would not hold
            await corpora.remove("mine")

    run(Settings(database_url=url), fill)
    run(Settings(database_url=pooler, database_prepare=False), work)


@pytest.mark.parametrize("rejects", ["file/rejects.csv", "/dev/full", "."])
def test_rejects_that_cannot_be_written_leave_a_corpus_as_it_was(url: str, tmp_path: Path, rejects: str) -> None:
    (tmp_path / "file").touch()

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        await corpora.add(write_csv(tmp_path / "a.csv", 5), name="mine", license="CC0")
        for bad in (1, 200):  # more than a buffer holds
            more = write_csv(tmp_path / "b.csv", 9, bad=bad)
            with pytest.raises(CorpusError, match=CANNOT_WRITE):
                await corpora.add(more, name="mine", license="CC0", rejects=tmp_path / rejects)
            assert await counted(pipeline, "mine") == (5, 5)
        report = await corpora.add(more, name="mine", license="CC0", rejects=tmp_path / "rejects.csv")
        assert (report.added, report.known, report.rejected) == (4, 5, 200)

    run(alone(url), work)


@pytest.mark.parametrize("target", ["file/out.csv", "full.csv", "folder.csv"])
def test_an_export_that_cannot_be_written_is_told_and_spoils_nothing(url: str, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "full.csv").write_text("of before")
    (tmp_path / "full.csv.part").symlink_to("/dev/full")
    file = write_jsonl(tmp_path / "a.jsonl", 1000)

    async def work(_: Pipeline, corpora: Corpora) -> None:
        await corpora.add(file, name="mine", license="CC0", vectors="v")
        with pytest.raises(CorpusError, match=CANNOT_WRITE):
            await corpora.export("mine", tmp_path / target)
        assert (tmp_path / "full.csv").read_text() == "of before"
        assert await corpora.export("mine", tmp_path / "out.csv") == 1000  # its connection was given back

    run(alone(url), work)


def test_files_and_corpora_that_are_not_there_are_told(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def work(_: Pipeline, corpora: Corpora) -> None:
        for path in ("nothing.csv", "file/a.csv", ".", "/proc/self/mem"):  # whose reading fails, not its opening
            with pytest.raises(CorpusError, match=CANNOT_READ):
                await corpora.add(tmp_path / path, name="mine", license="CC0", format="csv")
        assert [c.name for c in await corpora.list()] == ["reprompt"]
        with pytest.raises(CorpusError, match="There is no corpus 'nothing'"):
            await corpora.remove("nothing")

    run(alone(url), work)


def test_a_file_cut_short_while_it_is_read_is_told_and_the_load_goes_on(url: str, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file, total = tmp_path / "a.parquet", 3000
    vectors = np.random.default_rng(1).standard_normal((total, 384)).astype(np.float32)
    table = pa.table({"text": [text(i, "piano") for i in range(total)], "v": list(vectors)})
    pq.write_table(table, file, row_group_size=1024)

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        def cut(report: Report) -> None:
            if report.added == 1024:
                os.truncate(file, 1000)

        with pytest.raises(CorpusError, match=CANNOT_READ):
            await corpora.add(file, name="mine", license="CC0", vectors="v", progress=cut)
        assert await counted(pipeline, "mine") == (0, 0)
        pq.write_table(table, file)
        report = await corpora.add(file, name="mine", license="CC0", vectors="v")
        assert report.known >= 1024
        assert await counted(pipeline, "mine") == (total, total)

    run(alone(url), work)


def start_add(url: str, file: Path, name: str, *options: str) -> "subprocess.Popen[str]":
    command = [REPROMPT, "corpus", "add", str(file), "--name", name, "--license", "CC0", *options]
    env, pipe = os.environ | {"REPROMPT_DATABASE_URL": url}, subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)


def test_ctrl_c_in_the_middle_of_a_load_ends_quietly_and_the_next_goes_on(url: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", 2000)

    def loaded() -> bool:
        with psycopg.connect(url, autocommit=True) as connection:
            there = connection.execute("SELECT to_regclass('reprompt.captions_2')").fetchone()
            return there != (None,) and bool(connection.execute("SELECT 1 FROM reprompt.captions_2").fetchone())

    with start_add(url, file, "mine") as adding:
        try:
            end = time.monotonic() + DEADLINE_S
            while not loaded():
                assert adding.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            adding.send_signal(signal.SIGINT)
            _, err = adding.communicate(timeout=DEADLINE_S)
        finally:
            adding.kill()
    assert adding.returncode not in {0, -signal.SIGKILL}
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        assert await counted(pipeline, "mine") == (0, 0)  # not searched
        report = await corpora.add(file, name="mine", license="CC0")
        assert (report.added, report.known) == (976, 1024)
        assert await counted(pipeline, "mine") == (2000, 2000)

    run(alone(url), work)


def test_two_processes_load_different_corpora_at_once(url: str, tmp_path: Path) -> None:
    sizes = {"strings": 1100, "drums": 1300}
    files = [write_jsonl(tmp_path / f"{n}.jsonl", size, what=n) for n, size in sizes.items()]
    loads = [start_add(url, file, file.stem, "--vectors", "v") for file in files]
    try:
        for load in loads:
            _, err = load.communicate(timeout=DEADLINE_S)
            assert load.returncode == 0, err
    finally:
        for load in loads:
            load.kill()

    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        assert all(c.ready for c in await corpora.list())
        assert [await counted(pipeline, n) for n in sizes] == [(size, size) for size in sizes.values()]

    run(alone(url), work)
