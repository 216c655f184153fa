"""POST /v1/prompts: the Reprompt JSON, and what is said of it at /schema."""

import msgspec
import pytest
from reprompt_core import reprompt

pytestmark = pytest.mark.xdist_group("api-plain")

WORDS = "a bowl of spicy ramen under neon signs, no drums"


def test_the_answer_is_the_reprompt_json(client):
    answer = client.post("/v1/prompts", json={"words": WORDS, "refiner": "rules"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = reprompt(WORDS, refiner="rules").to_dict()
    got = answer.json()
    del got["timings_ms"], expected["timings_ms"]
    assert got == expected
    assert got["plan"]["exclude"] == ["drums"]


def test_modes(client):
    off = client.post("/v1/prompts", json={"words": WORDS, "mode": "off"}).json()
    assert off["prompt"] == WORDS
    appended = client.post("/v1/prompts", json={"words": WORDS, "mode": "append"}).json()
    assert appended["prompt"].startswith(f"{WORDS}. ")


def test_corpora_and_licences_are_filters(client, is_problem):
    body = {"words": WORDS, "corpora": ["reprompt"], "licenses": ["MIT"]}
    found = client.post("/v1/prompts", json=body).json()
    assert {c["corpus"] for c in found["captions"]} == {"reprompt"}
    unknown = is_problem(client.post("/v1/prompts", json={"words": WORDS, "corpora": ["nowhere"]}), 422)
    assert "nowhere" in unknown["detail"]
    assert unknown["errors"][0]["pointer"] == "/corpora/0"
    body = {"words": WORDS, "corpora": ["reprompt"], "licenses": ["MIT", "WTFPL"]}
    other = is_problem(client.post("/v1/prompts", json=body), 422)
    assert other["errors"] == [{"pointer": "/licenses/1", "detail": other["detail"]}]
    none = is_problem(client.post("/v1/prompts", json={"words": WORDS, "corpora": []}), 422)
    assert none["errors"][0]["pointer"] == "/corpora"


def test_the_described_answer_is_the_answer(client):
    from reprompt_api.answer_schema import RepromptView

    for words in (WORDS, "hello", "sad piano in A minor at 70 bpm", "una sopa caliente, sin batería"):
        content = client.post("/v1/prompts", json={"words": words}).content
        view = msgspec.json.decode(content, type=RepromptView)  # nothing that is described is missing or different
        assert msgspec.to_builtins(view) == msgspec.json.decode(content)  # nothing is there that is not described


def test_catalogue(client):
    (corpus,) = client.get("/v1/corpora").json()
    assert (corpus["name"], corpus["license"]) == ("reprompt", "MIT")
    assert corpus["captions"] > 100
    places = {place["generator"]: place for place in client.get("/v1/generators").json()}
    assert set(places) == {"preview", "musicgen", "runpod"}
    assert places["preview"]["available"] is True
    assert places["runpod"]["available"] is False


def test_health(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"ready": True, "not_ready": []}
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    client.post("/v1/prompts", json={"words": WORDS, "mode": "off"})
    client.get("/v1/generations/3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55")
    client.request("BREW", "/v1/prompts")
    text = client.get("/metrics").text
    assert 'reprompt_prompts_total{mode="off",refiner="rules"}' in text
    assert 'route="/v1/generations/{id}"' in text
    assert "3f0c9c1e" not in text
    assert "BREW" not in text
    assert "process_resident_memory_bytes" in text


def test_page_and_its_files(client, is_problem):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    file = client.get("/page/index.html")
    assert file.content == page.content
    is_problem(client.get("/page/../settings.txt"), 404)
    is_problem(client.get("/page/%2e%2e/settings.txt"), 404)
    is_problem(client.get("/page/nothing.js"), 404)


def test_a_browser_that_has_the_page_is_told_so(client):
    for path, kind in (("/", "text/html"), ("/page/main.js", "text/javascript"), ("/page/base.css", "text/css")):
        file = client.get(path)
        assert file.headers["content-type"] == f"{kind}; charset=utf-8"
        assert file.headers["cache-control"] == "no-cache"  # asked for anew, and answered in few bytes
        again = client.get(path, headers={"If-None-Match": f"W/{file.headers['etag']}"})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", file.headers["etag"])
        assert client.get(path, headers={"If-None-Match": '"another"'}).content == file.content
