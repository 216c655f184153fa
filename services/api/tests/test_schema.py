"""The OpenAPI document: whole, true, and the viewer of it."""

import re

import pytest
from reprompt_api import ApiSettings, create_app

pytestmark = pytest.mark.xdist_group("api-plain")

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def document(server):
    with server.client() as client:
        answer = client.get("/schema/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        return answer.json()


def operations(document):
    return [(path, method, op) for path, item in document["paths"].items() for method, op in item.items()]


def resolved(document, value):
    """What a reference points to."""
    while "$ref" in value:
        found = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def test_every_route_is_in_it_and_nothing_else(document):
    app = create_app(ApiSettings())
    there = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS" and not route.path.startswith(("/schema", "/page")) and route.path != "/"
    }
    assert document["openapi"].startswith("3.1")
    assert {(path, method) for path, method, _ in operations(document)} == there


def test_every_reference_leads_somewhere(document):
    references = re.findall(r'"\$ref":\s*"(#[^"]+)"', str(document).replace("'", '"'))
    assert len(references) > 100
    for reference in references:
        assert resolved(document, {"$ref": reference})


def test_every_field_is_described_with_an_example(document):
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, prop in schema["properties"].items():
            where = f"{name}.{field}"
            is_nested = "$ref" in str(prop)
            assert prop.get("description") or is_nested, where
            is_told = {"examples", "enum", "default"} & set(prop) or "enum" in str(prop) or is_nested
            assert is_told or prop.get("type") == "boolean", where


def test_bodies_refuse_what_is_unknown(document):
    for _, _, operation in operations(document):
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            assert list(content) == ["application/json"]
            assert content["application/json"]["example"]
            schema = resolved(document, content["application/json"]["schema"])
            assert schema["additionalProperties"] is False
            assert set(content["application/json"]["example"]) <= set(schema["properties"])


def test_every_answer_is_described(document):
    names = set()
    for path, _, operation in operations(document):
        names.add(operation["operationId"])
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        for parameter in operation["parameters"]:
            told = resolved(document, parameter)
            assert told["description"], told
            assert "null" not in str(told["schema"])
        for status, answer in operation["responses"].items():
            told = resolved(document, answer)
            assert told["description"]
            assert "X-Request-ID" in told["headers"]
            if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                assert list(told["content"]) == [PROBLEM]
                assert told["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
            if status in {"429", "503"} and path.startswith("/v1/"):
                assert "Retry-After" in told["headers"]
        if path.startswith("/v1/"):
            assert {"401", "429", "500", "503", "504"} <= set(operation["responses"])
    assert len(names) == len(operations(document))


def test_the_example_of_the_metrics_is_one_of_them(document, client):
    answer = document["paths"]["/metrics"]["get"]["responses"]["200"]
    name = answer["content"]["text/plain"]["example"].split()[0]
    assert f"\n{name} " in client.get("/metrics").text


def test_types_of_sound_and_events(document):
    audio = document["paths"]["/v1/generations/{id}/takes/{number}/audio"]["get"]["responses"]
    assert set(audio["200"]["content"]) == {"audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"}
    assert {"206", "304", "416"} <= set(audio)
    events = document["paths"]["/v1/generations/{id}/events"]["get"]["responses"]["200"]["content"]
    assert list(events) == ["text/event-stream"]
    create = document["paths"]["/v1/generations"]["post"]
    assert set(create["responses"]["202"]["headers"]) >= {"Location", "Preference-Applied", "RateLimit-Limit"}
    assert {p.get("name") for p in create["parameters"]} >= {"Idempotency-Key", "Prefer"}


def test_the_viewer_loads_one_script_and_runs_none_of_its_own(client):
    page = client.get("/schema")
    policy = page.headers["content-security-policy"]
    (script,) = re.findall(r'<script src="([^"]+)" integrity="sha384-[\w+/=]{64}" crossorigin', page.text)
    assert re.fullmatch(r"https://[\w.]+/npm/@scalar/api-reference@\d+\.\d+\.\d+/[\w./]+\.js", script)
    assert f"script-src {script};" in policy
    assert "style-src 'unsafe-inline'" in policy  # the viewer's own; nowhere else
    assert re.findall(r"<script[^>]*>([^<]+)</script>", page.text) == []
    for path in ("/", "/v1/corpora", "/schema/openapi.json", "/livez"):
        assert "unsafe" not in client.get(path).headers["content-security-policy"]
        assert "https:" not in client.get(path).headers["content-security-policy"]
