"""RunPod on loopback: its REST API, which does as it is told, and the control plane that a real worker fetches from.

with RunPodServer() as server:
    server.plays(7, run=[Reply(429)], status=["IN_PROGRESS", completed()])  # the job with the seed 7
    settings = Settings(runpod_url=server.url, runpod_endpoint="tiny", runpod_api_key=KEY)
"""

import asyncio
import base64
import hashlib
import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from reprompt_core.generation import encode_audio

KEY = "rpa_TESTKEY0123456789"
RATE = 8000
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
_POLL_S = 0.5  # that the control plane holds a question of a worker


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that RunPod should not give."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    stall_after: int | None = None  # bytes of the body after which nothing more comes
    cut_after: int | None = None  # bytes of the body after which the connection ends
    reset: bool = False  # the connection is reset instead of an answer


HANG = Reply(delay_s=3600)
RESET = Reply(reset=True)


@dataclass(eq=False)
class Job:
    """A job at RunPod."""

    id: str
    input: dict[str, Any]
    policy: dict[str, Any]
    status: str = "IN_QUEUE"
    output: Any = None
    error: Any = None
    asked: int = 0  # times that its status was asked for

    @property
    def seed(self) -> int:
        return self.input["seed"]

    def told(self) -> dict[str, Any]:
        """What GET /status says."""
        said = {"id": self.id, "status": self.status, "delayTime": 12, "executionTime": 34}
        return said | {k: v for k, v in (("output", self.output), ("error", self.error)) if v is not None}


Step = str | dict[str, Any] | Reply | Callable[[Job], Any]


@dataclass
class _Script:
    run: list[Reply | None]  # to each POST /run; None: it is taken. Then all are
    status: list[Step]  # to each GET /status, the last for ever; none: how the job is
    cancel: Reply | None
    result: list[Reply]  # to each result that a worker posts; then all are taken


def completed(change: Callable[[dict[str, Any], Job], Any] | None = None) -> Callable[[Job], dict[str, Any]]:
    """A step of a script: done, with the result that was asked for, changed in place or to what is returned."""

    def step(job: Job) -> dict[str, Any]:
        result = good_result(job.input)
        changed = change(result, job) if change else None
        return {"id": job.id, "status": "COMPLETED", "output": result if changed is None else changed}

    return step


