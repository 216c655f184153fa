"""Where audio comes from: folders, the queue, and APIs, one of them real and others that answer what none should."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import soundfile
from experiments import make_audio, make_plan, manifest_of, run_plan
from reprompt_core import Pipeline, Settings, embedded
from reprompt_core.generation.jobs import Jobs
from reprompt_eval import sources
from reprompt_eval.errors import AudioFileError, RunFolderError
from reprompt_eval.plan import ARMS
from reprompt_eval.run_folder import Prompt
from reprompt_eval.sources import Take
from sounds import tune, write

pytestmark = pytest.mark.xdist_group("experiment")
RAMEN = Prompt("ramen", "a bowl of spicy ramen", {}, {})
KEY = "key-of-the-evaluation-5f1c7a"


def _take(generator: str, *, arm: str = "rules", run: str = "run", pipeline: Any = None) -> Take:
    async def take() -> Take:
        async with sources.source_of(generator, pipeline=pipeline, run=run) as source:
            return await source.audio(RAMEN, "Fast brass, spicy and bright", ARMS[arm], 3, 1)

    return asyncio.run(take())


# -- a folder ----------------------------------------------------------------------------------------------------


def test_what_a_folder_lacks_fails_by_itself_and_is_told(tmp_path: Path) -> None:
    audio = make_audio(tmp_path / "audio")
    (audio / "ramen-raw-3.wav").unlink()
    (audio / "ramen-raw-5.wav").rename(audio / "ramen-RAW-5.wav")
    (audio / "rain-raw-3.wav").write_text("no audio")
    write(audio / "rain-raw-5.wav", 0 * tune(1))
    (audio / "rain-rules-5.wav").unlink()
    write(audio / "rain-rules-5.flac", tune(1))
    folder = tmp_path / "run"
    plan = make_plan(tmp_path, generator=str(audio))
    run_plan(plan, folder)
    errors = {f"{r['prompt_id']}-{r['arm']}-{r['seed']}": r["error"] for r in manifest_of(folder) if "error" in r}
    assert errors.keys() == {"ramen-raw-3", "ramen-raw-5"}
    assert all(f"There is no {name}.wav (or .flac, .ogg, .mp3)" in why for name, why in errors.items())
    left_out = {i["file"]: i["reason"] for i in json.loads((folder / "measures.json").read_text())["left_out"]}
    assert left_out.keys() == {*errors, "rain-raw-3.wav", "rain-raw-5.wav"}
    assert left_out["ramen-raw-3"] == errors["ramen-raw-3"]
    assert "silent" in left_out["rain-raw-5.wav"]
    write(audio / "ramen-raw-3.wav", tune(1))  # the person adds it, and runs the same again
    run_plan(plan, folder)
    left_out = {i["file"] for i in json.loads((folder / "measures.json").read_text())["left_out"]}
    assert left_out == {"ramen-raw-5", "rain-raw-3.wav", "rain-raw-5.wav"}


def test_a_manifest_that_lies_is_not_believed(tmp_path: Path) -> None:
    audio, folder = make_audio(tmp_path / "audio"), tmp_path / "run"
    prompts = "id,words\nramen,a bowl\u2028of ramen\nrain,lluvia\n"  # U+2028 ends a line for some
    plan = make_plan(tmp_path, table=prompts, generator=str(audio))
    run_plan(plan, folder)
    rows = manifest_of(folder)
    by = {(r["prompt_id"], r["arm"], r["seed"]): r for r in rows}
    by["ramen", "raw", 3]["path"] = "audio/none.wav"
    by["ramen", "raw", 5]["sha256"] = "0" * 64
    del by["ramen", "rules", 3]["sha256"]
    write(folder / by["rain", "raw", 3]["path"], tune(1, seed=999))
    lines = [json.dumps(r) for r in rows] + ["3", "null", '{"path": "audio/x.wav"}', '{"prompt_id": "ñ']
    (folder / "manifest.jsonl").write_bytes("\n".join(lines).encode()[:-1])  # cut in the middle of a letter
    prompts_before = (folder / "prompts.jsonl").read_bytes()
    told = run_plan(plan, folder)
    assert next(step for step in told if step[0] == "audio") == ("audio", 4, 8)
    latest = {(r["prompt_id"], r["arm"], r["seed"]): r for r in manifest_of(folder) if "prompt_id" in r}
    for (prompt, arm, seed), row in latest.items():
        assert (folder / row["path"]).read_bytes() == (audio / f"{prompt}-{arm}-{seed}.wav").read_bytes()
    assert (folder / "prompts.jsonl").read_bytes() == prompts_before


def test_a_run_that_cannot_write_ends_with_one_clear_error(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, generator=str(make_audio(tmp_path / "audio")))
    (tmp_path / "run" / "audio" / "rain-raw-3.wav" / "in the way").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"rain-raw-3\.wav cannot be written"):
        run_plan(plan, tmp_path / "run")


# -- the queue ---------------------------------------------------------------------------------------------------


def test_what_failed_in_an_earlier_run_is_made_and_what_was_made_is_found(environment: None) -> None:
    run = uuid.uuid4().hex

    async def play() -> tuple[str, list[bytes], int]:
        async with Pipeline() as pipeline, Jobs(pipeline=pipeline) as jobs:
            queue, text = sources._Queue(jobs, "preview", run), "Fast brass, spicy"
            request = sources._request(RAMEN, text, ARMS["rules"], 3, 1, "preview")
            first = await queue._submit(request, sources._key(run, RAMEN, text, ARMS["rules"], 3, 0))
            ended = await jobs.cancel(first.id, tenant=sources._TENANT)
            async with sources.source_of("preview", pipeline=pipeline, run=run) as source:
                made = [(await source.audio(RAMEN, text, ARMS["rules"], 3, 1)).content for _ in range(2)]
                other = await source.audio(RAMEN, "Slow strings", ARMS["rules"], 3, 1)  # a run done again, rewritten
            again = await queue._submit(request, sources._key(run, RAMEN, text, ARMS["rules"], 3, 1))
            return ended.status, [*made, other.content], again.attempts

    status, made, attempts = asyncio.run(play())
    assert status == "cancelled"
    assert made[0] == made[1] != made[2]
    assert attempts == 1  # the second time it was found


# -- a real API --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(environment: None) -> Iterator[str]:
    """`python -m reprompt_api` on a port of its own choice, with a key and an empty database."""
    pytest.importorskip("reprompt_api")
    server, name = embedded.start(Settings().data_dir), f"eval_{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="reprompt-eval-") as folder, psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
        log = Path(folder) / "server.log"
        env = os.environ | {
            "REPROMPT_DATABASE_URL": f"postgresql://postgres@/{name}?host={db.info.host}",
            "REPROMPT_AUDIO_URL": f"{folder}/audio", "REPROMPT_API_KEYS": f"ada:{KEY}", "REPROMPT_API_PORT": "0",
            "REPROMPT_API_RATE_PER_MINUTE": "1000000",
        }  # fmt: skip
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", "reprompt_api"], stdout=out, stderr=out, env=env)
        try:
            yield _ready(process, log)
        finally:
            process.terminate()
            process.wait(40)
            db.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and process.poll() is None:
        told = re.search(r"listens on (http://\S+:\d+)/", log.read_text())
        if told and httpx2.get(f"{told[1]}/readyz", timeout=5, trust_env=False).status_code == 200:
            return told[1]
        time.sleep(0.05)
    raise RuntimeError(log.read_text()[-2000:])


def test_an_api_makes_a_run_once_even_when_its_manifest_is_lost(
    tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = make_plan(tmp_path, generator=api, seeds=[3]), tmp_path / "run"
    run_plan(plan, folder)
    errors = [row["error"] for row in manifest_of(folder)]
    assert len(errors) == 4
    assert all("401" in why and KEY not in why for why in errors)  # without a key each fails, and says so

    monkeypatch.setenv("REPROMPT_API_KEY", KEY)
    run_plan(plan, folder)
    made = [row for row in manifest_of(folder) if "error" not in row]
    assert len(made) == 4
    assert {soundfile.info(folder / row["path"]).duration for row in made} == {1.0}
    assert len({row["sha256"] for row in made}) == 4

    def asked() -> list[dict[str, Any]]:
        listed = httpx2.get(
            f"{api}/v1/generations?limit=100", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
        )
        return listed.json()["items"]

    before = {g["id"] for g in asked()}
    modes = {(g["request"]["mode"], g["request"]["prompt"] is None) for g in asked()}
    assert (len(before), modes) == (4, {("off", True), ("rewrite", False)})
    (folder / "manifest.jsonl").unlink()
    run_plan(plan, folder)
    assert {r["sha256"] for r in manifest_of(folder)} == {r["sha256"] for r in made}
    assert {g["id"] for g in asked()} == before  # nothing was made, and paid for, again


# -- APIs that answer what none should ---------------------------------------------------------------------------


class _Answers:
    """A server that gives these answers in turn, the last one again and again."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.seen: list[dict[str, str]] = []
        turn = iter(range(10**6))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(inner) -> None:
                inner.rfile.read(int(inner.headers.get("content-length", 0)))
                self.seen.append({k.lower(): v for k, v in inner.headers.items()} | {"path": inner.path})
                status, headers, body = answers[min(next(turn), len(answers) - 1)]
                inner.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    inner.send_header(name, value)
                inner.send_header("Content-Length", str(len(body)))
                inner.end_headers()
                inner.wfile.write(body)

            do_GET = do_POST

            def log_message(inner, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "_Answers":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _json(code: int = 200, **fields: Any) -> tuple[int, dict[str, str], bytes]:
    return code, {}, json.dumps({"id": "g1", "generator": "preview", **fields}).encode()


def _done(audio: str = "/a.wav", format: str = "wav") -> tuple[int, dict[str, str], bytes]:
    return _json(status="succeeded", takes=[{"audio": audio, "format": format}])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((502, {"Content-Type": "text/html"}, b"<h1>bad</h1>"), "/v1/generations: 502: Bad Gateway"),
        (_json(422, detail="The words are too long."), "/v1/generations: 422: The words are too long."),
        ((200, {}, b"no json"), "JSONDecodeError"),
        ((200, {}, b"[3]"), "TypeError"),
        (_json(), "KeyError: 'status'"),
        (_json(status="succeeded", takes=[]), "IndexError"),
        (_done(format="wav/../../../x"), "names no audio of its own"),
        (_done(audio="//127.0.0.2/a.wav"), "names no audio of its own"),
        (_done(audio="http://127.0.0.2/a.wav"), "names no audio of its own"),
    ],
)
def test_an_answer_that_is_no_generation_fails_by_itself(
    answer: tuple[int, dict[str, str], bytes], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROMPT_API_KEY", KEY)
    with _Answers(answer) as server, pytest.raises(AudioFileError, match=re.escape(said)) as caught:
        _take(server.url)
    assert KEY not in str(caught.value)
    assert len(server.seen) == 1
    assert server.seen[0]["authorization"] == f"Bearer {KEY}"


def test_a_server_that_is_not_there_is_told() -> None:
    with _Answers(_json()) as server:
        gone = server.url
    with pytest.raises(AudioFileError, match="ConnectError"):
        _take(gone)


def test_a_busy_api_is_asked_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_FULL_S", 0.01)
    busy = {"Retry-After": "0"}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}
    waits = [(status, headers, b"{}") for status, headers in zip((503, 429, 503), busy, strict=True)]
    sound = (200, {"Content-Type": "audio/wav"}, b"RIFF")
    with _Answers(*waits, _json(202, status="queued"), _done(), sound) as server:
        assert _take(server.url) == (b"RIFF", ".wav", "preview")
    assert [s["path"] for s in server.seen] == ["/v1/generations"] * 4 + ["/v1/generations/g1", "/a.wav"]
    assert len({s.get("idempotency-key") for s in server.seen[:4]}) == 1
    monkeypatch.setattr(sources, "_PATIENCE_S", 0.1)
    with _Answers((503, {}, b'{"detail": "full"}')) as server, pytest.raises(AudioFileError, match="503: full"):
        _take(server.url)
    assert len(server.seen) > 1


def test_a_generation_that_failed_before_is_asked_for_under_another_key() -> None:
    failed = _json(status="failed", error={"code": "crashed", "message": "its worker died"})
    with _Answers(failed, failed, _done(), (200, {}, b"RIFF")) as server:
        assert _take(server.url) == (b"RIFF", ".wav", "preview")
    keys = [s.get("idempotency-key") for s in server.seen[:3]]
    assert None not in keys
    assert len(set(keys)) == 3
    with _Answers(_json(202, status="queued"), failed) as now, pytest.raises(AudioFileError, match="its worker died"):
        _take(now.url)  # what fails now is told, not repeated
    assert now.seen[0]["idempotency-key"] == keys[0]  # the same run and piece: the same key
    with _Answers(_done(), (200, {}, b"RIFF")) as other:
        _take(other.url, run="another run")
    assert other.seen[0]["idempotency-key"] not in keys
