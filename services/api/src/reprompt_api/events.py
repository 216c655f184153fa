"""Server-sent events: what happens to a generation, resumable by Last-Event-ID, with a heartbeat."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import msgspec
from reprompt_core.generation.jobs import Event

__all__ = ["as_sse"]

_HEARTBEAT_S = 15.0


async def as_sse(events: AsyncIterator[Event], stopping: asyncio.Event) -> AsyncGenerator[bytes]:
    """The events as text/event-stream, until they end or the server stops; clients then come back and go on."""
    yield b"retry: 1000\n\n"
    stopped = asyncio.create_task(stopping.wait())
    following: asyncio.Task[Event] | None = None
    try:
        while not stopping.is_set():
            following = following or asyncio.ensure_future(_next(events))
            await asyncio.wait([following, stopped], timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                yield b": still there\n\n"
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            following = None
            data = msgspec.json.encode({**event.data, "at": event.at})
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), data)
    finally:
        for task in (following, stopped):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        with suppress(Exception):
            await events.aclose()  # type: ignore[attr-defined]


async def _next(events: AsyncIterator[Event]) -> Event:
    return await anext(events)
