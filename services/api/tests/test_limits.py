"""Many at once beside a language model that stalls: some are refused at once, the rest is answered by the deadline."""

import asyncio
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import pytest
from reprompt_core.testing import ModelReply, ModelServer

pytestmark = pytest.mark.xdist_group("api-limits")

LLM_KEY = "sk-llm-7f3a91c2d4e8b605"
MANY = 300  # `make bench` asks 1,000 and measures how long /livez takes meanwhile


@pytest.fixture(scope="module")
def model():
    with ModelServer() as model:
        model.answers(ModelReply(stall_after=0))
        yield model


@pytest.fixture(scope="module")
def busy(serve, model):
    """A server whose language model never answers, with few places."""
    settings = {
        "REPROMPT_LLM_BASE_URL": model.url,
        "REPROMPT_LLM_MODEL": "stalled",
        "REPROMPT_LLM_API_KEY": LLM_KEY,
        "REPROMPT_LLM_TIMEOUT_S": "4",
        "REPROMPT_LLM_BREAKER_FAILURES": "1000",
        "REPROMPT_API_IN_FLIGHT": "8",
        "REPROMPT_API_STREAMS": "3",
        "REPROMPT_API_DEADLINE_S": "20",
    }
    with serve(**settings) as server:
        yield server


async def ask(port, words):
    """(status, headers and body) of a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"words": words, "refiner": "llm"}).encode()
    head = "POST /v1/prompts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1]), answer.decode()


def test_many_at_once(busy, model):
    async def main():
        return await asyncio.gather(*(ask(busy.port, f"slow rain {n}") for n in range(MANY)))

    answers = asyncio.run(main())
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 8
    for status, text in answers:
        no_secret = LLM_KEY not in text
        assert no_secret
        head, _, body = text.partition("\r\n\r\n")
        if status == 503:
            assert "content-type: application/problem+json" in head
            assert "retry-after: 1" in head
        else:  # the model never answered: the rules did, and say so
            assert json.loads(body)["refiner"] == "rules"
            assert json.loads(body)["warnings"]
    assert any(LLM_KEY in request.headers.get("authorization", "") for request in model.requests)
    with busy.client() as client:
        metrics = client.get("/metrics").text
    assert "reprompt_requests_in_flight 0.0" in metrics
    refused = float(re.search(r'reprompt_refused_total\{why="in_flight"\} (\S+)', metrics)[1])
    assert refused == statuses.count(503)


def test_a_client_that_leaves_frees_its_place(busy):
    def leave():
        with suppress(httpx2.TimeoutException):
            httpx2.post(f"{busy.url}/v1/prompts", json={"words": "slow rain", "refiner": "llm"}, timeout=0.4)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: leave(), range(8)))
    with busy.client() as client:
        give_up = time.monotonic() + 1.5  # before the model's own time is over
        while "reprompt_requests_in_flight 0.0" not in client.get("/metrics").text and time.monotonic() < give_up:
            time.sleep(0.02)
        assert "reprompt_requests_in_flight 0.0" in client.get("/metrics").text
        assert client.post("/v1/prompts", json={"words": "rain", "refiner": "rules"}).status_code == 200
    assert 499 in [line.get("status") for line in busy.lines()]


def test_streams_have_places_of_their_own(busy, is_problem):
    with busy.client() as client:
        body = {"words": "slow rain", "generator": "musicgen", "refiner": "rules"}
        id = client.post("/v1/generations", json=body).json()["id"]
        streams = []
        try:
            for _ in range(3):
                stream = client.stream("GET", f"/v1/generations/{id}/events")
                streams.append(stream)
                assert stream.__enter__().status_code == 200
            refused = client.get(f"/v1/generations/{id}/events")
            is_problem(refused, 503)
            assert refused.headers["retry-after"] == "5"
            # a request that would wait is answered at once instead
            at_once = client.post("/v1/generations", json=body, headers={"Prefer": "wait=20"})
            assert at_once.status_code == 202
            assert "preference-applied" not in at_once.headers
            assert client.get("/v1/corpora").status_code == 200
        finally:
            for stream in streams:
                stream.__exit__(None, None, None)


def test_waiting_requests_hold_up_nobody(busy):
    body = {"words": "slow rain", "generator": "musicgen", "refiner": "rules"}
    done = []

    def wait():
        with busy.client() as client:
            done.append(client.post("/v1/generations", json=body, headers={"Prefer": "wait=2"}))

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    with busy.client() as client:
        give_up = time.monotonic() + 10
        while "reprompt_streams 3.0" not in client.get("/metrics").text and time.monotonic() < give_up:
            time.sleep(0.02)
        metrics = client.get("/metrics").text
        assert "reprompt_streams 3.0" in metrics
        assert "reprompt_requests_in_flight 0.0" in metrics
    for thread in waiting:
        thread.join()
    assert [answer.status_code for answer in done] == [202] * 3
    assert all(answer.headers["preference-applied"] == "wait=2" for answer in done)


def test_the_deadline(serve, model, is_problem):
    settings = {
        "REPROMPT_LLM_BASE_URL": model.url,
        "REPROMPT_LLM_MODEL": "stalled",
        "REPROMPT_LLM_TIMEOUT_S": "30",
        "REPROMPT_API_DEADLINE_S": "2",
    }
    with serve(**settings) as server, server.client() as client:
        client.post("/v1/prompts", json={"words": "rain", "refiner": "rules"})
        problem = is_problem(client.post("/v1/prompts", json={"words": "slow rain", "refiner": "llm"}), 504)
        assert "2 s" in problem["detail"]
        # a wait that was asked for is not part of it
        body = {"words": "slow rain", "refiner": "rules", "generator": "musicgen"}
        assert client.post("/v1/generations", json=body, headers={"Prefer": "wait=3"}).status_code == 202
        assert "reprompt_requests_in_flight 0.0" in client.get("/metrics").text
