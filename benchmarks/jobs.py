"""Generations as jobs: previews a second, what the queue costs, if a full table is slower. Run with `make bench`.

Jobs are submitted here and made by `reprompt worker` in a process of its own, on an embedded PostgreSQL of the
benchmark's own. The reference is the same work in a loop without a queue.
"""

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from report import percentile, report
from reprompt_core import Pipeline, Settings, embedded, reprompt
from reprompt_core.generation import Generation, GenerationRequest, Jobs, encode_audio, render_preview

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
SLOTS = 2
FINISHED = 10_000


def asked(number: int, *, seconds: float) -> GenerationRequest:
    """A request like no other."""
    words = SENTENCES[number % len(SENTENCES)]
    return GenerationRequest(words=words, seconds=seconds, seed=number, refiner="rules", generator="preview")


@contextmanager
def worker(settings: Settings) -> Iterator[psutil.Process]:
    """A worker process on the database of the settings, ready."""
    environment = {
        "REPROMPT_DATABASE_URL": str(settings.database_url),
        "REPROMPT_AUDIO_URL": str(settings.audio_url),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(Path(sys.executable).parent / "reprompt"), "worker", "--preview", str(SLOTS)]
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("Ready"), said
        try:
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Jobs]:
    """Jobs on the database of the settings."""
    async with Pipeline(settings) as pipeline, Jobs(pipeline=pipeline) as jobs:
        yield jobs


async def one(jobs: Jobs, request: GenerationRequest) -> tuple[Generation, float]:
    """A generation made, and the milliseconds until this process knew."""
    started = time.perf_counter()
    g = await jobs.wait((await jobs.submit(request)).id, timeout_s=60)
    assert g.status == "succeeded", g.error
    return g, 1000 * (time.perf_counter() - started)


async def throughput(settings: Settings, count: int) -> tuple[float, float, float]:
    """(previews of 10 s a second from the first submission to the last result, CPU seconds of the worker for each,
    MB of the worker).
    """
    with worker(settings) as process:
        async with opened(settings) as jobs:
            await one(jobs, asked(0, seconds=10))
            before, started = sum(process.cpu_times()[:2]), time.perf_counter()
            ids = [(await jobs.submit(asked(i, seconds=10))).id for i in range(count)]
            for id in ids:
                assert (await jobs.wait(id, timeout_s=600)).status == "succeeded"
            took = time.perf_counter() - started
            spent = sum(process.cpu_times()[:2]) - before
            return count / took, spent / count, process.memory_info().rss / 1e6


def without_a_queue(count: int) -> float:
    """The same previews a second, in a loop on as many threads."""
    from reprompt_core.encoder import Encoder, find_bundle
    from reprompt_core.knowledge import Knowledge

    settings = Settings()
    knowledge = Knowledge.load(Encoder(find_bundle(settings)), cache_dir=settings.cache_dir)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(SLOTS) as threads:

        def make(number: int) -> None:
            plan = reprompt(SENTENCES[number % len(SENTENCES)]).plan
            preview = render_preview(plan, seconds=10, seed=number, knowledge=knowledge)
            content = encode_audio(preview.samples, preview.sample_rate, "wav")
            (Path(folder) / f"{number}.wav").write_bytes(content)

        make(0)
        started = time.perf_counter()
        list(threads.map(make, range(count)))
        return count / (time.perf_counter() - started)


async def overheads(empty: Settings, full: Settings, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """(milliseconds from enqueue to start on an idle worker, from submission to result, and that beside FINISHED rows).

    The last two take turns, so that what else the machine does falls on both.
    """
    waited: list[float] = []
    times: tuple[list[float], list[float]] = ([], [])
    with worker(empty), worker(full):
        async with opened(empty) as one_table, opened(full) as other:
            g, _ = await one(other, asked(0, seconds=1))
            await fill(other, g.id)
            for number in range(-5, rounds):
                for jobs, kept in zip((one_table, other), times, strict=True):
                    g, ms = await one(jobs, asked(abs(number), seconds=1))
                    if number < 0:
                        continue
                    kept.append(ms)
                    if jobs is one_table:
                        assert g.started_at is not None
                        waited.append(1000 * (g.started_at - g.created_at).total_seconds())
    return waited, *times


async def fill(jobs: Jobs, id: str) -> None:
    """FINISHED copies of a generation, with their events."""
    kept = "tenant, digest, status, generator, request, reprompt, attempts, takes, created_at, started_at, finished_at"
    async with jobs.database.connection() as connection:
        parameters: dict[str, Any] = {"id": id, "count": FINISHED}
        await connection.execute(
            f"INSERT INTO reprompt.generations (id, {kept}) SELECT gen_random_uuid(), {kept} "  # pyright: ignore[reportArgumentType]
            "FROM reprompt.generations, generate_series(1, %(count)s) WHERE id = %(id)s",
            parameters,
        )
        await connection.execute(
            "INSERT INTO reprompt.generation_events (generation, kind, data) SELECT g.id, e.kind, e.data "
            "FROM reprompt.generations g, reprompt.generation_events e WHERE e.generation = %(id)s AND g.id <> %(id)s",
            parameters,
        )


def database(server: str, name: str, folder: Path) -> Settings:
    """Settings for a new database of the server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType]
        host = connection.info.host
    return Settings(database_url=f"postgresql://postgres:@/{name}?host={host}", audio_url=str(folder / name))


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "60"))
    folder = Path(tempfile.mkdtemp(prefix="reprompt-bench-"))
    folder.chmod(0o755)  # the embedded server may be another user's
    try:
        server = embedded.start(folder / "data")
        many, empty, full = (database(server, name, folder) for name in ("made_many", "made_few", "made_before"))
        rate, spent, memory = asyncio.run(throughput(many, 2 * rounds))
        waited, alone, beside = asyncio.run(overheads(empty, full, rounds))
    finally:
        embedded.stop(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)
    plain = without_a_queue(2 * rounds)
    slower = 100 * (statistics.median(beside) / statistics.median(alone) - 1)
    filled = f"the same beside {FINISHED:,} finished, p50"
    rows = [
        ("previews of 10 s, end to end", f"{rate:.1f} /s", ">= 10 /s", f"{100 * rate / plain:.0f} % of a loop's"),
        ("the same in a loop, without a queue", f"{plain:.1f} /s", "", f"{SLOTS} threads"),
        ("processor time of the worker for each", f"{1000 * spent:.0f} ms", "", ""),
        ("memory of the worker", f"{memory:.0f} MB", "", ""),
        ("enqueue to start, idle worker, p50", f"{percentile(waited, 0.5):.1f} ms", "<= 30 ms", ""),
        ("enqueue to start, idle worker, p95", f"{percentile(waited, 0.95):.1f} ms", "", ""),
        ("preview of 1 s, submission to result, p50", f"{percentile(alone, 0.5):.1f} ms", "", ""),
        (filled, f"{percentile(beside, 0.5):.1f} ms", "<= +20 %", f"{slower:+.0f} %"),
    ]
    report("generations", rows, "jobs.json")


if __name__ == "__main__":
    main()
