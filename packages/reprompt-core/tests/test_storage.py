"""The audio store, a folder and object storage: full, in the way, away. A file is there whole or not at all."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from reprompt_core import AudioStoreError, Settings, SettingsError
from reprompt_core.generation import AudioStore

DEADLINE_S = 60


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(within())


def local(folder: Path) -> AudioStore:
    return AudioStore.open(Settings(audio_url=str(folder)))


def names(folder: Path) -> list[str]:
    """Of every file."""
    return [p.name for p in folder.rglob("*") if p.is_file()]


# -- object storage of our own ----------------------------------------------------------------------------------


class ObjectStorage:
    """As much of S3 as the store asks for: PUT, GET with a range, HEAD, list, delete many. `fails` answers first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fails: list[str] = []  # of the next requests: "500", "403", "cut", "hang"
        self.asked: list[str] = []
        self.released = threading.Event()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                storage.answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ObjectStorage":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        key, asked = unquote(parts.path).removeprefix("/bucket").lstrip("/"), parse_qs(parts.query, True)
        length = int(request.headers.get("Content-Length") or 0)
        self.asked.append(f"{request.command} {key}")
        fails = self.fails.pop(0) if self.fails else ""
        if fails == "cut":  # in the middle of the body
            request.rfile.read(length // 2)
            request.close_connection = True
            return
        body = request.rfile.read(length)
        if fails == "hang":
            self.released.wait(DEADLINE_S)
            request.close_connection = True
        elif fails:
            self._say(request, int(fails), b"<Error><Code>SlowDown</Code><Message>AKIDEXAMPLE</Message></Error>")
        elif request.command == "PUT":
            self.files[key] = body
            self._say(request, 200, b"", {"ETag": '"1"'})
        elif "list-type" in asked:
            found = sorted(k for k in self.files if k.startswith(asked["prefix"][0]))
            items = "".join(
                f"<Contents><Key>{escape(k)}</Key><Size>{len(self.files[k])}</Size><ETag>1</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for k in found
            )
            text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
            self._say(request, 200, text.encode())
        elif "delete" in asked:
            gone = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for name in gone:
                self.files.pop(name, None)
            text = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in gone)
            self._say(request, 200, f"<DeleteResult>{text}</DeleteResult>".encode())
        elif key not in self.files:
            self._say(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            content, status, headers = self.files[key], 200, {"ETag": '"1"'}
            headers["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
            if match := re.match(r"bytes=(\d+)-(\d+)", request.headers.get("Range") or ""):
                start, end = int(match[1]), min(int(match[2]), len(content) - 1)
                status, headers["Content-Range"] = 206, f"bytes {start}-{end}/{len(content)}"
                content = content[start : end + 1]
            self._say(request, status, content, headers)

    @staticmethod
    def _say(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with suppress(OSError):  # who asked may have gone
            request.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                request.send_header(name, value)
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(body)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    with ObjectStorage() as storage:
        monkeypatch.setenv("AWS_ENDPOINT_URL", storage.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        yield storage


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AudioStore:
    if request.param == "folder":
        return local(tmp_path / "audio")
    request.getfixturevalue("bucket")
    return AudioStore.open(Settings(audio_url="s3://bucket/some/where"))


# -- what it does -----------------------------------------------------------------------------------------------


def test_what_is_put_is_got_whole_and_in_parts(store: AudioStore) -> None:
    content = bytes(range(256)) * 4000

    async def work() -> None:
        await store.put("g/1/a.wav", b"before")
        await store.put("g/1/a.wav", content)
        assert await store.get("g/1/a.wav") == content
        assert await store.size("g/1/a.wav") == len(content)
        assert await store.get("g/1/a.wav", start=1000, end=1003) == content[1000:1003]
        assert await store.get("g/1/a.wav", start=len(content) - 5) == content[-5:]
        assert await store.get("g/1/a.wav", end=7) == content[:7]
        pieces = [piece async for piece in store.stream("g/1/a.wav", start=3, end=len(content) - 1, chunk=300_000)]
        assert [len(p) for p in pieces[:-1]] == [300_000] * 3
        assert b"".join(pieces) == content[3:-1]

    run(work())


def test_a_folder_is_removed_with_its_own_files_only(store: AudioStore) -> None:
    async def work() -> None:
        for key in ("g/1/a.wav", "g/1/b.wav", "g/10/a.wav", "g2/1/a.wav"):
            await store.put(key, b"x")
        assert await store.remove("g/1") == 2
        assert sorted(await store.keys("g")) == ["g/10/a.wav"]
        assert await store.remove("g/1") == 0
        assert await store.remove("g") == 1
        assert await store.keys("g2") == ["g2/1/a.wav"]
        for everything in ("", "/"):
            with pytest.raises(AudioStoreError, match="not all at once"):
                await store.remove(everything)
        assert await store.keys("g2") == ["g2/1/a.wav"]

    run(work())


def test_what_is_not_there_and_what_lies_outside_is_refused(store: AudioStore) -> None:
    async def work() -> None:
        await store.put("g/a.wav", b"12345")
        for wrong in (
            store.get("g/none.wav"),
            store.size("g/none.wav"),
            store.get("g/a.wav", start=5, end=6),
            store.get("g/a.wav", start=3, end=3),
            store.put("../a.wav", b"x"),
            store.put("g//a.wav", b"x"),
            store.remove(".."),
        ):
            with pytest.raises(AudioStoreError):
                await wrong

    run(work())


def test_a_put_that_is_cancelled_is_whole_before_it_says_so(store: AudioStore) -> None:
    async def work() -> None:
        putting = asyncio.create_task(store.put("g/1/a.wav", b"x" * 3_000_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await store.size("g/1/a.wav") == 3_000_000
        await store.remove("g")
        await asyncio.sleep(0.3)
        assert await store.keys("g") == []

    run(work())


# -- a folder ---------------------------------------------------------------------------------------------------


def test_folders_that_held_audio_go_with_it_and_so_does_what_a_killed_process_left(tmp_path: Path) -> None:
    store = local(tmp_path / "audio")

    async def work() -> None:
        await store.put("g/1/a.wav", b"x")
        await store.put("g/2/b.wav", b"x")
        (tmp_path / "audio" / "g" / "1" / "a.wav#1").write_bytes(b"half")  # how the store names what it is writing
        assert await store.keys("g/1") == ["g/1/a.wav"]
        await store.remove("g/1")
        assert [p.name for p in (tmp_path / "audio" / "g").iterdir()] == ["2"]
        await store.remove("g/2")

    run(work())
    assert list((tmp_path / "audio").iterdir()) == []


def test_the_folder_is_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stores = {
        tmp_path / "data" / "audio": Settings(data_dir=tmp_path / "data"),
        tmp_path / "plain": Settings(audio_url="plain"),
        tmp_path / "by url": Settings(audio_url=f"file://{tmp_path}/by url"),
    }
    for folder, settings in stores.items():
        store = AudioStore.open(settings)
        run(store.put("g/a.wav", b"x"))
        assert (folder / "g" / "a.wav").read_bytes() == b"x"
        assert store.where == str(folder)


def test_a_folder_that_cannot_be_made_is_told_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioStoreError, match=r"file/audio cannot be used .* REPROMPT_AUDIO_URL"):
        local(tmp_path / "file" / "audio")


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "s3://user:not-to-be-shown@bucket", "memory://x", "https:///x"])
def test_an_address_that_cannot_be_used_is_told_without_what_it_holds(url: str) -> None:
    with pytest.raises(SettingsError, match="REPROMPT_AUDIO_URL") as e:
        AudioStore.open(Settings(audio_url=url))
    assert "not-to-be-shown" not in str(e.value)


def test_a_file_in_the_way_leaves_nothing_behind(tmp_path: Path) -> None:
    store = local(tmp_path / "audio")
    (tmp_path / "audio" / "g").write_text("in the way")
    with pytest.raises(AudioStoreError, match="could not be kept"):
        run(store.put("g/1/a.wav", b"x" * 100_000))
    assert [p.name for p in (tmp_path / "audio").rglob("*")] == ["g"]


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of a megabyte, where one can be mounted."""
    folder = scratch / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here; the tests with a file in the way run everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_whole_and_nothing_of_what_was_not(small: Path) -> None:
    store = local(small)

    async def work() -> None:
        await store.put("g/1/a.wav", b"a" * 600_000)
        for key in ("g/1/a.wav", "g/2/b.wav"):
            with pytest.raises(AudioStoreError, match="could not be kept"):
                await store.put(key, b"b" * 600_000)
        assert await store.get("g/1/a.wav") == b"a" * 600_000
        assert names(small) == ["a.wav"]
        await store.remove("g/1")
        await store.put("g/2/b.wav", b"b" * 600_000)  # there is room again

    run(work())


KILLED = """
import asyncio, sys
from reprompt_core import Settings
from reprompt_core.generation import AudioStore
async def work():
    store = AudioStore.open(Settings(audio_url=sys.argv[1]))
    print("go", flush=True)
    while True:
        await asyncio.gather(*(store.put(f"g/1/{i}.wav", b"x" * 4_000_000) for i in range(4)))
asyncio.run(work())
"""


def test_a_process_killed_while_it_writes_leaves_whole_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    store = local(folder)
    for pause in (0.05, 0.11):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(timeout=pause)
            except subprocess.TimeoutExpired:
                process.kill()

    async def work() -> None:
        keys = await store.keys("g")
        assert {await store.size(key) for key in keys} <= {4_000_000}
        await store.remove("g")

    run(work())
    assert list(folder.iterdir()) == []


# -- object storage ---------------------------------------------------------------------------------------------


def test_a_request_that_fails_is_tried_again_and_what_arrives_is_whole(bucket: ObjectStorage) -> None:
    store = AudioStore.open(Settings(audio_url="s3://bucket"))
    bucket.fails = ["500", "cut", "503"]

    async def work() -> None:
        await store.put("g/1/a.wav", b"x" * 100_000)
        assert await store.get("g/1/a.wav") == b"x" * 100_000

    run(work())
    assert bucket.asked.count("PUT g/1/a.wav") == 4


@pytest.mark.parametrize("fails", ["500", "403", "cut"])
def test_object_storage_that_keeps_failing_is_an_error_and_nothing_is_kept(bucket: ObjectStorage, fails: str) -> None:
    store = AudioStore.open(Settings(audio_url="s3://bucket"))
    bucket.fails = [fails] * 10
    with pytest.raises(AudioStoreError, match=r"could not be kept in s3://bucket") as e:
        run(store.put("g/1/a.wav", b"x" * 100_000))
    assert "not-to-be-shown" not in str(e.value)
    assert bucket.files == {}


def test_object_storage_that_hangs_is_given_up(bucket: ObjectStorage) -> None:
    store = AudioStore.open(Settings(audio_url="s3://bucket"), timeout_s=0.5)
    bucket.fails = ["hang"] * 10
    with pytest.raises(AudioStoreError, match="could not be kept"):
        run(store.put("g/1/a.wav", b"x"))
    assert bucket.files == {}


def test_object_storage_that_refuses_to_connect_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = AudioStore.open(Settings(audio_url="s3://bucket/prefix"))
    for ask in (store.put("g/a.wav", b"x"), store.get("g/a.wav"), store.keys("g"), store.remove("g")):
        with pytest.raises(AudioStoreError, match="s3://bucket/prefix"):
            run(ask)
