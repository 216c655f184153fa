"""Server-sent events: what happens to a generation, resumable by Last-Event-ID, with a heartbeat."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import structlog
from reprompt_core import RepromptError
from reprompt_core.generation.jobs import Event
from reprompt_core.tasks import end

__all__ = ["as_sse"]

_LONGEST_S = 3600.0  # then the client comes back: a stream of something that never ends does not stay for ever
_log: Any = structlog.get_logger()


async def as_sse(events: AsyncIterator[Event], *, stopping: asyncio.Event, heartbeat_s: float) -> AsyncGenerator[bytes]:
    """The events as text/event-stream, until they end or the server stops; clients then come back and go on."""
    yield b"retry: 1000\n\n"
    stopped = asyncio.create_task(stopping.wait())
    following: asyncio.Task[Event | None] | None = None
    ends_at = asyncio.get_running_loop().time() + _LONGEST_S
    try:
        while not stopping.is_set() and asyncio.get_running_loop().time() < ends_at:
            following = following or asyncio.create_task(_next(events))
            await asyncio.wait([following, stopped], timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                yield b": still there\n\n"
                continue
            event, following = following.result(), None
            if event is None:
                return
            data = msgspec.json.encode({**event.data, "at": event.at})
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), data)
    finally:
        await end(following, stopped)
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def _next(events: AsyncIterator[Event]) -> Event | None:
    """None: there are no more, or they cannot be had now; the client comes back and is told which."""
    try:
        return await anext(events, None)
    except RepromptError as e:
        _log.warning("event stream ended", reason=str(e))
        return None
