"""The API under load: prompts a second, start, memory, and a thousand requests on a language model that stalls.

The server is a process of its own on an embedded PostgreSQL of its own; the load comes from `wrk` (Debian: apt install
wrk), another process. Run with `make bench`. BENCH_REQUESTS (100,000) are sent for the memory figures, and the rate is
measured for BENCH_SECONDS (15).
"""

import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from report import percentile, report
from reprompt_core import embedded
from reprompt_core.testing import ModelReply, ModelServer

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text("utf-8").splitlines()
CONNECTIONS = 16
AT_ONCE = 1000
STARTS = 5
LLM_S = 5  # after which the rules answer instead of the model that stalls
HEAD = "POST /v1/prompts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"

# what wrk sends: every request has words of its own
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local sentences, n = {}, FIRST
for line in io.lines("SENTENCES") do sentences[#sentences + 1] = line:gsub('[\\\\"]', "") end
request = function()
  n = n + 1
  local words = sentences[n % #sentences + 1] .. " number " .. n
  return wrk.format(nil, "/v1/prompts", nil, '{"words":"' .. words .. '","refiner":"rules"}')
end
"""
# looks at /livez again and again until its input ends, and prints the milliseconds of each answer
LOOK = """
import json, socket, sys, threading, time
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
connection, times = socket.create_connection(("127.0.0.1", int(sys.argv[1]))), []
while not ended.is_set():
    began = time.perf_counter()
    connection.sendall(b"GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    answer = b""
    while not answer.endswith(b'{"status":"alive"}'):
        answer += connection.recv(65536)
    times.append(1000 * (time.perf_counter() - began))
    time.sleep(0.005)
print(json.dumps(times))
"""


@contextmanager
def server(folder: Path, **settings: str) -> Iterator[tuple[int, psutil.Process, float]]:
    """(port, process, seconds until it was ready) of a server on the data of a folder."""
    environment = {
        "REPROMPT_DATA_DIR": str(folder / "data"),
        "REPROMPT_API_RATE_PER_MINUTE": "1000000",
        "REPROMPT_API_LOG_LEVEL": "WARNING",
        **settings,
    }
    began = time.perf_counter()
    command = [sys.executable, "-m", "reprompt_api", "--port", "0"]
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = re.search(r"http://127.0.0.1:(\d+)/", process.stderr.readline())
        assert told, "the server did not start"
        port = int(told[1])
        while not ready(port):
            time.sleep(0.005)
        try:
            yield port, psutil.Process(process.pid), time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGTERM)


def ready(port: int) -> bool:
    """Whether requests can be answered; the connection waits for the server where it listens already."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def wrk(port: int, folder: Path, *, seconds: int, connections: int = CONNECTIONS, first: int = 0) -> dict[str, float]:
    """Requests a second, milliseconds at 50 and 99 %, requests, and how many of them failed."""
    script = folder / "prompts.lua"
    sentences = str(Path(__file__).parent / "sentences.txt")
    script.write_text(SCRIPT.replace("FIRST", str(first)).replace("SENTENCES", sentences))
    address = f"http://127.0.0.1:{port}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", str(script)]
    out = subprocess.run([*command, address], capture_output=True, text=True, check=True).stdout
    found = {
        "rate": r"Requests/sec:\s+([\d.]+)()",
        "p50": r"50%\s+([\d.]+)(us|ms|s)",
        "p99": r"99%\s+([\d.]+)(us|ms|s)",
        "requests": r"(\d+) requests in()",
    }
    in_ms = {"us": 0.001, "ms": 1.0, "s": 1000.0, "": 1.0}
    figures = {}
    for name, pattern in found.items():
        match = re.search(pattern, out)
        assert match, out
        figures[name] = float(match[1]) * in_ms[match[2]]
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    lost = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", out)))
    return {**figures, "failed": float(failed[1] if failed else 0) + lost}


def rate(folder: Path, seconds: int) -> tuple[dict[str, float], float]:
    """The figures of wrk, and the milliseconds of processor time of the server for each request."""
    with server(folder) as (port, process, _):
        wrk(port, folder, seconds=3)
        before = sum(process.cpu_times()[:2])
        figures = wrk(port, folder, seconds=seconds, first=10_000_000)
        return figures, 1000 * (sum(process.cpu_times()[:2]) - before) / figures["requests"]


def memory(folder: Path, count: int) -> tuple[int, list[float]]:
    """(requests, MB of the server at the start and after each tenth of them)."""
    with server(folder) as (port, process, _):
        sent = int(wrk(port, folder, seconds=2, first=1)["requests"])
        sizes = [process.memory_info().rss / 1e6]
        for tenth in range(1, 11):
            while sent < count * tenth / 10:
                figures = wrk(port, folder, seconds=5, first=20_000_000 + sent)
                assert not figures["failed"], figures
                sent += int(figures["requests"])
            sizes.append(process.memory_info().rss / 1e6)
        return sent, sizes


async def ask(port: int, number: int) -> tuple[int, float]:
    """(status, seconds) of a request to the language model, on a connection of its own."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"words": f"{SENTENCES[number % len(SENTENCES)]} {number}", "refiner": "llm"}).encode()
    writer.write(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ")[1]), time.perf_counter() - began


async def ask_all(port: int) -> list[tuple[int, float]]:
    """All at once."""
    return await asyncio.gather(*(ask(port, n) for n in range(AT_ONCE)))


def stalled(folder: Path) -> tuple[list[float], list[tuple[int, float]]]:
    """(milliseconds of /livez meanwhile, (status, seconds) of AT_ONCE requests to a model that never answers)."""
    with ModelServer() as model:
        model.answers(ModelReply(stall_after=0))
        settings = {
            "REPROMPT_LLM_BASE_URL": model.url,
            "REPROMPT_LLM_MODEL": "stalled",
            "REPROMPT_LLM_TIMEOUT_S": str(LLM_S),
            "REPROMPT_LLM_BREAKER_FAILURES": "1000",
        }
        with server(folder, **settings) as (port, _, _):
            asyncio.run(ask(port, -1))
            command = [sys.executable, "-c", LOOK, str(port)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as looking:
                time.sleep(0.5)
                answers = asyncio.run(ask_all(port))
                out, _ = looking.communicate("")
            times: Any = json.loads(out)
            return times, answers


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    count, seconds = int(os.environ.get("BENCH_REQUESTS", "100000")), int(os.environ.get("BENCH_SECONDS", "15"))
    folder = Path(tempfile.mkdtemp(prefix="reprompt-bench-"))
    folder.chmod(0o755)  # the embedded server may be another user's
    rows: list[tuple[str, str, str, str]] = []
    try:
        with server(folder, REPROMPT_API_PREVIEWS="1"):
            pass  # the database is made
        starts: list[float] = []
        for _ in range(STARTS):
            with server(folder) as (_, _, took):
                starts.append(took)
        rows.append(("start to ready, warm caches, median", f"{statistics.median(starts):.2f} s", "<= 3 s", ""))
        times, answers = stalled(folder)
        served = [took for status, took in answers if status == 200]
        refused = [took for status, took in answers if status == 503]
        others = len(answers) - len(served) - len(refused)
        what = f"{AT_ONCE:,} at once on a model that stalls"
        rows += [
            (f"/livez beside {what}, p50 / p99", both(times), "p99 < 50 ms", f"max {max(times):.0f} ms"),
            (f"{what}: refused with 503", f"{len(refused)}, {max(refused):.2f} s", "<= 1 s", "the slowest of them"),
            (f"{what}: answered", f"{len(served)}, {max(served):.2f} s", f"model's {LLM_S} s", f"{others} others"),
        ]
        if shutil.which("wrk") is None:
            print("wrk is not installed (apt install wrk): prompts a second and memory are not measured")
        else:
            figures, spent = rate(folder, seconds)
            one = f"{CONNECTIONS} connections"
            rows += [
                ("POST /v1/prompts, rules", f"{figures['rate']:.0f} /s", ">= 150 /s", one),
                ("the same, p50 / p99", f"{figures['p50']:.0f} / {figures['p99']:.0f} ms", "p99 <= 100 ms", one),
                ("processor time of the server for each", f"{spent:.1f} ms", "", f"{figures['failed']:.0f} failed"),
            ]
            sent, sizes = memory(folder, count)
            rows.append(
                (
                    f"memory after {sent:,} requests",
                    f"{sizes[-1]:.0f} MB",
                    "<= 350 MB, flat",
                    f"{sizes[0]:.0f} MB at the start, {sizes[5]:.0f} MB after half",
                )
            )
    finally:
        embedded.stop(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)
    report("the API", rows, "api.json")


def both(times: list[float]) -> str:
    """p50 and p99."""
    return f"{percentile(times, 0.5):.1f} / {percentile(times, 0.99):.1f} ms"


if __name__ == "__main__":
    main()
