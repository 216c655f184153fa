"""The contract of a generation: what goes in comes out, every bound holds, what is not in it is refused."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import reprompt_core
from reprompt_core import PromptError
from reprompt_core.generation import FORMATS
from reprompt_core.generation.contract import (
    CONTENT_TYPES,
    TERMINAL,
    VERSION,
    Format,
    Generation,
    GenerationError,
    GenerationRequest,
    Place,
    RemoteJob,
    RemoteResult,
    RemoteTake,
    Status,
    Take,
    audio_key,
    from_json,
    from_object,
    to_json,
)

ID = "0b9d1f4e-0000-4000-8000-000000000001"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
REQUEST = GenerationRequest(words="slow rain", prompt="soft piano", seconds=12.5, takes=2, seed=7, format="flac")
TAKE = Take(
    number=1, seed=8, format="flac", bytes=3, sha256="ab" * 32, seconds=12.5, sample_rate=32000, channels=2,
    loudness_lufs=-14.0, true_peak_dbtp=-1.1,
)  # fmt: skip
ERROR = GenerationError(code="timeout", message="No result by the deadline.")
GENERATION = Generation(
    id=ID, status="succeeded", generator="preview", request=REQUEST, reprompt={"prompt": "soft piano", "plan": {}},
    priority=3, attempts=2, progress=1.0, created_at=AT, started_at=AT, finished_at=AT, model="m", model_revision="r",
    takes=(TAKE,), timings_ms={"making": 1.5},
)  # fmt: skip
JOB = RemoteJob(
    id=ID, attempt=1, prompt="soft piano", seconds=1.0, takes=8, seed=0, guidance=3.0, temperature=1.0, top_k=0,
    format="mp3",
)  # fmt: skip
RESULT = RemoteResult(takes=(RemoteTake(take=TAKE, audio="UklGRg=="),), model="m", timings_ms={"making": 2.0})
ALL = [REQUEST, TAKE, ERROR, GENERATION, JOB, RESULT, RemoteResult(error=ERROR)]
CLOSED = [REQUEST, JOB, RESULT, RESULT.takes[0]]  # what comes from elsewhere


@pytest.mark.parametrize("value", ALL, ids=lambda v: type(v).__name__)
def test_what_goes_in_comes_out(value: msgspec.Struct) -> None:
    assert from_json(to_json(value), type(value)) == value
    assert from_object(json.loads(to_json(value)), type(value)) == value
    assert to_json(from_json(to_json(value), type(value))) == to_json(value)


@pytest.mark.parametrize("value", CLOSED, ids=lambda v: type(v).__name__)
def test_a_field_that_is_not_in_it_is_refused_by_name(value: msgspec.Struct) -> None:
    with pytest.raises(PromptError, match="colour"):
        from_object({**msgspec.to_builtins(value), "colour": "red"}, type(value))


BOUNDS = [
    # field, what is taken, what is refused
    ("words", ["x", "x" * 2000], ["", "x" * 2001, None, 7]),
    ("prompt", ["x", "x" * 2000, None], ["", "x" * 2001, 7]),
    ("mode", ["rewrite", "append", "off"], ["", "Rewrite", None]),
    ("refiner", ["auto", "llm", "rules"], ["person", None]),
    ("generator", ["auto", "preview", "musicgen", "runpod"], ["", "gpu", None]),
    ("seconds", [1, 1.0, 300], [0.999, 300.001, -1, "10", None, True]),
    ("takes", [1, 8], [0, 9, 1.5, "1", None, True]),
    ("seed", [0, 2**53 - 1], [-1, 2**53, 0.5, "1", None]),
    ("guidance", [1, 20.0], [0.99, 20.01, None]),
    ("temperature", [0.0001, 10], [0, -1, 10.01, None]),
    ("top_k", [0, 2048], [-1, 2049, 0.5]),
    ("format", ["wav", "flac", "ogg", "mp3"], ["WAV", "aac", "", None]),
]


def test_every_field_of_a_request_has_its_bounds_tried() -> None:
    assert [name for name, _, _ in BOUNDS] == list(GenerationRequest.__struct_fields__)


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, good, _ in BOUNDS for v in good])
def test_within_its_bounds_a_field_is_taken(field: str, value: Any) -> None:
    request = from_object({"words": "rain", field: value}, GenerationRequest)
    assert getattr(request, field) == value


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, _, bad in BOUNDS for v in bad])
def test_outside_its_bounds_a_field_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(PromptError, match=rf"\$\.{field}"):
        from_object({"words": "rain", field: value}, GenerationRequest)


@pytest.mark.parametrize("field", ["seconds", "guidance", "temperature"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(field: str, value: float) -> None:
    with pytest.raises(PromptError):
        from_object({"words": "rain", field: value}, GenerationRequest)


@pytest.mark.parametrize("change", [{"sha256": "AB" * 32}, {"sha256": "ab"}, {"bytes": 0}, {"channels": 0},
                                    {"seconds": 0}, {"number": -1}, {"format": "aac"}])  # fmt: skip
def test_a_take_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match=next(iter(change))):
        from_object({**msgspec.to_builtins(TAKE), **change}, Take)


@pytest.mark.parametrize("change", [{"id": "../../etc"}, {"attempt": 0}, {"prompt": ""}, {"seconds": 301}])
def test_a_remote_job_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match=next(iter(change))):
        from_object({**msgspec.to_builtins(JOB), **change}, RemoteJob)


@pytest.mark.parametrize("value", [GENERATION, JOB, RESULT], ids=lambda v: type(v).__name__)
def test_another_version_is_refused_and_a_missing_one_is_this_one(value: Any) -> None:
    plain = msgspec.to_builtins(value)
    assert plain.pop("version") == VERSION
    assert from_object(plain, type(value)) == value
    for other in (0, VERSION + 1, "1", None):
        with pytest.raises(PromptError, match="version"):
            from_object({**plain, "version": other}, type(value))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b'{"words": "\xff"}', b'{"words": "a"} x', b"[" * 100_000, b'{"words": NaN}']
)
def test_what_is_no_request_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(PromptError, match="Not a GenerationRequest"):
        from_json(content, GenerationRequest)


def test_a_generation_knows_its_end_its_prompt_and_where_its_audio_lies() -> None:
    assert GENERATION.prompt == "soft piano"
    assert GENERATION.key(TAKE) == audio_key(ID, 2, TAKE.sha256, "flac") == f"{ID}/2/{'ab' * 32}.flac"
    for status in get_args(Status):
        again = from_object({**msgspec.to_builtins(GENERATION), "status": status}, Generation)
        assert again.done == (status in TERMINAL)
    assert {"succeeded", "failed", "cancelled"} == TERMINAL


def test_what_is_named_twice_is_named_the_same() -> None:
    assert set(get_args(Format)) == set(FORMATS) == set(CONTENT_TYPES)
    migration = Path(reprompt_core.__file__).parent / "sql" / "0005_generations.sql"
    listed = {line.strip() for line in migration.read_text("utf-8").replace("CHECK", "\nCHECK").splitlines()}
    assert f"CHECK (status IN {get_args(Status)})".replace(",)", ")") in {line.rstrip(",") for line in listed}
    assert f"CHECK (generator IN {get_args(Place)})," in listed


def test_a_number_is_the_same_request_whole_or_not() -> None:
    whole, broken = from_object({"words": "a", "seconds": 10}, GenerationRequest), GenerationRequest(words="a")
    assert to_json(whole) == to_json(from_object(msgspec.to_builtins(broken), GenerationRequest))
    assert whole.seconds == 10.0
