"""Generations over HTTP: made, waited for, listed by pages, heard, cancelled, removed."""

import base64
import re
import uuid

import pytest

pytestmark = pytest.mark.xdist_group("api-plain")

NOBODY = "3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55"


@pytest.fixture(scope="module")
def made(server):
    """A generation of two takes that succeeded."""
    with server.client() as client:
        answer = client.post(
            "/v1/generations",
            json={"words": "slow rain on a tin roof", "seconds": 2.5, "takes": 2, "seed": 7, "generator": "preview"},
            headers={"Prefer": "wait=30"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


def waiting(client, **more):
    """One that nobody will make: there is no MusicGen worker."""
    answer = client.post("/v1/generations", json={"words": "slow rain", "generator": "musicgen", **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_accepted_and_then_made(client):
    answer = client.post("/v1/generations", json={"words": "a quiet harbour at dawn", "seconds": 1})
    assert answer.status_code == 202
    generation = answer.json()
    assert answer.headers["location"] == f"/v1/generations/{generation['id']}"
    assert generation["status"] in {"queued", "running"}
    assert generation["takes"] == []
    assert generation["reprompt"]["words"] == "a quiet harbour at dawn"
    again = client.get(answer.headers["location"]).json()
    assert again["id"] == generation["id"]


def test_waited_for(made):
    assert made["status"] == "succeeded"
    assert made["is_preview"] is True
    assert made["progress"] == 1
    assert [take["number"] for take in made["takes"]] == [0, 1]
    assert [take["seed"] for take in made["takes"]] == [7, 8]
    assert made["takes"][1]["audio"] == f"/v1/generations/{made['id']}/takes/1/audio"
    assert made["request"]["seconds"] == 2.5
    assert made["created_at"] <= made["started_at"] <= made["finished_at"]


def test_a_wait_that_is_over_answers_202(client):
    answer = client.post(
        "/v1/generations", json={"words": "slow rain", "generator": "musicgen"}, headers={"Prefer": "wait=1"}
    )
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.json()["status"] == "queued"


def test_preferences_that_are_not_understood_are_passed_over(client):
    for prefer in ("respond-async", "wait=soon", "wait", "", "x" * 500):
        answer = client.post(
            "/v1/generations", json={"words": "slow rain", "generator": "musicgen"}, headers={"Prefer": prefer}
        )
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers
    longest = client.post(
        "/v1/generations",
        json={"words": "slow rain", "seconds": 1},
        headers={"Prefer": "respond-async, wait=99999"},
    )
    assert longest.headers["preference-applied"] == "wait=30"


def test_the_same_key_is_the_same_generation(client, is_problem):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"words": "slow rain", "generator": "musicgen"}
    first = client.post("/v1/generations", json=body, headers=key)
    second = client.post("/v1/generations", json=body, headers=key)
    assert second.json()["id"] == first.json()["id"]
    other = is_problem(client.post("/v1/generations", json={**body, "seed": 1}, headers=key), 409)
    assert "key" in other["detail"]
    null = client.post("/v1/generations", json=body, headers={"Idempotency-Key": "null"}).json()
    assert client.post("/v1/generations", json=body, headers={"Idempotency-Key": "null"}).json()["id"] == null["id"]
    for bad in ("", "two words", "x" * 256, "né".encode("latin-1")):
        problem = is_problem(client.post("/v1/generations", json=body, headers={"Idempotency-Key": bad}), 422)
        assert problem["errors"][0]["pointer"] == "Idempotency-Key"


def test_pages_are_newest_first_and_complete(client):
    ids = [waiting(client, seed=n)["id"] for n in range(5)]
    seen, cursor = [], None
    while len(seen) < 6:
        parameters = {"limit": 2, "status": "queued", **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/generations", params=parameters).json()
        assert len(page["items"]) <= 2
        assert {item["status"] for item in page["items"]} == {"queued"}
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen[:5] == ids[::-1]
    assert len(set(seen)) == len(seen)


def test_the_last_page_has_no_next(client, made):
    everything = client.get("/v1/generations", params={"limit": 100}).json()
    assert everything["next"] is None
    assert made["id"] in [item["id"] for item in everything["items"]]


def cursor(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": 0}, {"limit": 101}, {"limit": "many"}, {"limit": ""}, {"status": "done"}, {"status": ""},
        {"cursor": "x"}, {"cursor": "é"}, {"cursor": "a" * 500}, {"cursor": cursor("yesterday " + NOBODY)},
        {"cursor": cursor("2026-01-01T00:00:00+00:00 " + "-" * 36)}, {"cursor": cursor(f"2026-01-01 {NOBODY}")},
        {"cursor": cursor(f"0001-01-01T00:00:00+23:59 {NOBODY}")}, {"cursor": cursor(f"2026-01-01T00:00:00Z{NOBODY}")},
        {"cursor": "\0"}, {"cursor": cursor("\0 \0")}, {"cursor": "null"}, {"status": "null"}, {"limit": "null"},
        {"limit": ["1", "2"]}, {"status": ["queued", "queued"]},
    ],
    ids=str,
)  # fmt: skip
def test_pages_that_cannot_be(client, is_problem, parameters):
    problem = is_problem(client.get("/v1/generations", params=parameters), 422)
    assert problem["errors"][0]["pointer"] in parameters


def test_nothing_there(client, is_problem):
    for path in (NOBODY, "x", "x" * 3000, "%00", "%ed%a0%80", "..%2f..", "' OR 1=1 --", "{id}"):
        for url in (f"/v1/generations/{path}", f"/v1/generations/{path}/events"):
            is_problem(client.get(url), 404)
        is_problem(client.delete(f"/v1/generations/{path}"), 404)


def test_audio_whole(client, made):
    take = made["takes"][0]
    answer = client.get(take["audio"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/wav"
    assert len(answer.content) == take["bytes"] == int(answer.headers["content-length"])
    assert answer.content.startswith(b"RIFF")
    assert answer.headers["etag"] == f'"{take["sha256"]}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert re.fullmatch(r'inline; filename="reprompt-[0-9a-f]{8}-0\.wav"', answer.headers["content-disposition"])


def test_audio_in_parts(client, made, is_problem):
    take = made["takes"][1]
    whole, size = client.get(take["audio"]).content, take["bytes"]
    for asked, first, last in (
        ("bytes=0-15", 0, 15),
        ("bytes=100-", 100, size - 1),
        ("bytes=-44", size - 44, size - 1),
        (f"bytes={size - 1}-{size + 99}", size - 1, size - 1),
        (f"bytes=-{size * 2}", 0, size - 1),
    ):
        part = client.get(take["audio"], headers={"Range": asked})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert part.content == whole[first : last + 1]
    for ignored in ("bytes=5-2", "bytes=0-1,4-5", "items=0-5", "bytes=a-b", "bytes=-", "bytes=٣-٥".encode()):
        assert client.get(take["audio"], headers={"Range": ignored}).status_code == 200
    for outside in (f"bytes={size}-", "bytes=-0", "bytes=999999999999-"):
        answer = client.get(take["audio"], headers={"Range": outside})
        is_problem(answer, 416)
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_audio_that_is_known_already(client, made):
    take = made["takes"][0]
    tag = f'"{take["sha256"]}"'
    for known in (tag, f'W/{tag}, "other"', "*"):
        answer = client.get(take["audio"], headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    part = {"Range": "bytes=0-9"}
    assert client.get(take["audio"], headers={**part, "If-Range": tag}).status_code == 206
    for other in ('"other"', f"W/{tag}", "Sun, 01 Jan 2026 00:00:00 GMT"):
        assert client.get(take["audio"], headers={**part, "If-Range": other}).status_code == 200


def test_head_is_get_without_the_body(client, made):
    for path in (made["takes"][0]["audio"], f"/v1/generations/{made['id']}", "/", "/livez", "/v1/comparisons/export"):
        head, get = client.head(path), client.get(path)
        assert head.content == b""
        assert head.status_code == 200
        assert {k: head.headers.get(k) for k in ("content-type", "etag")} == {
            k: get.headers.get(k) for k in ("content-type", "etag")
        }
    take = made["takes"][0]
    for ignored in ("bytes=0-9", f"bytes={take['bytes']}-"):  # ranges are of GET alone
        whole = client.head(take["audio"], headers={"Range": ignored})
        assert (whole.status_code, int(whole.headers["content-length"])) == (200, take["bytes"])
        assert "content-range" not in whole.headers
    assert client.head(f"/v1/generations/{made['id']}/events").status_code == 200
    assert client.head(f"/v1/generations/{NOBODY}").status_code == 404


def test_audio_that_is_not_there(client, made, is_problem):
    base = f"/v1/generations/{made['id']}/takes"
    for number in ("2", "-1", "x", "1" * 5000):
        is_problem(client.get(f"{base}/{number}/audio"), 404)
    unmade = waiting(client)
    is_problem(client.get(f"/v1/generations/{unmade['id']}/takes/0/audio"), 409)


@pytest.mark.parametrize(("name", "kind"), [("flac", "audio/flac"), ("ogg", "audio/ogg"), ("mp3", "audio/mpeg")])
def test_other_formats(client, name, kind):
    asked = {"words": "slow rain", "seconds": 1, "format": name, "generator": "preview"}
    made = client.post("/v1/generations", json=asked, headers={"Prefer": "wait=30"}).json()
    answer = client.get(made["takes"][0]["audio"])
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"].endswith(f'.{name}"')


def test_cancelled_and_removed(client, is_problem):
    generation = waiting(client)
    path = f"/v1/generations/{generation['id']}"
    cancelled = client.delete(path)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    is_problem(client.get(f"{path}/takes/0/audio"), 404)
    removed = client.delete(path)
    assert (removed.status_code, removed.content) == (204, b"")
    is_problem(client.get(path), 404)
    is_problem(client.delete(path), 404)


def test_who_cancels_loses_nothing_that_is_done(client, is_problem):
    asked = {"words": "slow rain", "seconds": 1, "generator": "preview"}
    made = client.post("/v1/generations", json=asked, headers={"Prefer": "wait=30"}).json()
    path = f"/v1/generations/{made['id']}"
    kept = client.delete(path, params={"done": "keep"})
    assert (kept.status_code, kept.json()) == (200, client.get(path).json())
    assert client.get(made["takes"][0]["audio"]).status_code == 200
    path = f"/v1/generations/{waiting(client)['id']}"
    assert client.delete(path, params={"done": "keep"}).json()["status"] == "cancelled"
    problem = is_problem(client.delete(path, params={"done": "lose"}), 422)
    assert problem["errors"] == [{"pointer": "done", "detail": "Expected one of remove, keep."}]


def test_removed_with_its_audio(client, is_problem):
    asked = {"words": "slow rain", "seconds": 1, "generator": "preview"}
    made = client.post("/v1/generations", json=asked, headers={"Prefer": "wait=30"}).json()
    assert client.delete(f"/v1/generations/{made['id']}").status_code == 204
    is_problem(client.get(made["takes"][0]["audio"]), 404)


def test_edited_by_hand(client):
    asked = {"words": "slow rain", "prompt": "Solo harp at 60 BPM.", "seconds": 1, "generator": "preview"}
    made = client.post("/v1/generations", json=asked, headers={"Prefer": "wait=30"}).json()
    assert made["prompt"] == "Solo harp at 60 BPM."
    assert made["reprompt"]["refiner"] == "person"


def test_what_this_server_does_not_have(client, is_problem):
    problem = is_problem(
        client.post("/v1/generations", json={"words": "rain", "refiner": "llm", "generator": "runpod"}), 422
    )
    assert [error["pointer"] for error in problem["errors"]] == ["/refiner", "/generator"]
    assert "REPROMPT" not in str(problem)
