"""The serverless worker: its handler on a real engine, and all of it in RunPod's own loop, against a control plane."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from reprompt_core import Pipeline, Settings, SettingsError
from reprompt_core.errors import AudioStoreError
from reprompt_core.generation import AudioStore, Generation, GenerationRequest, Jobs, RunPodMaker, Worker
from reprompt_core.generation.contract import RemoteJob, RemoteResult, audio_key, from_json, to_json
from reprompt_core.generation.runpod_result import read_audio, read_result
from reprompt_gpu import Engine
from reprompt_worker import handler as handler_module
from reprompt_worker.handler import Handler, serve
from reprompt_worker.music import make_takes
from runpod_server import KEY, Reply, RunPodServer

ENDS_S = 180.0  # a busy machine takes most of a minute to load everything


def remote(**more: Any) -> RemoteJob:
    fields: dict[str, Any] = {"prompt": "slow sad piano", "seconds": 1.0, "takes": 2, "seed": 3, "format": "wav"}
    options = {"guidance": 3.0, "temperature": 1.0, "top_k": 250}
    return RemoteJob(id=str(uuid4()), attempt=1, **fields | options | more)


def silent(job: dict[str, Any], said: Any) -> None:
    """Progress that nobody hears."""


def given(handler: Handler, job: RemoteJob | None = None, **more: Any) -> dict[str, Any]:
    """What RunPod is given for a job."""
    return asyncio.run(handler.handle((_sent(job) if job else {"id": "job-1"}) | more))


def _sent(job: RemoteJob) -> dict[str, Any]:
    return {"id": "job-1", "input": json.loads(to_json(job))}


def error_of(answer: dict[str, Any]) -> tuple[str, str]:
    """(code, message) of an answer that is an error, as both ends know it."""
    assert answer.keys() == {"error"}
    assert "Traceback" not in answer["error"]
    error = from_json(answer["error"], RemoteResult).error
    assert error
    return error.code, error.message


def as_request(job: RemoteJob) -> GenerationRequest:
    return GenerationRequest(words="x", seconds=job.seconds, takes=job.takes, seed=job.seed, format=job.format)


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore.open(Settings(audio_url=str(tmp_path / "audio")))


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_what_the_handler_answers_is_what_the_asking_side_takes(engine: Engine, store: AudioStore, format: Any) -> None:
    job = remote(format=format)
    inline = given(Handler(engine, tell=silent), job)
    uploaded = given(Handler(engine, store=store, tell=silent), job)
    assert len(json.dumps(inline)) > len(json.dumps(uploaded))

    async def read(answer: dict[str, Any]) -> list[tuple[int, int, bytes]]:
        result = read_result(answer, as_request(job))
        assert (result.model, result.model_revision) == (engine.name, engine.revision)
        assert result.timings_ms["making"] > 0
        audio = [await read_audio(r, store=store, generation=job.id, attempt=1) for r in result.takes]
        return [(r.take.number, r.take.seed, content) for r, content in zip(result.takes, audio, strict=True)]

    takes = asyncio.run(read(inline))
    assert [take[:2] for take in takes] == [(0, 3), (1, 4)]
    if format != "ogg":  # whose streams have serial numbers
        assert asyncio.run(read(uploaded)) == takes
    keys = {audio_key(job.id, 1, take["take"]["sha256"], format) for take in uploaded["takes"]}
    assert set(asyncio.run(store.keys(job.id))) == keys


@pytest.mark.parametrize(
    "input",
    [
        None,
        "words",
        {},
        {"prompt": "x"},
        {"version": 2},
        {"more": 1},
        {"seconds": 0},
        {"takes": 100},
        {"id": "../../etc"},
        {"prompt": ""},
        {"format": "exe"},
    ],
    ids=repr,
)
def test_a_payload_that_is_none_is_an_error_of_ours(engine: Engine, input: Any) -> None:
    whole = json.loads(to_json(remote()))
    sent = whole | input if isinstance(input, dict) and input and input != {"prompt": "x"} else input
    code, message = error_of(given(Handler(engine, tell=silent), input=sent))
    assert code == "invalid"
    assert "RemoteJob" in message


def test_a_text_that_the_model_cannot_read_is_invalid(engine: Engine) -> None:
    code, message = error_of(given(Handler(engine, tell=silent), remote(prompt="a; " * 350)))
    assert (code, "701 tokens" in message) == ("invalid", True)


def test_what_does_not_fit_an_answer_is_refused_with_what_to_do(engine: Engine, store: AudioStore) -> None:
    never: Any = SimpleNamespace(sample_rate=8000, config=SimpleNamespace(channels=1))  # 40 minutes are not made for it
    code, message = error_of(given(Handler(never, tell=silent), remote(seconds=300.0, takes=8)))
    assert code == "too_large"
    assert "51.2 MB" in message
    assert all(word in message for word in ("10 MB", "mp3 or ogg", "REPROMPT_AUDIO_URL"))
    # how large others become is known when they are there
    small = remote(format="flac")
    assert error_of(given(Handler(engine, tell=silent, most_bytes=25_000), small))[0] == "too_large"
    assert "takes" in given(Handler(engine, tell=silent, most_bytes=100_000), small)
    assert "takes" in given(Handler(engine, store=store, tell=silent, most_bytes=25_000), small)


class _Full(AudioStore):
    """Takes one file, then none."""

    full = False

    async def put(self, key: str, content: bytes) -> None:
        if self.full:
            raise AudioStoreError("No space left in /secret/place.")
        self.full = True
        await super().put(key, content)


def test_a_store_that_is_full_is_told_and_nothing_stays(engine: Engine, tmp_path: Path) -> None:
    store = _Full.open(Settings(audio_url=str(tmp_path / "audio")))
    code, message = error_of(given(Handler(engine, store=store, tell=silent), remote()))
    assert code == "storage"
    assert "secret" not in message
    assert list((tmp_path / "audio").rglob("*")) == []


def test_an_engine_that_broke_stops_the_worker(broken_engine: Engine) -> None:
    broken: list[bool] = []
    handler = Handler(broken_engine, tell=silent, broken=lambda: broken.append(True))
    code, message = error_of(given(handler, remote()))
    assert (code, broken) == ("internal", [True])
    assert "log" in message


def test_a_fault_of_ours_is_no_traceback_for_the_asking_side(caplog: pytest.LogCaptureFixture) -> None:
    no_engine: Any = object()
    answer = given(Handler(no_engine, tell=silent), remote())
    assert error_of(answer) == ("internal", "The endpoint failed; the log of its worker says why.")
    assert "AttributeError" in caplog.text


class _Slow(AudioStore):
    """Keeps each file, and takes for ever to say so."""

    async def put(self, key: str, content: bytes) -> None:
        await super().put(key, content)
        await asyncio.sleep(600)


def test_a_job_that_is_stopped_leaves_the_engine_and_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    async def stopped(handler: Handler, job: RemoteJob, when: Callable[[], object]) -> None:
        making = asyncio.create_task(handler.handle(_sent(job)))
        await until(when)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    async def all_of_it() -> None:
        store = _Slow.open(Settings(audio_url=str(tmp_path / "audio")))
        uploading = Handler(engine, store=store, tell=silent)
        await stopped(uploading, remote(), lambda: list((tmp_path / "audio").rglob("*.wav")))
        assert await store.keys("") == []
        handler, begun = Handler(engine, tell=silent), time.monotonic()
        await stopped(handler, remote(seconds=300.0, takes=8, format="mp3"), lambda: time.monotonic() > begun + 0.3)
        # every slot is free: what follows does not wait for 40 minutes of music
        answer = await asyncio.wait_for(handler.handle(_sent(remote())), 60)
        assert len(answer["takes"]) == 2

    asyncio.run(all_of_it())


def test_words_of_progress_never_come_after_the_result(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[float] = []

    def tell(job: dict[str, Any], said: Any) -> None:
        """As RunPod's, which sends each word on a thread that it does not hand out."""

        def send() -> None:
            time.sleep(1.0)
            arrived.append(said["progress"])

        threading.Thread(target=send, daemon=True).start()

    async def with_last_words(*given: Any, progress: Callable[[float], None], **more: Any) -> None:
        await make_takes(*given, **more)
        for share in (0.0, 0.4, 0.5, 0.3, 1.0):  # no news, news, too soon, backwards, told by the result
            progress(share)

    monkeypatch.setattr(handler_module, "make_takes", with_last_words)
    assert "takes" in given(Handler(engine, tell=tell), remote())
    assert arrived == [0.4]


