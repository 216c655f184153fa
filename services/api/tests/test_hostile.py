"""What is no good HTTP: slow, endless, broken, huge. Nobody holds a place or memory with it."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest

pytestmark = pytest.mark.xdist_group("api-hostile")

HEAD = b"POST /v1/prompts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def read_all(connection):
    """Everything until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except (ConnectionResetError, TimeoutError):
        pass
    return b"".join(parts)


def status_of(answer):
    return int(answer.split(b" ")[1])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nBad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 400_000, 431),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_what_is_no_http(server, sent, status):
    with server.connect() as connection:
        connection.sendall(sent)
        with suppress(OSError):  # the server may have hung up by now
            connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert status_of(answer) == status
    assert b"content-type: application/problem+json" in answer
    assert b"Traceback" not in answer
    assert b"h11" not in answer
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert f"x-request-id: {told['instance']}".encode() in answer
    line = server.line(told["instance"])
    assert (line["event"], line["status"]) == ("no HTTP", status)
    assert "Invalid HTTP" not in server.logged()


def test_a_body_that_breaks_off_in_its_form(server, client):
    with server.connect() as connection:
        connection.sendall(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"wor\r\nZZZ\r\n')
        answer = read_all(connection)
    assert status_of(answer) == 400
    assert b"problem+json" in answer
    assert client.get("/livez").status_code == 200


def test_a_client_that_leaves_within_its_body(server, client):
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(HEAD + b'Content-Length: 60\r\n\r\n{"wo')
    give_up = time.monotonic() + 10
    while "reprompt_requests_in_flight 0.0" not in client.get("/metrics").text and time.monotonic() < give_up:
        time.sleep(0.05)
    assert "reprompt_requests_in_flight 0.0" in client.get("/metrics").text


@pytest.mark.parametrize("chunked", [False, True])
def test_eleven_megabytes(server, client, is_problem, chunked):
    part = b"[" * 65536
    client.post("/v1/prompts", json={"words": "rain"})
    before = server.memory_mb()
    for _ in range(5):
        content = (part for _ in range(176)) if chunked else part * 176
        answer = client.post("/v1/prompts", content=content, headers={"Content-Type": "application/json"})
        is_problem(answer, 413)
    assert server.memory_mb() < before + 20


def test_a_body_of_just_the_size(client, is_problem):
    body = b'{"words":"rain"' + b" " * (64 * 1024 - 16) + b"}"
    assert len(body) == 64 * 1024
    assert client.post("/v1/prompts", content=body, headers={"Content-Type": "application/json"}).status_code == 200
    is_problem(client.post("/v1/prompts", content=body + b" ", headers={"Content-Type": "application/json"}), 413)
    chunks = iter([body[:100], body[100:], b" "])
    is_problem(client.post("/v1/prompts", content=chunks, headers={"Content-Type": "application/json"}), 413)


def test_slow_bodies_hold_no_place(server, client):
    """More of them than there are places: the others are answered meanwhile, and they themselves in the end."""
    connections = [server.connect() for _ in range(80)]
    try:
        for connection in connections:
            connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert client.post("/v1/prompts", json={"words": "rain"}).status_code == 200
        assert "reprompt_requests_in_flight 0.0" in client.get("/metrics").text
        for connection in connections:
            answer = read_all(connection)
            assert status_of(answer) == 408
            assert b"problem+json" in answer
            assert b"connection: close" in answer.lower()
    finally:
        for connection in connections:
            connection.close()


def test_a_body_byte_by_byte_is_ended_too(server):
    with server.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        stopped = threading.Event()

        def drip():
            try:
                while not stopped.wait(0.05):
                    connection.sendall(b"1\r\n{\r\n")
            except OSError:
                pass

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            answer = read_all(connection)
        finally:
            stopped.set()
            dripping.join()
    assert status_of(answer) == 408


def test_an_endless_body_of_a_get_is_not_read_for_ever(server):
    with server.connect() as connection:
        connection.sendall(b"GET /v1/corpora HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - the server hangs up at some point of the loop
            while time.monotonic() - began < 30:
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.1)
        assert status_of(read_all(connection) or b"HTTP/1.1 200 ") == 200


def test_many_requests_on_one_connection(server):
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(request * 50 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 51


def test_a_websocket_is_not_spoken(server):
    with server.connect() as connection:
        connection.sendall(
            b"GET /v1/corpora HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert status_of(read_all(connection)) == 200  # the upgrade is passed over, as RFC 9110 allows
    assert [line for line in server.lines() if line["level"] != "info" and "request_id" not in line] == []
