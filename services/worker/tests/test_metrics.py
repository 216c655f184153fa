"""What probes and Prometheus are told."""

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from reprompt_core.errors import MakingError, SettingsError
from reprompt_gpu import Engine
from reprompt_worker import metrics
from reprompt_worker.cli import app
from reprompt_worker.metrics import Monitor, Server
from typer.testing import CliRunner


def ask(server: Server, page: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{server.port}{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as e:
        return e.code, e.read().decode()


def worker(**state: Any) -> Any:
    return SimpleNamespace(**{"connected": True, "running": 0, **state})


def test_it_is_ready_when_model_and_queue_are_there(engine: Engine) -> None:
    monitor = Monitor()
    with Server(monitor, "127.0.0.1", 0) as server:
        assert ask(server, "/livez") == (200, "alive\n")
        assert ask(server, "/readyz") == (503, "the model is not loaded yet; the queue is not connected\n")
        monitor.load(engine)
        assert ask(server, "/readyz") == (503, "the queue is not connected\n")
        monitor.follow(worker())
        assert ask(server, "/readyz?verbose") == (200, "ready\n")
        monitor.follow(worker(connected=False))
        assert ask(server, "/readyz") == (503, "the queue is not connected\n")
        assert ask(server, "/") == (404, "no such page\n")


def test_it_is_not_alive_when_its_loop_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_HUNG_S", 0.2)
    monkeypatch.setattr(metrics, "_BEAT_S", 0.05)
    monitor = Monitor()
    with Server(monitor, "127.0.0.1", 0) as server:

        async def run() -> tuple[int, str]:
            beating = asyncio.create_task(monitor.beat())
            await asyncio.sleep(0.5)
            assert await asyncio.to_thread(ask, server, "/livez") == (200, "alive\n")
            time.sleep(0.5)  # noqa: ASYNC251 - the loop hangs
            answer = ask(server, "/livez")
            beating.cancel()
            return answer

        status, said = asyncio.run(run())
    assert status == 503
    assert "the event loop has not moved" in said


def test_what_prometheus_reads(engine: Engine) -> None:
    monitor = Monitor()
    monitor.load(engine)
    monitor.follow(worker(running=2))
    with monitor.counted():
        monitor.made_audio(10.0)
        monitor.made_audio(2.5)
    with pytest.raises(MakingError), monitor.counted():
        raise MakingError
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError), monitor.counted():
            raise asyncio.CancelledError
    with Server(monitor, "127.0.0.1", 0) as server:
        _, text = ask(server, "/metrics")
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["reprompt_worker_generations_total", ("made",)] == 1
    assert samples["reprompt_worker_generations_total", ("failed",)] == 1
    assert samples["reprompt_worker_generations_total", ("stopped",)] == 2
    assert samples["reprompt_worker_audio_seconds_total", ()] == 12.5
    assert samples["reprompt_worker_generations_running", ()] == 2
    assert samples["reprompt_worker_queue_connected", ()] == 1
    assert samples["reprompt_worker_ready", ()] == 1
    (model,) = (labels for name, labels in samples if name == "reprompt_worker_model_info")
    assert set(model) == {engine.name, "", "cpu", "float32"}
    assert samples["process_resident_memory_bytes", ()] > 0


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} .*--metrics-port of its own"):
            Server(Monitor(), "127.0.0.1", port)


def test_the_healthcheck_of_a_container_asks_the_same(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which knows nothing of it
    monitor = Monitor()
    with Server(monitor, "0.0.0.0", 0) as server:
        asked = ["healthcheck", "--metrics-port", str(server.port), "--metrics-host", "0.0.0.0"]
        answer = CliRunner().invoke(app, asked)
        assert (answer.exit_code, answer.stdout) == (1, "the model is not loaded yet; the queue is not connected\n")
        assert CliRunner().invoke(app, [*asked, "--live"]).exit_code == 0
        monitor.load(engine)
        monitor.follow(worker())
        answer = CliRunner().invoke(app, asked)
        assert (answer.exit_code, answer.stdout) == (0, "ready\n")
    answer = CliRunner().invoke(app, asked)
    assert answer.exit_code == 1
    assert f"No worker answers on 127.0.0.1 port {server.port}" in answer.stdout
