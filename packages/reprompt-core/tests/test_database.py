"""The database against a real server: starts, kills, migrations at once, captions, another encoder's vectors."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import psycopg
import pytest
import reprompt_core
from reprompt_core import DatabaseError, EncoderError, EncoderMismatchError, Settings, SettingsError, embedded
from reprompt_core.captions import Found, search
from reprompt_core.corpora.partition import Entry, Partition, text_hash
from reprompt_core.database import CORPUS, Database, query
from reprompt_core.encoder import MANIFEST, Encoder
from reprompt_core.knowledge import Knowledge

T = TypeVar("T")

# opens the database of a data folder, says how it went, and does as its second argument tells
CLIENT = """
import asyncio, json, os, sys
from pathlib import Path
from reprompt_core import Settings
from reprompt_core.database import Database

async def main():
    database = await Database.open(Settings(data_dir=Path(sys.argv[1])))
    async with database.pool.connection() as c:
        n = await (await c.execute("SELECT number, count(*) FROM reprompt.migrations GROUP BY 1 ORDER BY 1")).fetchall()
    print(json.dumps(n), flush=True)
    if sys.argv[2] == "stay":
        sys.stdin.read()
    await database.close()

asyncio.run(main())
"""
MIGRATIONS = range(1, 1 + len(list((Path(reprompt_core.__file__).parent / "sql").glob("0*.sql"))))
MIGRATED = [[number, 1] for number in MIGRATIONS]  # number, how often applied

SECRET = "s3" + "cret"  # in two, so that a traceback of the test does not quote it


def client(data: Path, then: str = "leave") -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(data), then], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def answer(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def postmaster(data: Path) -> psutil.Process:
    return psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))


def kill_server(data: Path) -> None:
    """kill -9 of the postmaster; returns when its children, which see that it is gone, are gone too."""
    process = postmaster(data)
    children = process.children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs([process, *children], timeout=30)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def data() -> Iterator[Path]:
    """An empty data folder outside any home; whatever server still runs on it at the end is killed."""
    parent = Path(tempfile.mkdtemp(prefix="reprompt-database-", dir="/tmp"))
    parent.chmod(0o755)
    yield parent / "data"
    if (parent / "data" / "postgres" / "postmaster.pid").exists():
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_server(parent / "data")
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture(scope="session")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, threads=2)


@pytest.fixture(scope="session")
def knowledge(encoder: Encoder, scratch: Path) -> Knowledge:
    return Knowledge.load(encoder, cache_dir=scratch / "cache")


@pytest.fixture
def other_encoder(bundle: Path, tmp_path: Path) -> Encoder:
    """The same model with another limit: its fingerprint differs."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).symlink_to(bundle / name)
    manifest = json.loads((bundle / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"max_length": 128}))
    return Encoder(folder)


