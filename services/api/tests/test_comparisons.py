"""Blind comparisons: before the vote nothing tells which is which; after it everything does."""

import json
import re
import time

import psycopg
import pytest

pytestmark = pytest.mark.xdist_group("api-plain")

WORDS = "sad piano in the rain, 70 bpm"
FIELDS = ["id", "words", "seconds", "seed", "generator", "order", "choice", "preferred", "voted_at"]


def compare(client, **more):
    answer = client.post("/v1/comparisons", json={"words": WORDS, "seconds": 2.3, "generator": "preview", **more})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/comparisons/{answer.json()['id']}"
    return answer.json()


def heard(client, comparison):
    """It, once both are made; each look on the way is judged, too."""
    path, give_up = f"/v1/comparisons/{comparison['id']}", time.monotonic() + 60
    while time.monotonic() < give_up:
        answer = client.get(path)
        comparison = answer.json()
        blind(comparison)
        if comparison["ready"]:
            return comparison
        assert comparison["a"]["audio"] is None
        assert client.get(f"{path}/a/audio").status_code in {409, 200}  # made between the two looks
        time.sleep(0.05)
    raise AssertionError(comparison)


def blind(comparison):
    """Nothing of A differs from B but its letter."""
    a = json.dumps(comparison["a"]).replace("/a/audio", "/x/audio")
    b = json.dumps(comparison["b"]).replace("/b/audio", "/x/audio")
    assert a == b
    assert comparison["a"]["is_rewritten"] is None
    assert comparison["a"]["prompt"] is None
    assert comparison["choice"] is comparison["preferred"] is comparison["voted_at"] is None


@pytest.fixture(scope="module")
def voted(server):
    """Comparisons with a vote: what was answered to it."""
    answers = []
    with server.client() as client:
        for choice in ("a", "b", "none"):
            comparison = heard(client, compare(client, seed=len(answers)))
            answer = client.post(f"/v1/comparisons/{comparison['id']}/vote", json={"choice": choice})
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
    return answers


def test_nothing_tells_which_is_which(server, client):
    began = compare(client)
    blind(began)
    ready = heard(client, began)
    answers = {side: client.get(ready[side]["audio"]) for side in "ab"}
    headers = {}
    for side, answer in answers.items():
        assert answer.content.startswith(b"RIFF")
        # the hash of the file and the request's own id are all that may differ
        same = {k: v for k, v in answer.headers.items() if k not in {"etag", "x-request-id", "date"}}
        headers[side] = {k: v.replace(f"reprompt-{side}.wav", "x") for k, v in same.items() if not k.startswith("rate")}
        # nothing but sound in the file: no names, no times, no prompt
        assert re.findall(rb"LIST|INFO|id3 |bext|iXML", answer.content[:400]) == []
        assert answer.content[12:16] == b"fmt "
        assert answer.content[36:40] == b"data"
        assert len(answer.content) == 44 + int.from_bytes(answer.content[40:44], "little")
    assert headers["a"] == headers["b"]
    assert answers["a"].content != answers["b"].content
    # neither generation is among one's own
    listed = client.get("/v1/generations", params={"limit": 100}).text
    assert WORDS not in listed
    assert began["id"] not in server.logged()


def test_generations_behind_it_cannot_be_asked_for(server, client, is_problem):
    comparison = heard(client, compare(client))
    with psycopg.connect(server.database) as connection:
        (ids,) = connection.execute(
            "SELECT ARRAY[raw, rewritten] FROM reprompt.comparisons WHERE id = %s", (comparison["id"],)
        ).fetchall()
    for id in ids[0]:
        for path in (f"/v1/generations/{id}", f"/v1/generations/{id}/events", f"/v1/generations/{id}/takes/0/audio"):
            is_problem(client.get(path), 404)
        is_problem(client.delete(f"/v1/generations/{id}"), 404)
        assert str(id) not in json.dumps(comparison)


def test_both_orders_are_shown(server, client):
    for seed in range(8):
        compare(client, generator="musicgen", seed=seed)
    with psycopg.connect(server.database) as connection:
        orders = [row[0] for row in connection.execute("SELECT shown FROM reprompt.comparisons").fetchall()]
    assert set(orders) == {"ab", "ba"}  # a chance of 2 in 2 ** 11 at most to fail


