"""Fakes for tests of code that uses reprompt-core: a language-model server that speaks the protocol and misbehaves.

with ModelServer() as server:
    server.answers(says('{"genre": ...}'))
    settings = Settings(llm_base_url=server.url, llm_model="any")
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

__all__ = ["ModelReply", "ModelRequest", "ModelServer", "says"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the server was sent."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]

    @property
    def sent(self) -> str:
        """All messages as one text."""
        return "\n".join(str(m["content"]) for m in self.body.get("messages", []))


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What the server does."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0  # before anything is sent
    stall_after: int | None = None  # bytes of the body after which nothing more comes, until the client leaves
    reset: bool = False  # the connection is cut instead of an answer


def says(content: str | None, *, finish: str = "stop", refusal: str | None = None) -> ModelReply:
    """A chat completion with this content."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    return ModelReply(json.dumps(completion).encode())


Script = Callable[[ModelRequest], ModelReply]


class ModelServer:
    """An OpenAI-compatible server on loopback, on a thread of its own. Every request is kept in `requests`."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.open = 0  # connections at this moment
        self._script: Script = lambda _: ModelReply(b"{}", status=500)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-server", daemon=True)

    def answers(self, *replies: ModelReply) -> None:
        """Answers the requests in turn, the last reply for ever; forgets earlier requests."""
        self.requests.clear()
        waiting = list(replies)
        self._script = lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def obeys(self, script: Script) -> None:
        """Answers each request with what the script makes of it; forgets earlier requests."""
        self.requests.clear()
        self._script = script

    @property
    def url(self) -> str:
        """The address for REPROMPT_LLM_BASE_URL."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> "ModelServer":
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
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self._port: int = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self) -> None:
        self._server.close()
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            # cancelled: the server stops while a client keeps its connection
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while request := await _read(reader):
                    self.requests.append(request)
                    if not await _write(self._script(request), reader, writer):
                        break
        finally:
            self.open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> ModelRequest | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:]) if k}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ModelRequest(head[0].split(" ")[1], headers, json.loads(body or b"{}"))


async def _write(reply: ModelReply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Sends a reply; whether the connection may be used again."""
    await asyncio.sleep(reply.delay_s)
    if reply.reset:
        transport: Any = writer.transport
        transport.abort()
        return False
    length = len(reply.body) + (reply.stall_after is not None)  # of a body that never comes whole
    headers = {"Content-Type": "application/json", "Content-Length": str(length), **reply.headers}
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + reply.body[: reply.stall_after])
    await writer.drain()
    if reply.stall_after is not None:
        await reader.read()  # ends when the client leaves
        return False
    return True