def with_database(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        database = await Database.open(Settings(database_url=url))
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def execute(database: Database, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    async with database.pool.connection() as connection:
        cursor = await connection.execute(sql, parameters)  # pyright: ignore[reportArgumentType]
        return await cursor.fetchall() if cursor.description else []


async def add_corpus(database: Database, name: str, encoder: str, texts: list[str], vectors: Any) -> None:
    async with database.connection() as connection, connection.transaction():
        new = {"name": name, "license": "CC0", "encoder": encoder, "version": "", "source": ""}
        row = await (await connection.execute(query("add_corpus"), new)).fetchone()
        assert row is not None
        partition = Partition(connection, row[0])
        await partition.create()
        entries = [Entry(t, text_hash(t), 0, [], [], v) for t, v in zip(texts, vectors, strict=True)]
        await partition.copy(entries)
        await partition.show(dimensions=len(vectors[0]))


# -- starting ----------------------------------------------------------------------------------------------------


def test_ten_processes_at_once_migrate_an_empty_database_once(data: Path) -> None:
    processes = [client(data) for _ in range(10)]
    try:
        assert [answer(p) for p in processes] == [MIGRATED] * 10
    finally:
        for process in processes:
            process.kill()


def test_ten_connections_at_once_migrate_once(url: str) -> None:
    async def run() -> list[tuple[Any, ...]]:
        settings = Settings(database_url=url, database_pool=1)
        databases = await asyncio.gather(*(Database.open(settings) for _ in range(10)))
        try:
            return await databases[0].fetch("applied_migrations")
        finally:
            await asyncio.gather(*(d.close() for d in databases))

    assert asyncio.run(run()) == [(number,) for number in MIGRATIONS]


def test_after_kill_9_of_a_user_and_of_the_server_the_next_start_works(data: Path) -> None:
    with client(data, "stay") as staying:
        try:
            assert staying.stdout is not None
            assert json.loads(staying.stdout.readline()) == MIGRATED
            first = postmaster(data)
            staying.kill()
            staying.wait()
        finally:
            staying.kill()
    assert answer(client(data)) == MIGRATED
    assert first.is_running()  # the others go on; the server outlives a user that was killed
    kill_server(data)
    with client(data, "stay") as staying:
        try:
            assert staying.stdout is not None
            assert json.loads(staying.stdout.readline()) == MIGRATED
            assert postmaster(data) != first
        finally:
            staying.kill()


def test_the_last_user_stops_the_server(data: Path) -> None:
    with client(data, "stay") as staying:
        try:
            assert staying.stdout is not None
            staying.stdout.readline()
            assert answer(client(data)) == MIGRATED
            server = postmaster(data)
            assert server.is_running()
            _, err = staying.communicate("", timeout=60)
            assert (staying.returncode, err) == (0, "")
        finally:
            staying.kill()
    assert not (data / "postgres" / "postmaster.pid").exists()


def test_stop_stops_the_server_of_others_quietly(data: Path) -> None:
    code = "import sys, pathlib; from reprompt_core import embedded; print(embedded.stop(pathlib.Path(sys.argv[1])))"

    def stop() -> tuple[str, str]:
        done = subprocess.run([sys.executable, "-c", code, str(data)], capture_output=True, text=True, check=True)
        return done.stdout.strip(), done.stderr

    assert stop() == ("False", "")
    with client(data, "stay") as staying:
        try:
            assert staying.stdout is not None
            staying.stdout.readline()
            assert stop() == ("True", "")
            assert not (data / "postgres" / "postmaster.pid").exists()
        finally:
            staying.kill()
    assert answer(client(data)) == MIGRATED


@pytest.mark.parametrize("end", [embedded.stop, kill_server])
def test_the_same_process_starts_the_server_again(data: Path, end: Callable[[Path], object]) -> None:
    async def use() -> None:
        await (await Database.open(Settings(data_dir=data, database_timeout_s=1))).close()

    asyncio.run(use())
    end(data)
    asyncio.run(use())


def _without_version(folder: Path) -> None:
    (folder / "base").mkdir(parents=True)
    (folder / "postgresql.conf").write_text("# cut sh")


def _version_only(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "PG_VERSION").write_text("18\n")


@pytest.mark.parametrize("leave", [_without_version, _version_only])
def test_half_initialised_data_is_made_anew(data: Path, leave: Callable[[Path], None]) -> None:
    leave(data / "postgres")
    assert answer(client(data)) == MIGRATED


def test_data_that_was_in_use_is_never_made_anew(data: Path) -> None:
    assert answer(client(data)) == MIGRATED
    (data / "postgres" / "global" / "pg_control").unlink()
    kept = sorted(p.name for p in (data / "postgres" / "base").iterdir())
    with pytest.raises(DatabaseError, match="REPROMPT_DATA_DIR") as caught:
        embedded.start(data)
    assert "REPROMPT_DATABASE_URL" in str(caught.value)
    assert sorted(p.name for p in (data / "postgres" / "base").iterdir()) == kept


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(8, id="its-number-is-another-process-now"),
        pytest.param(5, id="cut-short"),
    ],
)
def test_a_stale_pid_file_of_a_killed_container_does_no_harm(data: Path, lines: int) -> None:
    with client(data, "stay") as staying:
        assert staying.stdout is not None
        staying.stdout.readline()
        staying.kill()
    pid_file = data / "postgres" / "postmaster.pid"
    left = pid_file.read_text().splitlines()
    kill_server(data)
    pid_file.write_text("\n".join([str(os.getpid()), *left[1:lines]]) + "\n")
    process = client(data)
    try:
        assert answer(process) == MIGRATED
    finally:
        if pid_file.exists() and pid_file.read_text().startswith(f"{os.getpid()}\n"):
            pid_file.unlink()