def test_the_vote_tells(client, voted):
    for answer, choice in zip(voted, ("a", "b", "none"), strict=True):
        assert answer["choice"] == choice
        assert {answer["a"]["is_rewritten"], answer["b"]["is_rewritten"]} == {True, False}
        rewritten = "a" if answer["a"]["is_rewritten"] else "b"
        raw = "b" if rewritten == "a" else "a"
        assert answer[raw]["prompt"] == WORDS
        assert answer[rewritten]["prompt"] != WORDS
        assert answer["preferred"] == {rewritten: "rewritten", raw: "raw", "none": "none"}[choice]
        assert client.get(f"/v1/comparisons/{answer['id']}").json() == answer


def test_the_first_vote_counts(client, voted, is_problem):
    for choice in ("a", "b"):
        is_problem(client.post(f"/v1/comparisons/{voted[0]['id']}/vote", json={"choice": choice}), 409)
    assert client.get(f"/v1/comparisons/{voted[0]['id']}").json()["choice"] == "a"


def test_no_vote_on_what_cannot_be_heard(client, is_problem):
    comparison = compare(client, generator="musicgen")
    path = f"/v1/comparisons/{comparison['id']}"
    is_problem(client.get(f"{path}/a/audio"), 409)
    is_problem(client.post(f"{path}/vote", json={"choice": "a"}), 409)
    is_problem(client.post(f"{path}/vote", json={"choice": "c"}), 422)
    is_problem(client.get(f"{path}/c/audio"), 422)


def test_one_side_alone_is_not_heard(server, client, is_problem):
    """One of the two is there, the other is not: to know which would tell something."""
    comparison = compare(client, generator="musicgen")
    finish = (
        "UPDATE reprompt.generations SET status = 'succeeded', progress = 1, finished_at = now() "
        "WHERE id = (SELECT rewritten FROM reprompt.comparisons WHERE id = %s)"
    )
    with psycopg.connect(server.database) as connection:
        connection.execute(finish, (comparison["id"],))
    now = client.get(f"/v1/comparisons/{comparison['id']}").json()
    blind(now)
    assert (now["a"]["status"], now["a"]["progress"], now["ready"]) == ("running", 0.5, False)
    for side in "ab":
        is_problem(client.get(f"/v1/comparisons/{comparison['id']}/{side}/audio"), 409)


def test_ranges_of_a_side(client):
    ready = heard(client, compare(client))
    part = client.get(ready["b"]["audio"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"RIFF")


def test_export(client, voted):
    answer = client.get("/v1/comparisons/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert 'filename="votes.jsonl"' in answer.headers["content-disposition"]
    lines = {line["id"]: line for line in map(json.loads, answer.text.splitlines())}
    for vote in voted:
        line = lines[vote["id"]]
        assert list(line) == FIELDS
        assert (line["words"], line["seconds"], line["generator"]) == (WORDS, 2.3, "preview")
        assert (line["choice"], line["preferred"]) == (vote["choice"], vote["preferred"])
        assert line["order"] == ("ba" if vote["a"]["is_rewritten"] else "ab")  # ab: A is the raw one
        assert line["voted_at"].endswith("+00:00")
    assert list(lines) == [line["id"] for line in sorted(lines.values(), key=lambda line: line["voted_at"])]


def test_votes_outlive_the_audio(server, client, voted, is_problem):
    vote = voted[1]
    with psycopg.connect(server.database) as connection:
        connection.execute(
            "DELETE FROM reprompt.generations g USING reprompt.comparisons c "
            "WHERE c.id = %s AND g.id IN (c.raw, c.rewritten)",
            (vote["id"],),
        )
    now = client.get(f"/v1/comparisons/{vote['id']}").json()
    assert (now["choice"], now["preferred"], now["ready"]) == (vote["choice"], vote["preferred"], False)
    assert now["a"]["audio"] is now["b"]["audio"] is None
    assert {now["a"]["is_rewritten"], now["b"]["is_rewritten"]} == {True, False}
    is_problem(client.get(f"/v1/comparisons/{vote['id']}/a/audio"), 404)
    assert vote["id"] in client.get("/v1/comparisons/export").text


def test_there_is_none(client, is_problem):
    for id in ("x", "3f0c9c1e-6f0b-4c39-9a55-0f6f1d0e7c55", "%00"):
        is_problem(client.get(f"/v1/comparisons/{id}"), 404)
        is_problem(client.get(f"/v1/comparisons/{id}/a/audio"), 404)
        is_problem(client.post(f"/v1/comparisons/{id}/vote", json={"choice": "a"}), 404)
