"""Event streams: from the first event to the final status, resumed, kept open, and ended."""

import json
import time

import pytest

pytestmark = pytest.mark.xdist_group("api-plain")


def generation(client, **more):
    return client.post("/v1/generations", json={"words": "slow rain", "seconds": 1, **more}).json()


def follow(client, id, last=None, until=None):
    """The events as (id, kind, data), and the comments between them."""
    events, comments, current = [], [], {}
    headers = {"Last-Event-ID": str(last)} if last is not None else {}
    with client.stream("GET", f"/v1/generations/{id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        for line in answer.iter_lines():
            if line.startswith(":"):
                comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                current[name] = value
            elif "data" in current:
                events.append((int(current["id"]), current["event"], json.loads(current["data"])))
                current = {}
            if until is not None and until(events, comments):
                break
    return events, comments


def test_from_the_first_event_to_the_last(client):
    made = generation(client, takes=2)
    events, _ = follow(client, made["id"])
    statuses = [data["status"] for _, kind, data in events if kind == "status"]
    assert statuses == ["queued", "running", "succeeded"]
    assert [data["number"] for _, kind, data in events if kind == "take"] == [0, 1]
    ids = [id for id, _, _ in events]
    assert ids == sorted(set(ids))
    assert all(data["at"].endswith("Z") for _, _, data in events)


def test_resumed_where_it_was(client):
    made = generation(client)
    everything, _ = follow(client, made["id"])
    for at in range(len(everything) - 1):
        rest, comments = follow(client, made["id"], last=everything[at][0])
        assert rest == everything[at + 1 :]
        assert comments == []  # what is known is told at once


def test_after_the_final_status_there_is_nothing_to_come_back_for(client):
    made = generation(client)
    events, _ = follow(client, made["id"])
    answer = client.get(f"/v1/generations/{made['id']}/events", headers={"Last-Event-ID": str(events[-1][0])})
    assert (answer.status_code, answer.content) == (204, b"")  # else a browser asks again every second, for ever
    assert client.get(f"/v1/generations/{made['id']}/events").status_code == 200


def test_a_silent_stream_is_kept_open_and_ends_when_it_is_cancelled(client, server):
    waiting = generation(client, generator="musicgen")

    def heard(events, comments):
        if len(comments) == 2:
            with server.client() as other:
                other.delete(f"/v1/generations/{waiting['id']}")
        return False

    events, comments = follow(client, waiting["id"], until=heard)
    assert len(comments) >= 2
    assert [data["status"] for _, kind, data in events if kind == "status"] == ["queued", "cancelled"]


def test_removed_while_it_is_followed(client, server, is_problem):
    waiting = generation(client, generator="musicgen")

    def gone(events, comments):
        if len(comments) == 1:
            with server.client() as other:
                other.delete(f"/v1/generations/{waiting['id']}")
                other.delete(f"/v1/generations/{waiting['id']}")
        return False

    follow(client, waiting["id"], until=gone)  # it ends
    is_problem(client.get(f"/v1/generations/{waiting['id']}/events"), 404)


@pytest.mark.parametrize("last", ["", "x", "null", "-1", "1.5", "9" * 40, "٣".encode()])
def test_last_event_ids_that_are_none(client, is_problem, last):
    made = generation(client, generator="musicgen")
    problem = is_problem(client.get(f"/v1/generations/{made['id']}/events", headers={"Last-Event-ID": last}), 422)
    assert problem["errors"][0]["pointer"] == "Last-Event-ID"


def test_a_later_id_than_there_is_waits_for_what_comes(client, server):
    waiting = generation(client, generator="musicgen")

    def heard(events, comments):
        if len(comments) == 1:
            with server.client() as other:
                other.delete(f"/v1/generations/{waiting['id']}")
        return False

    rest, comments = follow(client, waiting["id"], last=999_999_999_999_999_999, until=heard)
    assert rest == []
    assert comments


def test_a_client_that_leaves_frees_its_place(server, client):
    made = generation(client, generator="musicgen")
    for _ in range(5):
        follow(client, made["id"], until=lambda events, comments: bool(events))
    give_up = time.monotonic() + 20
    while "reprompt_streams 0.0" not in client.get("/metrics").text and time.monotonic() < give_up:
        time.sleep(0.1)
    assert "reprompt_streams 0.0" in client.get("/metrics").text
