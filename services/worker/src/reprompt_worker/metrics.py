"""What probes and Prometheus are told about a worker, over HTTP on a thread of its own.

/livez    200 while the process moves, 503 when its event loop has hung
/readyz   200 when the model is loaded and the queue connected, else 503 and what is missing
/metrics  Prometheus
"""

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from reprompt_core.errors import SettingsError

if TYPE_CHECKING:
    from reprompt_core.generation.worker import Worker
    from reprompt_gpu import Engine

__all__ = ["Monitor", "Server"]

_BEAT_S = 1.0
_HUNG_S = 30.0  # without a beat


class Monitor:
    """The state of a worker. Any thread may tell and ask."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._worker: Worker | None = None
        self._loaded = False
        self._beat_at: float | None = None  # none before the loop runs: loading a model takes minutes
        ProcessCollector(registry=self.registry)
        self._ended = Counter(
            "reprompt_worker_generations", "Generations that left this worker: made, failed, or stopped "
            "(cancelled, or left to another worker).", ["outcome"], registry=self.registry,
        )  # fmt: skip
        for outcome in ("made", "failed", "stopped"):
            self._ended.labels(outcome)
        self._audio = Counter("reprompt_worker_audio_seconds", "Seconds of audio made.", registry=self.registry)
        self._model = Gauge(
            "reprompt_worker_model_info", "The model that is loaded.", ["model", "revision", "device", "dtype"],
            registry=self.registry,
        )  # fmt: skip
        for name, told, ask in (
            ("generations_running", "Generations at this moment.", lambda: self._worker.running if self._worker else 0),
            ("queue_connected", "1 while this worker fetches from the queue.", lambda: self.is_connected),
            ("ready", "1 when the model is loaded and the queue connected.", lambda: not self.missing()),
        ):
            Gauge(f"reprompt_worker_{name}", told, registry=self.registry).set_function(ask)

    # -- told ------------------------------------------------------------------------------------------------------

    def load(self, engine: "Engine") -> None:
        """The model is loaded."""
        dtype = str(engine.dtype).removeprefix("torch.")
        self._model.labels(engine.name, engine.revision or "", str(engine.device), dtype).set(1)
        self._loaded = True

    def follow(self, worker: "Worker") -> None:
        """The worker whose connection and generations are told."""
        self._worker = worker

    async def beat(self) -> None:
        """Says that the event loop moves, until it is cancelled."""
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(_BEAT_S)

    @contextmanager
    def counted(self) -> Generator[None]:
        """Counts a generation by how the block ends."""
        outcome = "failed"
        try:
            yield
            outcome = "made"
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        finally:
            self._ended.labels(outcome).inc()

    def made_audio(self, seconds: float) -> None:
        """A take was made."""
        self._audio.inc(seconds)

    # -- asked -----------------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether the worker fetches from the queue."""
        return self._worker is not None and self._worker.connected

    def missing(self) -> list[str]:
        """What the worker is not ready for, in words; empty: it is ready."""
        said = ((self._loaded, "the model is not loaded yet"), (self.is_connected, "the queue is not connected"))
        return [what for there, what in said if not there]

    def hung_s(self) -> float | None:
        """Seconds for which the event loop has not moved, when they are too many."""
        quiet = 0.0 if self._beat_at is None else time.monotonic() - self._beat_at
        return quiet if quiet > _HUNG_S else None


class Server:
    """Answers on a host and port while it is open: `with Server(monitor, host, port) as server:`.

    Args:
        monitor: what it tells.
        host: 127.0.0.1 for this machine alone, 0.0.0.0 for all that can reach it.
        port: 0: one that is free.

    Raises:
        SettingsError: the port cannot be had.
    """

    def __init__(self, monitor: Monitor, host: str, port: int) -> None:
        try:
            self._server = _Server((host, port), _handler(monitor))
        except (OSError, OverflowError) as e:
            raise SettingsError(
                f"Metrics cannot be served on {host} port {port} ({e}): give each worker of a machine a --metrics-port "
                "of its own; 0 takes one that is free."
            ) from e
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    # http.server's own would look the name of the host up, which waits for a network that answers no such question
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


def _handler(monitor: Monitor) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, Callable[[], tuple[HTTPStatus, str, bytes]]] = {
        "/livez": lambda: _live(monitor),
        "/readyz": lambda: _ready(monitor),
        "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(monitor.registry)),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a request to arrive

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0], lambda: _text(HTTPStatus.NOT_FOUND, "no such page"))
            status, kind, content = answer()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are no news."""

    return Handler


def _live(monitor: Monitor) -> tuple[HTTPStatus, str, bytes]:
    hung_s = monitor.hung_s()
    if hung_s is None:
        return _text(HTTPStatus.OK, "alive")
    return _text(HTTPStatus.SERVICE_UNAVAILABLE, f"the event loop has not moved for {hung_s:.0f} s")


def _ready(monitor: Monitor) -> tuple[HTTPStatus, str, bytes]:
    missing = monitor.missing()
    return _text(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(missing)) if missing else _text(HTTPStatus.OK, "ready")


def _text(status: HTTPStatus, said: str) -> tuple[HTTPStatus, str, bytes]:
    return status, "text/plain; charset=utf-8", f"{said}\n".encode()