@pytest.mark.parametrize("below", ["", "data", "a/b"])
def test_root_keeps_the_data_out_of_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(DatabaseError, match=r"home folder.*REPROMPT_DATA_DIR"):
        embedded.start(home / below)
    assert list(home.iterdir()) == []


def test_root_keeps_the_data_out_of_homes_through_links_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(DatabaseError, match="home folder"):
        embedded.start(tmp_path / "link" / "data")


def test_a_data_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="REPROMPT_DATA_DIR"):
        embedded.start(tmp_path / "file" / "data")


# -- a server of one's own -----------------------------------------------------------------------------------------


def _open(url: str) -> None:
    async def run() -> None:
        await (await Database.open(Settings(database_url=url, database_timeout_s=2))).close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        ("postgresql://bob:s3cret@127.0.0.1:1/db", "127.0.0.1:1/db"),
        ("postgresql://127.0.0.1:1/db?user=bob&password=s3cret", "127.0.0.1:1/db"),
        ("postgresql://bob:s3cret@/db?host=/nowhere/at/all", "/nowhere/at/all:5432/db"),
        ("postgresql://bob:s3cret@127.0.0.1:x/db", "127.0.0.1:x/db"),
    ],
)
def test_an_unreachable_server_names_the_setting_and_never_the_password(bad: str, where: str) -> None:
    with pytest.raises(DatabaseError, match="REPROMPT_DATABASE_URL") as caught:
        _open(bad)
    assert where in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert "bob" not in str(caught.value)


@pytest.mark.parametrize("bad", ["postgresql://bob:s3cret@[bad/db", "postgresql://bob:s3cret@h/db?bogus=1"])
def test_an_address_that_cannot_be_read_names_the_setting_and_never_the_password(bad: str) -> None:
    with pytest.raises(DatabaseError, match="REPROMPT_DATABASE_URL") as caught:
        _open(bad)
    assert "s3cret" not in str(caught.value)


def test_not_even_the_traceback_of_an_unreadable_address_holds_the_password() -> None:
    with pytest.raises(DatabaseError) as caught:
        _open(f"postgresql://bob:{SECRET}@[bad/db")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_an_address_of_another_database_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="REPROMPT_DATABASE_URL"):
        Settings(database_url="mysql://bob:s3cret@h/db")


def test_a_database_that_does_not_exist_is_named(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"/gone\).*REPROMPT_DATABASE_URL"):
        _open(f"postgresql://postgres:@/gone?{url.partition('?')[2]}")


def test_losing_the_server_is_a_database_error_and_the_pool_comes_back(url: str) -> None:
    async def work(database: Database) -> list[tuple[Any, ...]]:
        await database.fetch("applied_migrations")
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(DatabaseError, match="REPROMPT_DATABASE_URL"):
            await database.fetch("applied_migrations")
        return await database.fetch("applied_migrations")

    assert with_database(url, work) == [(number,) for number in MIGRATIONS]


# -- captions ----------------------------------------------------------------------------------------------------


def test_the_shipped_captions_are_loaded_once(url: str, knowledge: Knowledge, encoder: Encoder) -> None:
    async def work(database: Database) -> None:
        seen: list[Any] = []
        for _ in range(2):
            await database.sync_captions(knowledge, encoder)
            seen.append(await execute(database, "SELECT id, text FROM reprompt.captions ORDER BY id"))
        assert seen[0] == seen[1]
        assert [text for _, text in seen[0]] == list(knowledge.captions)
        counted = [(CORPUS, "MIT", encoder.fingerprint, len(knowledge.captions))]
        assert await database.fetch("count_captions") == counted

    with_database(url, work)