def test_importing_the_handler_loads_neither_model_nor_runpod() -> None:
    code = (
        "import sys, reprompt_worker.handler; print({'torch', 'transformers', 'runpod', 'aiohttp'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_on_a_machine_of_ones_own_it_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_WEBHOOK_GET_JOB", raising=False)
    with pytest.raises(SettingsError, match="reprompt-worker run"):
        serve()


# -- with RunPod's own loop --------------------------------------------------------------------------------------------


@contextmanager
def runpod_worker(server: RunPodServer, hub: Any, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`reprompt-worker runpod` as RunPod starts it."""
    own = {
        "REPROMPT_WORKER_MODEL": hub.model,
        "REPROMPT_WORKER_DEVICE": "cpu",
        "REPROMPT_AUDIO_URL": str(folder / "never"),  # a folder of this machine, which nobody reads
        "HF_HUB_CACHE": str(hub.folder),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
        "RUNPOD_WEBHOOK_GET_JOB": f"{server.root}/job-take/pod?gpu=none",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{server.root}/job-done/pod/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{server.root}/job-stream/pod/$ID?gpu=none",
        "RUNPOD_WEBHOOK_PING": f"{server.root}/ping",
        "RUNPOD_AI_API_KEY": "of-the-worker",
        "RUNPOD_POD_ID": "pod",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "RUNPOD_LOG_LEVEL": "INFO",
    }
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reprompt_worker", "runpod"],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[Jobs]:
    """The side that asks, with a worker of its own that sends to RunPod."""
    stop = asyncio.Event()
    async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline) as jobs:
        maker = RunPodMaker(jobs)
        working = asyncio.create_task(Worker(jobs, [maker]).run(stop))
        try:
            yield jobs
        finally:
            stop.set()
            await working
            await maker.close()


def asked(seed: int, **more: Any) -> GenerationRequest:
    return GenerationRequest(words="slow sad piano", generator="runpod", seed=seed, **{"seconds": 1.0} | more)


async def until(what: Callable[[], object], *, limit_s: float = ENDS_S) -> None:
    async with asyncio.timeout(limit_s):
        while True:
            if what():
                return
            await asyncio.sleep(0.02)


def test_from_the_request_through_runpods_own_loop_to_the_audio(settings: Settings, hub: Any, tmp_path: Path) -> None:
    told = {"runpod_endpoint": "tiny", "runpod_api_key": KEY, "runpod_timeout_s": 120.0, "drain_s": 0.0}

    async def all_of_it(server: RunPodServer, process: subprocess.Popen[bytes]) -> None:
        with_runpod = Settings(
            database_url=settings.database_url, audio_url=settings.audio_url, runpod_url=server.url, **cast(Any, told)
        )
        async with asking(with_runpod) as jobs:
            server.plays(2, result=[Reply(500), Reply(500)])  # RunPod takes the result at last
            server.plays(3, result=[Reply(500)] * 3)  # and never
            requests = [asked(0, takes=3), asked(1, format="mp3"), asked(2), asked(3)]
            requests += [asked(5, prompt="a; " * 350), asked(6, takes=8, seconds=300)]
            waiting = {request.seed: await jobs.submit(request) for request in requests}
            made = {seed: await jobs.wait(waiting[seed].id, timeout_s=ENDS_S) for seed in (0, 1, 2, 5, 6)}
            for seed in (0, 1, 2):
                await check(jobs, made[seed], hub)
            # errors of the worker come in its own words
            errors = {seed: made[seed].error for seed in (5, 6)}
            assert [(seed, error and error.code) for seed, error in errors.items()] == [
                (5, "invalid"),
                (6, "too_large"),
            ]
            assert "701 tokens" in repr(errors[5])
            assert "ask for mp3" in repr(errors[6])
            # a result that RunPod never took is lost, and the worker goes on; a person may stop waiting
            await until(lambda: results(server, 3) == 3)
            waiting[4] = await jobs.submit(asked(4, seconds=300))
            async for event in jobs.events(waiting[4].id):
                if event.kind == "progress":
                    assert 0 < event.data["progress"] < 1
                    break
            for seed in (3, 4):
                await jobs.cancel(waiting[seed].id)
                assert (await jobs.wait(waiting[seed].id, timeout_s=ENDS_S)).status == "cancelled"
            await until(lambda: not server.stops)
            # told to stop, it finishes what it has
            last = await jobs.submit(asked(7, seconds=10))
            await until(lambda: server.jobs_of(7) and server.jobs_of(7)[0].status == "IN_PROGRESS")
            process.send_signal(signal.SIGTERM)
            await check(jobs, await jobs.wait(last.id, timeout_s=ENDS_S), hub)
            assert await asyncio.to_thread(process.wait, ENDS_S) == 0
        assert [server.posts(seed) for seed in range(8)] == [1] * 8
        assert [results(server, seed) for seed in range(8)] == [1, 1, 3, 3, 0, 1, 1, 1]
        assert [seed for seed in range(8) if server.cancels(seed)] == [3, 4]
        for job in server.jobs.values():  # a late word of progress would undo a result
            words = ["IN_PROGRESS" in said.values() for id, said in server.results if id == job.id]
            assert words == sorted(words, reverse=True)
        assert not (tmp_path / "never").exists()

    with RunPodServer() as server, runpod_worker(server, hub, tmp_path) as process:
        try:
            asyncio.run(all_of_it(server, process))
        except BaseException:
            print((tmp_path / "worker.log").read_text()[-5000:])
            raise


def results(server: RunPodServer, seed: int) -> int:
    """How often the worker posted a result of a generation."""
    (job,) = server.jobs_of(seed)
    return sum(id == job.id and said.get("status") != "IN_PROGRESS" for id, said in server.results)


async def check(jobs: Jobs, made: Generation, hub: Any) -> None:
    """It succeeded, at once, with all its audio and nothing else."""
    assert (made.status, made.error, made.attempts) == ("succeeded", None, 1)
    assert (made.model, made.model_revision) == (hub.model, hub.commit)
    assert made.timings_ms.keys() >= {"making", "runpod_queue", "runpod_run"}
    assert [(take.number, take.seed) for take in made.takes] == [
        (k, made.request.seed + k) for k in range(made.request.takes)
    ]
    assert sorted(await jobs.store.keys(made.id)) == sorted(made.key(take) for take in made.takes)