def good_result(input: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker answers: a tone for each take."""
    takes = []
    for number in range(input["takes"]):
        time = np.arange(round(input["seconds"] * RATE)) / RATE
        tone = 0.1 * np.sin(2 * np.pi * (220 + 20 * number + input["seed"]) * time)
        content = encode_audio(tone.astype(np.float32), RATE, input["format"])
        takes.append(a_take(content, number=number, input=input))
    return {"takes": takes, "model": "tiny", "model_revision": "r1", "timings_ms": {"making": 5.5}, "version": 1}


def a_take(content: bytes, *, number: int, input: Mapping[str, Any], **claims: Any) -> dict[str, Any]:
    """A RemoteTake of a file."""
    take = {
        "number": number,
        "seed": input["seed"] + number,
        "format": input["format"],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seconds": input["seconds"],
        "sample_rate": RATE,
        "channels": 1,
        "loudness_lufs": -23.5,
        "true_peak_dbtp": -20.0,
    }
    return {"take": take | claims, "audio": base64.b64encode(content).decode()}


class RunPodServer:
    """The server, on a thread of its own. Everything that it was asked is kept."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}  # by RunPod's id
        self.posted: list[dict[str, Any]] = []  # the input of every POST /run, whatever was answered
        self.keys: set[str] = set()  # the Authorization headers of the REST API
        self.cancelled: list[str] = []  # the id of every POST /cancel
        self.stops: list[str] = []  # of running jobs, which their worker was not told yet
        self.results: list[tuple[str, dict[str, Any]]] = []  # of workers: the id, and what was posted
        self._scripts: dict[int, _Script] = defaultdict(lambda: _Script([], [], None, []))
        self._numbers = count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runpod-server", daemon=True)

    def plays(
        self,
        seed: int,
        *,
        run: Sequence[Reply | None] = (),
        status: Sequence[Step] = (),
        cancel: Reply | None = None,
        result: Sequence[Reply] = (),
    ) -> None:
        """How it treats the generation of a seed."""
        self._scripts[seed] = _Script(list(run), list(status), cancel, list(result))

    def posts(self, seed: int) -> int:
        """How often the generation of a seed was submitted."""
        return sum(input["seed"] == seed for input in self.posted)

    def jobs_of(self, seed: int) -> list[Job]:
        """What is at RunPod of the generation of a seed."""
        return [job for job in self.jobs.values() if job.seed == seed]

    def cancels(self, seed: int) -> int:
        """How often the generation of a seed was cancelled there."""
        return sum(id in self.cancelled for id in [job.id for job in self.jobs_of(seed)])

    @property
    def root(self) -> str:
        """The address of the control plane."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address for REPROMPT_RUNPOD_URL."""
        return f"{self.root}/v2"

    def __enter__(self) -> "RunPodServer":
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024, limit=1 << 25)
        self._port: int = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self) -> None:
        self._server.close()
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # cancelled: the server stops while a client keeps its connection
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:]) if k}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                reply = await self._answer(method, urlsplit(target), headers, body)
                if not await _write(reply, reader, writer):
                    break
        writer.close()

    async def _answer(self, method: str, url: Any, headers: dict[str, str], body: bytes) -> Reply:
        match method, url.path.strip("/").split("/"):
            case "POST", ["v2", _, "run"]:
                self.keys.add(headers.get("authorization", ""))
                return self._run(json.loads(body))
            case "GET", ["v2", _, "status", id]:
                self.keys.add(headers.get("authorization", ""))
                return self._status(id)
            case "POST", ["v2", _, "cancel", id]:
                return self._cancel(id)
            case "GET", [("job-take" | "job-take-batch") as kind, _]:
                return await self._hand_out(kind, int(parse_qs(url.query).get("batch_size", ["1"])[0]))
            case "GET", ["job-stop", _]:
                return await self._hand_stops()
            case "POST", ["job-done", _, id]:
                return self._done(id, json.loads(body))
            case _:
                return Reply(200 if url.path == "/ping" else 404)

    # -- the REST API ----------------------------------------------------------------------------------------------

    def _run(self, sent: dict[str, Any]) -> Reply:
        self.posted.append(sent["input"])
        script = self._scripts[sent["input"]["seed"]]
        reply = script.run.pop(0) if script.run else None
        if reply is not None and not reply.delay_s:
            return reply
        job = Job(f"job-{next(self._numbers)}-u1", sent["input"], sent["policy"])
        self.jobs[job.id] = job
        said = _json({"id": job.id, "status": job.status})
        return said if reply is None else Reply(200, said.body, delay_s=reply.delay_s)  # taken, but told late

    def _status(self, id: str) -> Reply:
        job = self.jobs.get(id)
        if job is None:
            return Reply(404)
        job.asked += 1
        steps = self._scripts[job.seed].status
        if not steps:
            return _json(job.told())
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, Reply):
            return step
        if callable(step):
            step = step(job)
        return _json({"id": id, "status": step} if isinstance(step, str) else step)

    def _cancel(self, id: str) -> Reply:
        self.cancelled.append(id)
        job = self.jobs.get(id)
        if job is None:
            return Reply(404)
        if job.status == "IN_PROGRESS":
            self.stops.append(id)
        if job.status not in FINAL:
            job.status = "CANCELLED"
        return self._scripts[job.seed].cancel or _json(job.told())

    # -- the control plane -----------------------------------------------------------------------------------------

    async def _hand_out(self, kind: str, most: int) -> Reply:
        for _ in range(10):
            waiting = [job for job in self.jobs.values() if job.status == "IN_QUEUE"][:most]
            if waiting:
                for job in waiting:
                    job.status = "IN_PROGRESS"
                jobs = [{"id": job.id, "input": job.input} for job in waiting]
                return _json(jobs if kind == "job-take-batch" else jobs[0])
            await asyncio.sleep(_POLL_S / 10)
        return Reply(204)

    async def _hand_stops(self) -> Reply:
        for _ in range(10):
            if self.stops:
                stops, self.stops = self.stops, []
                return _json({"jobsToStop": stops})
            await asyncio.sleep(_POLL_S / 10)
        return Reply(204)

    def _done(self, id: str, posted: dict[str, Any]) -> Reply:
        self.results.append((id, posted))
        job = self.jobs[id]
        script = self._scripts[job.seed]
        if posted.get("status") != "IN_PROGRESS" and script.result:
            return script.result.pop(0)
        if job.status != "CANCELLED":
            job.status = posted.get("status", "FAILED" if "error" in posted else "COMPLETED")
            job.output, job.error = posted.get("output"), posted.get("error")  # a late word of progress overwrites
        return Reply()


def _json(value: Any) -> Reply:
    return Reply(200, json.dumps(value).encode())


async def _write(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Sends a reply; whether the connection may be used again."""
    await asyncio.sleep(reply.delay_s)
    if reply.reset:
        transport: Any = writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        return False
    sent = reply.body[: reply.stall_after if reply.cut_after is None else reply.cut_after]
    length = len(reply.body) + (reply.stall_after is not None)  # of a body that never comes whole
    headers = {"Content-Type": "application/json", "Content-Length": str(length), **reply.headers}
    if reply.status == 204:
        headers = {}
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + sent)
    await writer.drain()
    if reply.cut_after is not None:
        return False
    if reply.stall_after is not None:
        await reader.read()  # ends when the client leaves
        return False
    return True