def test_captions_loaded_by_several_at_once_are_there_once(url: str, knowledge: Knowledge, encoder: Encoder) -> None:
    async def work(database: Database) -> None:
        await asyncio.gather(*(database.sync_captions(knowledge, encoder) for _ in range(4)))
        assert await execute(database, "SELECT count(*) FROM reprompt.captions") == [(len(knowledge.captions),)]
        # each load takes new numbers: one load took the first ones
        assert await execute(database, "SELECT max(id) FROM reprompt.captions") == [(len(knowledge.captions),)]

    with_database(url, work)


def test_captions_of_another_version_are_replaced_and_those_of_a_team_stay(
    url: str, knowledge: Knowledge, encoder: Encoder
) -> None:
    async def work(database: Database) -> None:
        vectors, _ = encoder.encode(["a team's caption"])
        await add_corpus(database, "team", encoder.fingerprint, ["a team's caption"], vectors)
        await database.sync_captions(knowledge, encoder)
        await execute(database, "UPDATE reprompt.corpora SET version = 'old' WHERE name = %(n)s", n=CORPUS)
        await execute(database, "UPDATE reprompt.captions SET text = 'old'")
        await database.sync_captions(knowledge, encoder)
        rows = await execute(database, "SELECT text FROM reprompt.captions ORDER BY id")
        assert [text for (text,) in rows] == ["old", *knowledge.captions]
        assert await database.fetch("corpus_version", name=CORPUS) == [(knowledge.version,)]

    with_database(url, work)


def test_vectors_of_another_encoder_are_an_error_that_reembed_repairs(
    url: str, knowledge: Knowledge, encoder: Encoder, other_encoder: Encoder
) -> None:
    texts = [f"{what} in {where}" for what in ("slow piano", "loud brass") for where in ("rain", "sun", "snow")]

    async def work(database: Database) -> None:
        wrong = np.eye(len(texts), 512)  # of another number of dimensions, too
        await add_corpus(database, "team", "0123456789abcdef", texts, wrong)
        with pytest.raises(EncoderMismatchError, match="`reprompt corpus reembed`") as caught:
            await database.sync_captions(knowledge, encoder)
        for part in ("team", "0123456789abcdef", encoder.fingerprint, encoder.model, "REPROMPT_ENCODER"):
            assert part in str(caught.value)
        assert isinstance(caught.value, DatabaseError)
        assert not isinstance(caught.value, EncoderError)

        assert await database.reembed(encoder, batch=4) == len(texts)  # a batch and a half
        rows = await execute(database, "SELECT text, embedding::text FROM reprompt.captions ORDER BY id")
        assert [text for text, _ in rows] == texts
        stored = np.array([json.loads(vector) for _, vector in rows])
        assert (stored * encoder.encode(texts)[0]).sum(1).min() >= 0.95  # int8, and batches of their own
        await database.sync_captions(knowledge, encoder)
        assert await database.fetch("foreign_encoders", encoder=encoder.fingerprint) == []

        with pytest.raises(EncoderMismatchError, match="reprompt, team"):
            await database.sync_captions(knowledge, other_encoder)

    with_database(url, work)


def test_reembedding_that_fails_changes_nothing(url: str, encoder: Encoder, other_encoder: Encoder) -> None:
    class Interrupted(Exception):
        pass

    class Failing(Encoder):
        def encode(self, texts: Any) -> Any:
            if "third" in texts:
                raise Interrupted
            return super().encode(texts)

    async def work(database: Database) -> None:
        texts = ["first", "second", "third"]
        await add_corpus(database, "team", encoder.fingerprint, texts, encoder.encode(texts)[0])
        before = await execute(database, "SELECT id, embedding::text FROM reprompt.captions ORDER BY id")
        with pytest.raises(Interrupted):
            await database.reembed(Failing(other_encoder.folder), batch=1)
        after = await execute(database, "SELECT id, embedding::text FROM reprompt.captions ORDER BY id")
        assert after == before
        assert await database.fetch("foreign_encoders", encoder=encoder.fingerprint) == []

    with_database(url, work)


