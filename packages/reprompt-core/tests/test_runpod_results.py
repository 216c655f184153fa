"""Results of a serverless endpoint: they are what they say of themselves, to the last sample, or none."""

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from runpod_play import FINE, TAKEN, TRACE, impatient_server, message, played, put
from runpod_server import RATE, Job, RunPodServer, a_take, completed


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunPodServer]:
    with impatient_server(monkeypatch) as server:
        yield server


def claims(**changes: Any) -> Callable[[dict[str, Any], Job], None]:
    """A result that says something else of its take than is so."""
    return lambda result, job: result["takes"][0]["take"].update(changes)


def audio(content: bytes, **changes: Any) -> Callable[[dict[str, Any], Job], None]:
    """A result of another file, of which size and hash are right."""
    return lambda result, job: result.update(takes=[a_take(content, number=0, input=job.input, **changes)])


def inline(change: Callable[[str], object]) -> Callable[[dict[str, Any], Job], None]:
    return lambda result, job: result["takes"][0].update(audio=change(result["takes"][0]["audio"]))


def wav(samples: Any, *, rate: int = RATE, subtype: str = "PCM_16", format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples, np.float32), rate, subtype, format=format)
    return file.getvalue()


def broken_error(result: dict[str, Any], job: Job) -> dict[str, Any]:
    return {"error": {"code": "capacity", "message": TRACE}}


def replaced(value: object) -> Callable[[dict[str, Any], Job], object]:
    return lambda result, job: value


SILENCE = np.zeros(RATE)
BAD = ("failed", "bad_result", 1, 0)
RESULTS: dict[str, tuple[Callable[[dict[str, Any], Job], Any], Any]] = {
    "as it is": (lambda result, job: None, TAKEN),
    "a text": (replaced("done"), BAD),
    "a list": (replaced([]), BAD),
    "nothing in it": (replaced({}), BAD),
    "a field too many": (lambda result, job: result.update(more=1), BAD),
    "of another version": (lambda result, job: result.update(version=2), BAD),
    "a take too many": (lambda result, job: result["takes"].append(result["takes"][0]), BAD),
    "another take": (claims(number=1), BAD),
    "another format": (claims(format="flac"), BAD),
    "another seed": (claims(seed=999), BAD),
    "another length": (claims(seconds=1.3), BAD),
    "a length that was not asked for": (audio(wav(np.zeros(2 * RATE)), seconds=2.0), BAD),
    "another rate": (claims(sample_rate=16_000), BAD),
    "a rate without end": (claims(sample_rate=10**15), BAD),
    "other channels": (claims(channels=2), BAD),
    "a size without end": (claims(bytes=10**15), BAD),
    "another size": (claims(bytes=8), BAD),
    "another hash": (claims(sha256="0" * 64), BAD),
    "no hash": (claims(sha256="../../etc"), BAD),
    "no loudness": (claims(loudness_lufs=None), BAD),
    "too loud": (claims(loudness_lufs=5.0), BAD),
    "too quiet": (claims(true_peak_dbtp=-1e300), BAD),
    "no base64": (inline(lambda text: "\n" + text[1:]), BAD),
    "base64 for addresses": (inline(lambda text: text[:-2].replace("A", "_") + text[-2:]), BAD),
    "another letter": (inline(lambda text: text[:100] + ("B" if text[100] == "A" else "A") + text[101:]), BAD),
    "cut off": (inline(lambda text: text[:-4]), BAD),
    "an empty text": (inline(lambda text: ""), BAD),
    "no audio": (audio(b"RIFF" + bytes(200)), BAD),
    "audio of another kind": (audio(wav(SILENCE, format="FLAC")), BAD),
    "audio at another rate": (audio(wav(SILENCE, rate=RATE // 2)), BAD),
    "audio of two channels": (audio(wav(np.zeros((RATE, 2)))), BAD),
    "audio that is shorter": (audio(wav(np.zeros(RATE // 2))), BAD),
    "audio that is longer": (audio(wav(np.zeros(RATE * 3))), BAD),
    "audio without numbers": (audio(wav(np.full(RATE, np.nan), subtype="FLOAT")), BAD),
    "audio without bounds": (audio(wav(np.full(RATE, np.inf), subtype="FLOAT")), BAD),
    "more than is read": (lambda result, job: result.update(model="x" * (17 << 20)), BAD),
    "an error": (
        replaced({"error": {"code": "capacity", "message": "Not enough memory."}}),
        ("failed", "capacity", 1, 0),
    ),
    "an error with a traceback": (broken_error, ("failed", "capacity", 1, 0)),
    "an error of no kind": (replaced({"error": {"code": "new", "message": "x"}}), BAD),
    "uploaded, but not there": (inline(lambda text: None), BAD),
}


def test_a_result_is_what_it_says_or_none(url: str, server: RunPodServer, tmp_path: Path) -> None:
    def upload(change: Callable[[bytes], bytes]) -> Callable[[dict[str, Any], Job], None]:
        def step(result: dict[str, Any], job: Job) -> None:
            put(tmp_path, result, job, change)

        return step

    plays: dict[str, dict[str, Any]] = {name: {"status": [completed(change)]} for name, (change, _) in RESULTS.items()}
    expected = {name: outcome for name, (_, outcome) in RESULTS.items()}
    for format in ("wav", "flac", "ogg", "mp3"):
        plays[f"takes in {format}"] = {"status": FINE, "asked": {"takes": 3, "format": format}}
        plays[f"uploaded in {format}"] = {
            "status": [completed(upload(lambda content: content))],
            "asked": {"takes": 2, "format": format},
        }
        expected[f"takes in {format}"] = expected[f"uploaded in {format}"] = TAKEN
    plays["uploaded in part"] = {"status": [completed(upload(lambda content: content[:-1]))]}
    plays["uploaded otherwise"] = {"status": [completed(upload(lambda content: content[:-1] + b"\x55"))]}
    expected["uploaded in part"] = expected["uploaded otherwise"] = BAD
    outcomes, ended = asyncio.run(played(url, server, tmp_path, plays))
    assert outcomes == expected
    assert message(ended["an error"]) == "Not enough memory."
    assert "REPROMPT_AUDIO_URL" in message(ended["uploaded, but not there"])
    # each is refused for its own reason
    for name, reason in (
        ("no base64", "is not base64"),
        ("base64 for addresses", "is not base64"),
        ("cut off", "has not the 16044 bytes"),
        ("another letter", "another hash"),
        ("no audio", "is no audio"),
        ("audio without bounds", "samples that are no numbers"),
        ("audio that is longer", "of another length"),
        ("uploaded in part", "of which 16043 were uploaded"),
        ("a take too many", "holds takes [0, 0], not 1"),
        ("more than is read", "over 16 MiB"),
    ):
        assert reason in message(ended[name]), (name, message(ended[name]))
