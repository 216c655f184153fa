"""Connections: what uvicorn leaves open or answers in its own words."""

import asyncio
import secrets
import sys
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .problems import PROBLEM, TITLES, problem_body

__all__ = ["Connection"]

_HEAD_S = 10.0  # for the whole of it to arrive
_LINGER_S = 3.0  # for a body to end that is not wanted any more
_STALL_S = 60.0  # for a client to take what is waiting for it
_SAID = {
    400: "The request is no valid HTTP.",
    431: "The request line and headers are too large.",
    501: "This transfer encoding is not known here.",
}
_log: Any = structlog.get_logger()


class Connection(H11Protocol):
    """One connection: nobody holds it for ever by sending or reading too slowly, and what is no HTTP is told so in the
    same form as every other error."""

    _patience: asyncio.TimerHandle | None = None
    _lingers: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Goes on, and waits no longer once the head of a request is there."""
        super().data_received(data)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops every clock."""
        for clock in (self._patience, self._lingers, self._stalled):
            if clock is not None:
                clock.cancel()
        self._patience = self._lingers = self._stalled = None
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Waits a while for what is left of the request."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._lingers = self.loop.call_later(_LINGER_S, self.transport.abort)

    def pause_writing(self) -> None:
        """The client takes nothing for the moment."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(_STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, as far as an answer is possible."""
        error = sys.exc_info()[1]  # uvicorn calls this where it caught the reason
        status = getattr(error, "error_status_hint", 400)
        status = status if status in _SAID else 400
        cycle: Any = self.cycle  # none before the first request
        if cycle is not None and not cycle.response_complete:  # the app must not answer as well
            cycle.disconnected = True
            cycle.message_event.set()
        instance = secrets.token_hex(8)
        _log.warning("no HTTP", status=status, request_id=instance)
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = problem_body(status, _SAID[status], instance)
            headers = [
                (b"content-type", PROBLEM.encode()),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", instance.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                (b"connection", b"close"),
            ]
            reason = STATUS_PHRASES[status] or TITLES[status].encode()
            events = (
                h11.Response(status_code=status, headers=headers, reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait_for_head(self) -> None:
        """Within a time from the first byte of a request, or from the connection's, its head must be there."""
        if self._lingers is not None and self.conn.their_state is not h11.SEND_BODY:
            self._lingers.cancel()
            self._lingers = None
        waits = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
        if waits and self._patience is None:
            self._patience = self.loop.call_later(_HEAD_S, self.transport.abort)
        elif not waits and self._patience is not None:
            self._patience.cancel()
            self._patience = None
