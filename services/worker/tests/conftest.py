"""What the tests of reprompt-worker share: a tiny MusicGen in memory and on disk, databases, and real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest
import torch
from reprompt_core import Settings, embedded
from reprompt_gpu import Engine
from tiny import tiny_model, tiny_tokenizer

WHOLE = "REPROMPT_FAULT_ROUNDS" in os.environ


class Hub(NamedTuple):
    """A cache of the Hugging Face hub with one model."""

    folder: Path
    model: str = "someone/tiny-musicgen"
    commit: str = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine.from_transformers(tiny_model(seed=1), tiny_tokenizer(), device="cpu", slots=4) as loaded:
        yield loaded


@pytest.fixture
def broken_engine() -> Iterator[Engine]:
    """Its weights are finite, but not what it computes with them."""
    model = tiny_model(seed=1)
    with torch.no_grad():
        for head in model.decoder.lm_heads:
            head.weight.fill_(3e38)
    with Engine.from_transformers(model, tiny_tokenizer(), device="cpu", slots=2) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """Holds the tiny model, as an image holds its own."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    model = hub.folder / f"models--{hub.model.replace('/', '--')}"
    tiny_model(seed=1).save_pretrained(model / "snapshots" / hub.commit)
    tiny_tokenizer().save_pretrained(model / "snapshots" / hub.commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(hub.commit)
    return hub


@pytest.fixture
def url(environment: None) -> Iterator[str]:
    """A new, empty database on the embedded server that the tests share."""
    server = embedded.start(Settings().data_dir)
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://postgres:@/{name}?host={connection.info.host}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    """A worker that died is missed soon; after the usual time where the whole fault table is run."""
    soon = {} if WHOLE else {"stalled_s": 3.0}
    return Settings(database_url=url, audio_url=str(tmp_path / "audio"), **soon)


class Process:
    """`reprompt-worker run`, as its own process."""

    def __init__(self, settings: Settings, hub: Hub, log: Path, **environment: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reprompt_worker", "run", "--model", hub.model, "--metrics-port", "0"],
                env={
                    **os.environ,
                    "REPROMPT_DATABASE_URL": str(settings.database_url),
                    "REPROMPT_AUDIO_URL": str(settings.audio_url),
                    "REPROMPT_STALLED_S": str(settings.stalled_s),
                    "HF_HUB_CACHE": str(hub.folder),
                    "HF_HUB_OFFLINE": "1",
                    "OMP_NUM_THREADS": "1",
                    **environment,
                },
                stdout=subprocess.DEVNULL,
                stderr=output,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def port(self) -> int:
        """The port that it says it answers on."""
        self.until(lambda: "metrics on" in self.log)
        return int(self.log.partition(" port ")[2].split()[0])

    def ask(self, page: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as e:
            return e.code, e.read().decode()

    def metric(self, name: str) -> float:
        lines = self.ask("/metrics")[1].splitlines()
        return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])

    @property
    def is_busy(self) -> bool:
        return self.metric("reprompt_worker_generations_running") > 0

    def until(self, there: Callable[[], bool], *, limit_s: float = 120) -> None:
        """Waits for something of a living worker."""
        end = time.monotonic() + limit_s
        while True:
            try:
                if there():
                    return
            except OSError:  # it does not answer yet
                pass
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def until_ready(self) -> None:
        self.until(lambda: self.ask("/readyz")[0] == 200)

    def until_busy(self) -> None:
        """Waits until it holds a generation."""
        self.until(lambda: self.is_busy)

    def end(self, number: signal.Signals) -> int:
        """Signals it, waits for its end, and says how it ended."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def start(settings: Settings, hub: Hub, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts workers, which are killed at the end if they live."""
    with ExitStack() as stack:

        def one(**environment: str) -> Process:
            started = Process(settings, hub, tmp_path / f"{uuid.uuid4().hex}.log", **environment)
            stack.callback(lambda: started.process.poll() is None and started.end(signal.SIGKILL))
            return started

        yield one


@pytest.fixture(scope="session")
def uv() -> str:
    found = os.environ.get("UV") or shutil.which("uv") or str(Path(__file__).parents[3] / ".tools/bin/uv")
    assert Path(found).exists(), "uv is needed: `make test` brings it"
    return found
