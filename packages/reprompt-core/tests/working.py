"""What the tests of jobs share: a loop with an open pipeline and jobs on it, makers of their own, worker processes."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from reprompt_core import DatabaseError, Pipeline, Settings, embedded
from reprompt_core.generation import Generation, GenerationRequest, Jobs, Made, Maker, Sound, Work, Worker
from reprompt_core.generation.contract import Place

DEADLINE_S = 60  # for what should take a second or two
REPROMPT = str(Path(sys.executable).parent / "reprompt")
WORDS = "a bowl of spicy ramen under neon signs"


@contextmanager
def new_database() -> Iterator[str]:
    """A new, empty database on the embedded server that the tests share."""
    server = embedded.start(Settings().data_dir)
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        yield f"postgresql://postgres:@/{name}?host={connection.info.host}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # pyright: ignore[reportArgumentType, reportCallIssue]


class Rig:
    """One event loop with an open pipeline on a database of its own, for the tests of a module."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.audio = folder / "audio"
        self._runner = asyncio.Runner()
        self.pipeline = Pipeline(self.settings())

    def __enter__(self) -> "Rig":
        self.run(self.pipeline.open())
        self.run(self._make_tables())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.pipeline.close())
        self._runner.close()

    async def _make_tables(self) -> None:
        async with self.jobs():
            pass

    def settings(self, **more: Any) -> Settings:
        """With short waits; audio in a folder."""
        short = {"database_url": self.url, "audio_url": str(self.audio), "threads": 1, "drain_s": 3.0}
        return Settings(**{**short, **more})

    def run(self, work: Coroutine[Any, Any, Any], within_s: float = DEADLINE_S) -> Any:
        """What the work gives, or a failure once the time is over."""

        async def within() -> Any:
            async with asyncio.timeout(within_s):
                return await work

        return self._runner.run(within())

    def empty(self) -> None:
        """Forgets every generation, task and worker."""
        with self.connect() as connection:
            connection.execute(
                "TRUNCATE reprompt.generations, reprompt.generation_events, reprompt.workers, procrastinate_jobs, "
                "procrastinate_workers, procrastinate_events CASCADE"
            )

    def connect(self) -> "psycopg.Connection[dict[str, Any]]":
        """A connection of its own."""
        return psycopg.connect(self.url, autocommit=True, row_factory=dict_row)

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of a statement."""
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters or None)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def jobs(self, **settings: Any) -> AsyncIterator[Jobs]:
        """Open jobs on the pipeline, with settings of their own."""
        async with Jobs(self.settings(**settings), pipeline=self.pipeline) as jobs:
            yield jobs

    def files(self) -> list[str]:
        """Every audio file: generation/attempt."""
        # os.walk: what goes meanwhile is no error
        return sorted(str(Path(at).relative_to(self.audio)) for at, _, names in os.walk(self.audio) for _ in names)


@contextmanager
def new_rig(folder: Path) -> Iterator[Rig]:
    """A rig on a new database."""
    with new_database() as url, Rig(url, folder) as rig:
        yield rig


# -- makers -----------------------------------------------------------------------------------------------------


def sound(number: int = 0, content: bytes = b"", seed: int = 0) -> Sound:
    """A take whose content nobody listens to."""
    return Sound(
        content=content or b"take %d" % number, number=number, seed=seed, format="wav", seconds=1.0,
        sample_rate=32000, channels=2, loudness_lufs=-14.0, true_peak_dbtp=-1.0,
    )  # fmt: skip


class TestMaker:
    """Makes as the test says. Counts those it makes at once, and the most of them."""

    __test__ = False
    model: str | None = "test"
    model_revision: str | None = "1"

    def __init__(self, make: Callable[[Work], Awaitable[None]], *, slots: int = 2, place: Place = "preview") -> None:
        self._make, self.slots, self.place = make, slots, place
        self.now = self.most = 0
        self.made: list[str] = []

    async def make(self, work: Work) -> Made:
        """What the test says."""
        self.now += 1
        self.most = max(self.most, self.now)
        self.made.append(work.generation.id)
        try:
            await self._make(work)
        finally:
            self.now -= 1
        return Made("test", "1", {"making": 1.0})


async def quickly(work: Work) -> None:
    """Every take at once."""
    for number in range(work.generation.request.takes):
        await work.keep(sound(number))


async def forever(work: Work) -> None:
    """A take, then nothing more."""
    await work.keep(sound())
    await asyncio.sleep(3600)


@asynccontextmanager
async def working(jobs: Jobs, *makers: Maker) -> AsyncIterator[Worker]:
    """A worker in this process, connected; it drains at the end."""
    stop, worker = asyncio.Event(), Worker(jobs, makers)
    running = asyncio.create_task(worker.run(stop))
    try:
        await until(lambda: worker.connected or running.done())
        yield worker
    finally:
        stop.set()
        await running


async def until(check: Callable[[], Any], within_s: float = DEADLINE_S) -> Any:
    """What the check gives once it is true; it may be awaited."""
    end = time.monotonic() + within_s
    while True:
        found = check()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.02)


async def patiently(ask: Callable[[], Awaitable[Any]], within_s: float = DEADLINE_S) -> Any:
    """What the call gives, once the database answers."""
    end = time.monotonic() + within_s
    while True:
        try:
            return await ask()
        except DatabaseError:
            assert time.monotonic() < end, "the database does not answer"
            await asyncio.sleep(0.05)


async def status_of(jobs: Jobs, id: str, *wanted: str) -> Generation:
    """The generation once it has one of the statuses."""

    async def look() -> Generation | None:
        found = await jobs.get(id)
        return found if found.status in wanted else None

    return await until(look)


def request(**fields: Any) -> GenerationRequest:
    """A short preview."""
    return GenerationRequest(**{"words": WORDS, "seconds": 1.0, "refiner": "rules", "generator": "preview", **fields})


# -- processes --------------------------------------------------------------------------------------------------


class Process:
    """`reprompt worker`, or code of the test's own, in a process: started, heard, signalled, ended by its id."""

    def __init__(self, folder: Path, *arguments: str, code: str | None = None, **settings: object) -> None:
        self.log = folder / f"worker-{uuid.uuid4().hex[:8]}.log"
        command = [REPROMPT, "worker", *arguments] if code is None else [sys.executable, "-c", code]
        chosen = {f"REPROMPT_{name.upper()}": str(value) for name, value in settings.items()}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, "OMP_NUM_THREADS": "1", **chosen}, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def said(self) -> str:
        """Everything it wrote."""
        return self.log.read_text("utf-8", errors="replace")

    def ready(self) -> "Process":
        """Once it said so."""
        end = time.monotonic() + DEADLINE_S
        while "Ready:" not in self.said:
            assert self._process.poll() is None, f"it ended with {self._process.returncode}: {self.said}"
            assert time.monotonic() < end, f"it is not ready: {self.said}"
            time.sleep(0.02)
        return self

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def end(self, number: int | None = None) -> int:
        """Its exit code, after a signal."""
        if number is not None:
            self.signal(number)
        return self._process.wait(DEADLINE_S)

    def close(self) -> None:
        """Kills it if it still runs."""
        if self.alive:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(DEADLINE_S)


@contextmanager
def processes(folder: Path) -> Iterator[Callable[..., Process]]:
    """Starts worker processes, and ends every one in the end."""
    started: list[Process] = []

    def start(*arguments: str, **how: Any) -> Process:
        started.append(Process(folder, *arguments, **how))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.close()


def spread(values: Sequence[float]) -> str:
    """The middle and the most of some seconds."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.2f} s in the middle, {ordered[-1]:.2f} s at most"
