"""The contract of a generation at both its ends: what core sends, the API describes and the worker reads."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from reprompt_api.settings import ApiSettings
from reprompt_core.generation import GenerationRequest
from reprompt_core.generation.contract import RemoteJob, RemoteResult, RemoteTake, Take, from_json, to_json
from reprompt_core.generation.runpod_result import read_result

FROZEN = {  # version 1, as it went over the wire first: what is stored and queued must stay readable
    "job": '{"id":"0b9d1f4e-0000-4000-8000-000000000001","attempt":1,"prompt":"soft piano","seconds":10.0,"takes":1,'
    '"seed":7,"guidance":3.0,"temperature":1.0,"top_k":250,"format":"wav","version":1}',
    "request": '{"words":"slow rain","prompt":null,"mode":"rewrite","refiner":"auto","generator":"auto","seconds":10.0,'
    '"takes":1,"seed":7,"guidance":3.0,"temperature":1.0,"top_k":250,"format":"wav"}',
}


def test_version_1_is_read_and_written_as_it_was() -> None:
    job, request = from_json(FROZEN["job"], RemoteJob), from_json(FROZEN["request"], GenerationRequest)
    assert to_json(job).decode() == FROZEN["job"]
    assert to_json(request).decode() == FROZEN["request"]
    assert (job.prompt, job.seconds, job.seed) == ("soft piano", 10.0, 7)


def test_the_api_describes_the_request_that_core_takes() -> None:
    from reprompt_api.app import create_app

    schema: dict[str, Any] = create_app(ApiSettings()).openapi_schema.to_schema()
    post = schema["paths"]["/v1/generations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    described = schema["components"]["schemas"][post["$ref"].rpartition("/")[2]]
    assert set(described["properties"]) == set(GenerationRequest.__struct_fields__)
    assert described["required"] == ["words"]
    _, components = msgspec.json.schema_components([GenerationRequest])
    ours = components["GenerationRequest"]["properties"]
    for name, field in described["properties"].items():
        if name == "prompt":  # or null: the bounds stand elsewhere
            continue
        for bound in ("minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength"):
            assert field.get(bound) == ours[name].get(bound), (name, bound)


@pytest.mark.parametrize("broken", [None, "seed", "version"])
def test_a_job_of_core_is_what_the_handler_reads(broken: str | None) -> None:
    from reprompt_core import PromptError
    from reprompt_core.generation.contract import from_object

    sent = json.loads(FROZEN["job"])
    if broken == "seed":
        sent["seed"] = "7"
    elif broken == "version":
        sent["version"] = 2
    if broken is None:
        assert from_object(sent, RemoteJob) == from_json(FROZEN["job"], RemoteJob)
        return
    with pytest.raises(PromptError, match=broken):
        from_object(sent, RemoteJob)


def test_a_result_of_the_handler_is_what_core_reads() -> None:
    request = from_json(FROZEN["request"], GenerationRequest)
    take = Take(
        number=0, seed=7, format="wav", bytes=3, sha256="ab" * 32, seconds=10.0, sample_rate=32000, channels=1,
        loudness_lufs=-14.0, true_peak_dbtp=-1.2,
    )  # fmt: skip
    result = RemoteResult(takes=(RemoteTake(take=take, audio="AAAA"),), model="m", timings_ms={"making": 1.0})
    assert read_result(json.loads(to_json(result)), request) == result


def test_both_ends_import_the_same_structs() -> None:
    root = Path(__file__).parent.parent
    for source in ("services/api/src", "services/worker/src"):
        text = "\n".join(p.read_text("utf-8") for p in (root / source).rglob("*.py"))
        assert "from reprompt_core.generation.contract import" in text
        assert "class GenerationRequest" not in text
