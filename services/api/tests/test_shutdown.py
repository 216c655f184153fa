"""The end of a server: streams end and are taken up on the next one, requests are answered, nothing is left behind."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.xdist_group("api-shutdown")


def read(server, id, last=None, began=None):
    """The ids and kinds of the events of a stream until the server ends it."""
    seen, current = [], {}
    headers = {"Last-Event-ID": str(last)} if last else {}
    with server.client() as client, client.stream("GET", f"/v1/generations/{id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in {"id", "event", "data"}:
                current[name] = value
            if not line and "data" in current:
                seen.append((int(current["id"]), current["event"], json.loads(current["data"])))
                current = {}
                if began is not None:
                    began.release()
    return seen


def test_fifty_streams_end_and_are_taken_up_again(serve):
    with serve() as server:
        with server.client() as client:
            body = {"words": "slow rain", "generator": "musicgen"}
            ids = [client.post("/v1/generations", json={**body, "seed": n}).json()["id"] for n in range(50)]
        began = threading.Semaphore(0)
        with ThreadPoolExecutor(50) as pool:
            streams = [pool.submit(read, server, id, began=began) for id in ids]
            for _ in ids:
                assert began.acquire(timeout=60)
            code, seconds = server.stop()
            seen = [stream.result(timeout=10) for stream in streams]
        assert code == 0
        assert seconds <= 10
        assert all([event["status"] for _, _, event in events] == ["queued"] for events in seen)
        assert "fault" not in server.logged()
        assert "Traceback" not in server.logged()

        server.start()
        with ThreadPoolExecutor(50) as pool:
            last = [events[-1][0] for events in seen]
            streams = [pool.submit(read, server, id, last=at) for id, at in zip(ids, last, strict=True)]
            with server.client() as client:
                for id in ids:
                    assert client.delete(f"/v1/generations/{id}").status_code == 200
            for events, at in zip([stream.result(timeout=30) for stream in streams], last, strict=True):
                assert [event["status"] for _, _, event in events] == ["cancelled"]  # nothing twice, nothing missed
                assert events[0][0] > at


def test_what_waits_is_answered_and_what_is_made_is_not_lost(serve):
    with serve(REPROMPT_API_PREVIEWS="1", REPROMPT_API_GRACE_S="5") as server:
        answers = []

        def wait():
            with server.client() as client:
                body = {"words": "slow rain", "seconds": 60, "takes": 8, "generator": "preview"}
                answers.append(client.post("/v1/generations", json=body, headers={"Prefer": "wait=30"}))

        waiting = [threading.Thread(target=wait) for _ in range(3)]
        for thread in waiting:
            thread.start()
        with server.client() as client:
            give_up = time.monotonic() + 30
            while "reprompt_streams 3.0" not in client.get("/metrics").text and time.monotonic() < give_up:
                time.sleep(0.05)
        code, seconds = server.stop()
        for thread in waiting:
            thread.join()
        assert code == 0
        assert seconds <= 15
        assert {answer.status_code for answer in answers} <= {200, 202}
        ids = [answer.json()["id"] for answer in answers]
        server.start()
        with server.client() as client:
            for id in ids:
                assert client.get(f"/v1/generations/{id}").json()["status"] != "failed"


def test_the_embedded_database_ends_with_it(serve, scratch):
    data = scratch / "api-embedded"
    with serve(begin=False, REPROMPT_DATA_DIR=str(data), REPROMPT_DATABASE_URL="", REPROMPT_AUDIO_URL="") as server:
        server.start()
        pid = data / "postgres" / "postmaster.pid"
        assert pid.exists()
        with server.client() as client:
            made = client.post(
                "/v1/generations", json={"words": "rain", "seconds": 1}, headers={"Prefer": "wait=30"}
            ).json()
            assert made["status"] == "succeeded"
        code, _ = server.stop()
        assert code == 0
        assert not pid.exists()
