"""Real servers on loopback, each with a database of its own, and what no answer and no log line may hold."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from reprompt_core import Settings, embedded

READY_S = 60
LLM_KEY = "sk-llm-7f3a91c2d4e8b605"
DATABASE_PASSWORD = "pw-database-5d1e9c7a"
API_KEYS = {"ada": "key-of-ada-1c9e4b7d2f60", "ben": "key-of-ben-8a5d3e0f7b19"}
SECRETS = (LLM_KEY, DATABASE_PASSWORD, *API_KEYS.values())
PROBLEM = "application/problem+json"


class Server:
    """`python -m reprompt_api` in a process of its own."""

    def __init__(self, database: str, log: Path, **settings: str) -> None:
        self.database, self.log, self.settings = database, log, settings
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> "Server":
        """Starts it, and waits until it is ready; again on the same port when it was there before."""
        foreign = [name for name in os.environ if name.startswith("REPROMPT_API_")]
        env = {k: v for k, v in os.environ.items() if k not in foreign} | {
            "REPROMPT_DATABASE_URL": self.database,
            "REPROMPT_AUDIO_URL": str(self.log.with_suffix(".audio")),
            "REPROMPT_API_RATE_PER_MINUTE": "1000000",
            "REPROMPT_API_PORT": str(self.port),
            "OMP_NUM_THREADS": "1",
            **self.settings,
        }
        before = len(self.logged())
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "reprompt_api"], stdout=out, stderr=out, env=env)
        give_up = time.monotonic() + READY_S
        while time.monotonic() < give_up and self.process.poll() is None:
            if told := re.search(r"listens on http://\S+:(\d+)/", self.logged()[before:]):
                self.port = int(told[1])
                try:
                    if httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                        return self
                except httpx2.TransportError:
                    pass
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"the server is not ready:\n{self.logged()[-3000:]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def client(self, **options: Any) -> Iterator[httpx2.Client]:
        """A client whose answers are searched for secrets."""

        def look(response: httpx2.Response) -> None:
            if "event-stream" not in response.headers.get("content-type", ""):
                response.read()
                no_secrets(f"{response.headers} {response.text}")

        options = {"base_url": self.url, "timeout": 60, "trust_env": False, **options}
        with httpx2.Client(event_hooks={"response": [look]}, **options) as client:
            yield client

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def logged(self) -> str:
        return self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""

    def line(self, request_id: str, within_s: float = 10) -> dict[str, Any]:
        """What it logged of a request; the answer is there before the line is."""
        until = time.monotonic() + within_s
        while not (found := [line for line in self.lines() if line.get("request_id") == request_id]):
            assert time.monotonic() < until, f"no line of {request_id}: {self.logged()[-2000:]}"
            time.sleep(0.02)
        (line,) = found
        return line

    def lines(self) -> list[dict[str, Any]]:
        """What it logged, but the line for people."""
        return [json.loads(line) for line in self.logged().splitlines() if line.startswith("{")]

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self, within_s: float = 30) -> tuple[int, float]:
        """(exit code, seconds) after SIGTERM."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(within_s)
        return code, time.monotonic() - began

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def no_secrets(text: str) -> None:
    found = [secret for secret in SECRETS if secret in text]
    assert not found, f"a secret is in: {text[:2000]}"


@contextmanager
def empty_database() -> Iterator[str]:
    """A database on the embedded server that the tests share; its address holds a password, as real ones do."""
    server = embedded.start(Settings().data_dir)
    name = f"api_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://postgres:{DATABASE_PASSWORD}@/{name}?host={connection.info.host}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def serve(environment: None) -> Callable[..., Any]:
    """Starts servers: `with serve(REPROMPT_API_KEYS="...") as server`. At its end the log is searched for secrets."""

    @contextmanager
    def started(*, begin: bool = True, **settings: str) -> Iterator[Server]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reprompt-api-")))
            database = stack.enter_context(empty_database())
            server = Server(database, folder / "server.log", **settings)
            try:
                yield server.start() if begin else server
            finally:
                server.kill()
            no_secrets(server.logged())

    return started


@pytest.fixture(scope="session")
def server(serve: Callable[..., Any]) -> Iterator[Server]:
    """One that nothing is configured of, for every test that changes nothing of it."""
    with serve(REPROMPT_API_BODY_S="2", REPROMPT_API_HEARTBEAT_S="1") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def is_problem() -> Callable[..., dict[str, Any]]:
    """Checks that an answer is a problem document, and gives it."""

    def check(response: httpx2.Response, status: int) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == PROBLEM
        problem = response.json()
        assert set(problem) <= {"type", "title", "status", "detail", "instance", "errors"}
        assert problem["type"] == "about:blank"
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        assert problem["instance"] == response.headers["x-request-id"]
        inside = re.search(
            r"Traceback|/site-packages|\.py\b|msgspec|[Ll]itestar|psycopg|reprompt_|\b\w+Error\b", response.text
        )
        assert inside is None, response.text
        return problem

    return check


@pytest.fixture(scope="session")
def keyed(serve: Callable[..., Any]) -> Iterator[Server]:
    """A server with two keys, one of them hashed."""
    import hashlib

    ada = hashlib.sha256(API_KEYS["ada"].encode()).hexdigest()
    keys = f"ada:sha256:{ada},ben:{API_KEYS['ben']}"
    with serve(REPROMPT_API_KEYS=keys) as server:
        yield server
