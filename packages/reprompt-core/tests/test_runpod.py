"""RunPod as a place to make music: whatever RunPod answers ends well, and is paid for once."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reprompt_core import Settings, SettingsError
from reprompt_core.generation import Jobs, RunPodMaker
from reprompt_core.generation import runpod as runpod_module
from runpod_play import (
    ENDS_S,
    FINE,
    SHORT_S,
    TAKEN,
    TRACE,
    impatient_server,
    jobs_of,
    message,
    played,
    request,
    rows,
    worker_of,
)
from runpod_server import HANG, KEY, RESET, Reply, RunPodServer, Step, completed

OURS = '{"error":{"code":"too_large","message":"The audio makes 12.0 MB: ask for mp3."},"version":1}'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunPodServer]:
    with impatient_server(monkeypatch) as server:
        yield server


# -- submitting --------------------------------------------------------------------------------------------------------

REFUSED = ("failed", "refused", 1, 0)
UNKNOWN = ("failed", "unknown", 1, 0)

SUBMITTED: dict[str, tuple[Reply | None, Any]] = {
    **{f"{status}": (Reply(status, b"no " + KEY.encode()), REFUSED) for status in (400, 401, 402, 403, 404, 413, 307)},
    **{f"{status}": (Reply(status), UNKNOWN) for status in (408, 500, 502, 503)},
    "reset": (RESET, UNKNOWN),
    "cut off": (Reply(body=b'{"id": "job-1"}', cut_after=5), UNKNOWN),
    "no id": (Reply(body=b'{"status": "IN_QUEUE"}'), UNKNOWN),
    "an id that is none": (Reply(body=b'{"id": "../health"}'), UNKNOWN),
    "no JSON": (Reply(body=b"<html>"), UNKNOWN),
    "another JSON": (Reply(body=b"[1]"), UNKNOWN),
    "nothing": (Reply(), UNKNOWN),
    "taken": (None, TAKEN),
}


def test_a_submission_ends_well_whatever_is_answered(url: str, server: RunPodServer, tmp_path: Path) -> None:
    plays = {name: {"run": [reply], "status": FINE} for name, (reply, _) in SUBMITTED.items()}
    expected = {name: outcome for name, (_, outcome) in SUBMITTED.items()}
    # what was certainly not taken is sent again
    plays["rate limit"] = {"run": [Reply(429), Reply(429)], "status": FINE}
    plays["rate limit, in seconds"] = {"run": [Reply(429, headers={"Retry-After": "1"})], "status": FINE}
    plays["rate limit, too long"] = {"run": [Reply(429, headers={"Retry-After": "600"})] * 2, "status": FINE}
    plays["rate limit, then an error"] = {"run": [Reply(429), Reply(500)], "status": FINE}
    expected["rate limit"] = ("succeeded", None, 3, 0)
    expected["rate limit, in seconds"] = ("succeeded", None, 2, 0)
    expected["rate limit, too long"] = ("failed", "timeout", 1, 0)
    expected["rate limit, then an error"] = ("failed", "unknown", 2, 0)
    outcomes, ended = asyncio.run(played(url, server, tmp_path, plays))
    assert outcomes == expected
    policies = {tuple(job.policy.items()) for job in server.jobs.values()}
    assert policies == {(("executionTimeout", 60_000), ("ttl", 120_000))}
    # what a person is told to do
    lost = ended["reset"]
    assert "billed, or not: no answer came (ReadError). It was not sent again." in message(lost)
    assert f"input id {lost.id}" in message(lost)
    assert lost.id in [input["id"] for input in server.posted]
    assert "REPROMPT_RUNPOD_API_KEY" in message(ended["401"])
    assert "REPROMPT_RUNPOD_ENDPOINT" in message(ended["404"])
    assert "Nothing was submitted" in message(ended["rate limit, too long"])


def test_an_address_where_nobody_listens_is_tried_until_the_time_is_over(url: str, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        with RunPodServer() as gone:
            pass
        async with jobs_of(url, gone, tmp_path, runpod_timeout_s=2.0) as jobs, worker_of(jobs):
            ended = await jobs.wait((await jobs.submit(request(0))).id, timeout_s=ENDS_S)
            assert ended.error
            assert ended.error.code == "timeout"
            assert "Nothing was submitted to RunPod: there is no connection to 127.0.0.1" in message(ended)
            ((remote,),) = await rows(jobs, "SELECT remote FROM reprompt.generations")
            assert remote == {"state": "waiting"}

    asyncio.run(all_of_it())


def test_without_an_endpoint_there_is_no_maker(url: str) -> None:
    with pytest.raises(SettingsError, match="REPROMPT_RUNPOD_ENDPOINT"):
        RunPodMaker(Jobs(Settings(database_url=url)))


# -- following ---------------------------------------------------------------------------------------------------------


def running(output: Any) -> dict[str, Any]:
    return {"status": "IN_PROGRESS", "output": output}


FOLLOWED: dict[str, tuple[list[Step], Any]] = {
    "all the way": (["IN_QUEUE", "IN_PROGRESS", "RUNNING", *FINE], TAKEN),
    "one fault after another": (
        ["IN_PROGRESS", Reply(429), Reply(500), RESET, Reply(body=b"<html>", cut_after=3), Reply(body=b"<"), *FINE],
        TAKEN,
    ),
    "no object": ([Reply(body=b"null"), Reply(body=b"[]"), Reply(body=b'{"status": 7}'), *FINE], TAKEN),
    "no answer, then one": ([HANG, Reply(body=b'{"status"', stall_after=4), *FINE], TAKEN),
    "a pause asked for": ([Reply(429, headers={"Retry-After": "1"}), *FINE], TAKEN),
    "progress of every kind": (
        [*map(running, ("50%", {"progress": -1}, {"progress": [1]}, {"progress": True})), *FINE],
        TAKEN,
    ),
    "progress without end": (
        [Reply(body=b'{"status": "IN_PROGRESS", "output": {"progress": 1e999}}'), running({"progress": 7}), *FINE],
        TAKEN,
    ),
    "progress after the result": ([completed(), running({"progress": 0.5})], TAKEN),
    "a result twice": ([completed(), completed()], TAKEN),
    "unknown twice": ([Reply(404), Reply(404), *FINE], TAKEN),
    "unknown now and then": ([Reply(404), Reply(404), "IN_QUEUE", Reply(404), Reply(404), *FINE], TAKEN),
    "expired": ([Reply(404)], ("failed", "expired", 1, 0)),
    "expired while it ran": (["IN_PROGRESS", Reply(404)], ("failed", "expired", 1, 0)),
    "key withdrawn": (["IN_QUEUE", Reply(401)], ("failed", "refused", 1, 0)),
    "failed with a traceback": ([{"status": "FAILED", "error": f"{TRACE} {KEY}"}], ("failed", "crashed", 1, 0)),
    "failed with the SDK's error": (
        [{"status": "FAILED", "error": '{"error_type": "x", "error_traceback": "Traceback (most recent"}'}],
        ("failed", "crashed", 1, 0),
    ),
    "failed with an object": ([{"status": "FAILED", "error": {"trace": TRACE}}], ("failed", "crashed", 1, 0)),
    "failed without a word": (["FAILED"], ("failed", "crashed", 1, 0)),
    "failed as our worker fails": ([{"status": "FAILED", "error": OURS}], ("failed", "too_large", 1, 0)),
    "failed with a traceback in our words": (
        [{"status": "FAILED", "error": {"error": {"code": "internal", "message": TRACE}}}],
        ("failed", "crashed", 1, 0),
    ),
    "cancelled there": (["CANCELLED"], ("failed", "refused", 1, 0)),
    "timed out there": (["TIMED_OUT"], ("failed", "timeout", 1, 0)),
    "a new word": (["PAUSED"], ("failed", "bad_result", 1, 1)),
}


def test_a_job_ends_well_whatever_runpod_says_of_it(
    url: str, server: RunPodServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runpod_module, "_ANSWER_S", 1.0)  # some do not answer at first
    plays: dict[str, dict[str, Any]] = {name: {"status": steps} for name, (steps, _) in FOLLOWED.items()}
    with caplog.at_level(logging.DEBUG, logger=runpod_module.__name__):
        outcomes, ended = asyncio.run(played(url, server, tmp_path, plays))
    assert outcomes == {name: outcome for name, (_, outcome) in FOLLOWED.items()}
    assert message(ended["failed as our worker fails"]) == "The audio makes 12.0 MB: ask for mp3."
    assert message(ended["failed with a traceback"]).startswith("The job failed at RunPod; the log of its worker says")
    # what RunPod says of a failure is in the log, for who asks for it
    traces = {record.levelno for record in caplog.records if "ZeroDivisionError" in record.getMessage()}
    assert traces == {logging.DEBUG}
    assert KEY not in caplog.text


def test_progress_is_passed_on(url: str, server: RunPodServer, tmp_path: Path) -> None:
    async def all_of_it() -> None:
        server.plays(0, status=[running({"progress": share}) for share in (0.25, 0.75, 0.5)])
        told: list[float] = []
        async with jobs_of(url, server, tmp_path) as jobs, worker_of(jobs):
            async for event in jobs.events((await jobs.submit(request(0))).id):
                if event.kind == "progress":
                    told.append(event.data["progress"])
                if told[-1:] == [0.75]:
                    server.plays(0, status=FINE)
        assert told == sorted(told)
        assert 0.75 in told

    asyncio.run(all_of_it())


# -- until the time is over --------------------------------------------------------------------------------------------

TIMED_OUT = ("failed", "timeout", 1, 1)
ENDLESS: dict[str, tuple[dict[str, Any], Any]] = {
    "no answer": ({"run": [HANG]}, UNKNOWN),
    "half an answer": ({"run": [Reply(body=b'{"id": "job-1"', stall_after=5)]}, UNKNOWN),
    "errors": ({"status": [Reply(500, TRACE.encode())]}, TIMED_OUT),
    "garbage": ({"status": [Reply(body=b"\xff\x00")]}, TIMED_OUT),
    "silence": ({"status": [HANG]}, TIMED_OUT),
    "resets": ({"status": [RESET]}, TIMED_OUT),
    "work": ({"status": ["IN_PROGRESS"]}, TIMED_OUT),
    "work that cannot be cancelled": ({"status": ["IN_PROGRESS"], "cancel": HANG}, TIMED_OUT),
}


def test_what_never_ends_there_ends_here(url: str, server: RunPodServer, tmp_path: Path) -> None:
    plays = {name: play for name, (play, _) in ENDLESS.items()}
    plays["rate limit"] = {"run": [Reply(429)] * 100}
    outcomes, ended = asyncio.run(played(url, server, tmp_path, plays, timeout_s=SHORT_S))
    *ends, posts, cancels = outcomes.pop("rate limit")
    assert (ends, cancels) == (["failed", "timeout"], 0)
    assert 1 < posts < 8
    assert outcomes == {name: outcome for name, (_, outcome) in ENDLESS.items()}
    policies = {tuple(job.policy.items()) for job in server.jobs.values()}
    assert policies == {(("executionTimeout", 5000), ("ttl", 64_000))}
    assert "asked to end" in message(ended["work"])
    assert "REPROMPT_RUNPOD_TIMEOUT_S" in message(ended["work"])