HOSTILE = [
    "\"'; DROP TABLE reprompt.captions; -- & | ! marimba",
    "marimba & | ! <-> :* ( ) \\ ''",
    "' | marimba",
    "marimba:*",
    "!marimba",
    "%(vector)s %s marimba $1",
    "it's o''clock \\' marimba \\\\",
    "a & b http://x.example/a&b|c?d='e' marimba",
]


@pytest.fixture
def searchable(url: str, encoder: Encoder) -> str:
    texts = ["a lone marimba in the dark", "loud brass band parade", "soft strings at dawn", "techno at night"]
    with_database(url, lambda d: add_corpus(d, "team", encoder.fingerprint, texts, encoder.encode(texts)[0]))
    return url


def _near(url: str, text: str, vector: Any, *, limit: int = 3, reach: int = 1000) -> list[Found]:
    return with_database(url, lambda d: search(d, vector, text, limit=limit, reach=reach))


def test_hostile_text_is_searched_as_words(searchable: str, encoder: Encoder) -> None:
    async def work(database: Database) -> None:
        brass = encoder.encode(["loud brass band parade"])[0][0]
        for text in HOSTILE:
            found = await search(database, brass, text, limit=1, reach=1000)
            # the nearest by vector, and by its word the one that is not near
            assert {f.text for f in found} == {"loud brass band parade", "a lone marimba in the dark"}, text
        assert await execute(database, "SELECT count(*) FROM reprompt.captions") == [(4,)]

    with_database(searchable, work)


@pytest.mark.parametrize("text", ["", "the of and", "& | ! --", "'", "夜 🎸"])
def test_text_without_words_leaves_the_search_to_the_vector(searchable: str, encoder: Encoder, text: str) -> None:
    vector = encoder.encode(["techno at night"])[0][0]
    (found,) = _near(searchable, text, vector, limit=1)
    assert (found.text, found.corpus) == ("techno at night", "team")
    assert found.cosine == pytest.approx(1, abs=0.02)


def test_each_caption_found_comes_with_both_measures(searchable: str, encoder: Encoder) -> None:
    vector = encoder.encode(["soft strings at dawn"])[0][0]
    found = {f.text: f for f in _near(searchable, "strings or brass", vector, limit=4)}
    assert found["soft strings at dawn"].cosine == pytest.approx(1, abs=0.02)
    # each of the two words is in one caption: half of the question is in either of these, nothing in the others
    shares = {text: f.words for text, f in found.items()}
    assert shares["soft strings at dawn"] == pytest.approx(0.5 * 2.2 / (1.3 + 0.036 * 3))  # of three words
    assert shares["loud brass band parade"] == pytest.approx(0.5 * 2.2 / (1.3 + 0.036 * 4))
    assert shares["techno at night"] == 0
    np.testing.assert_allclose(found["soft strings at dawn"].vector, vector, atol=0.05)
    assert found["soft strings at dawn"].vector.dtype == np.float32


def test_words_that_too_many_captions_hold_are_not_looked_up(searchable: str, encoder: Encoder) -> None:
    vector = encoder.encode(["loud brass band parade"])[0][0]

    def found(reach: int) -> set[str]:
        return {f.text for f in _near(searchable, "marimba", vector, limit=1, reach=reach)}

    assert found(1) == {"loud brass band parade", "a lone marimba in the dark"}
    assert found(0) == {"loud brass band parade"}


def test_every_query_of_the_package_is_named_once_and_unknown_ones_are_not_there() -> None:
    assert "pg_advisory_xact_lock" in query("lock_migrations")
    with pytest.raises(KeyError):
        query("nothing")
