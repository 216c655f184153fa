"""The edge of the service, as one ASGI layer: request ids, keys, limits, deadlines, headers, one log line each."""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

import structlog

from .metrics import Metrics
from .problems import PROBLEM, problem_body
from .settings import ApiSettings

__all__ = ["Edge"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT = 64 * 1024
_OPEN = frozenset({"/livez", "/readyz", "/metrics"})  # for probes: no key, no limit
_BUCKETS = 10_000  # of keys and addresses whose rate is remembered
_ID = re.compile(r"[\w.-]{1,64}")
_log: Any = structlog.get_logger()

# the page loads nothing from elsewhere and runs no script that stands in it
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_DOCS_CSP = (  # the schema page brings its scripts itself
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Refused(Exception):
    def __init__(self, status: int, detail: str, *, after_s: float | None = None, why: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.after_s, self.why = status, detail, after_s, why


class Edge:
    """Wraps the app.

    Args:
        app: what answers.
        settings: limits and keys.
        metrics: where refusals and times are counted.
    """

    def __init__(self, app: App, settings: ApiSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._in_flight = self._streams = 0
        self._rates: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens, when) of a key or address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, path = time.perf_counter(), str(scope["path"])
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        status, begun = 500, False
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = int(message["status"]), True
                message["headers"] = [*message.get("headers", []), *self._headers(path, request_id)]
            await send(message)

        async def refuse(refused: _Refused) -> None:
            self._metrics.refused.labels(refused.why).inc()
            extra = [(b"retry-after", str(max(1, round(refused.after_s))).encode())] if refused.after_s else []
            if refused.status == 401:
                extra.append((b"www-authenticate", b"Bearer"))
            body = problem_body(refused.status, refused.detail, request_id)
            common = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
            await answer({"type": "http.response.start", "status": refused.status, "headers": common + extra})
            await answer({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

        try:
            if path in _OPEN:
                await self._app(scope, receive, answer)
            else:
                await self._guarded(scope, _limited(receive), answer, headers)
        except _Refused as refused:
            if begun:
                raise
            await refuse(refused)
        except TimeoutError:
            if not begun:
                await refuse(_Refused(504, f"No answer within {self._settings.deadline_s} s.", why="deadline"))
        finally:
            took = time.perf_counter() - started
            route = str(scope.get("path_template") or ("page" if status < 400 else "none"))
            self._metrics.requests.labels(route, scope["method"], str(status)).inc()
            self._metrics.seconds.labels(route).observe(took)
            if path not in _OPEN:
                _log.info(
                    "request", method=scope["method"], route=route, status=status, ms=round(1000 * took, 1),
                    key=state.get("tenant", ""),
                )  # fmt: skip

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        path, method = str(scope["path"]), str(scope["method"])
        state: dict[str, Any] = scope["state"]
        state["tenant"] = ""
        if path.startswith("/v1/") and method != "OPTIONS":
            address = self._address(scope, headers)
            self._limit_rate(f"address {address}" if not self._settings.keys else f"unknown {address}", peek=True)
            state["tenant"] = self._tenant(headers, address)
            self._limit_rate(f"key {state['tenant']}" if self._settings.keys else f"address {address}")
            _check_body(method, headers)
        if path.endswith("/events"):
            await self._stream(scope, receive, send)
            return
        if self._in_flight >= self._settings.in_flight:
            raise _Refused(503, "Too many requests are under way; try again in a second.", after_s=1, why="in_flight")
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._streams >= self._settings.streams:
            raise _Refused(
                503, "Too many event streams are open; poll the generation instead.", after_s=10, why="streams"
            )
        self._streams += 1
        self._metrics.streams.set(self._streams)
        try:
            await self._app(scope, receive, send)
        finally:
            self._streams -= 1
            self._metrics.streams.set(self._streams)

    def _address(self, scope: Scope, headers: dict[str, str]) -> str:
        """The client's address; a proxy's word is taken only from proxies that are trusted."""
        from ipaddress import ip_address

        client = str((scope.get("client") or ("unknown",))[0])
        chain = [client, *(a.strip() for a in reversed(headers.get("x-forwarded-for", "").split(",")) if a.strip())]
        for at, address in enumerate(chain):
            try:
                trusted = any(ip_address(address) in network for network in self._settings.trusted_proxies)
            except ValueError:
                return chain[at - 1] if at else address
            if not trusted:
                return address
        return chain[-1]

    def _tenant(self, headers: dict[str, str], address: str) -> str:
        """The name of the key that was given; "" where none are configured."""
        if not self._settings.keys:
            return ""
        kind, _, given = headers.get("authorization", "").partition(" ")
        secret = given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        # every key is compared, so that the time says nothing
        fitting = [key.name for key in self._settings.keys if key.fits(secret)]
        if not secret or not fitting:
            self._limit_rate(f"unknown {address}")  # guessing is slowed down
            raise _Refused(401, "Send your API key as `Authorization: Bearer KEY`.", why="key")
        return fitting[0]

    def _limit_rate(self, who: str, *, peek: bool = False) -> None:
        """A bucket of a minute's requests that fills evenly."""
        most, now = float(self._settings.rate_per_minute), time.monotonic()
        tokens, then = self._rates.pop(who, (most, now))
        tokens = min(most, tokens + (now - then) * most / 60)
        allowed = tokens >= 1
        self._rates[who] = (tokens - 1 if allowed and not peek else tokens, now)
        while len(self._rates) > _BUCKETS:
            self._rates.popitem(last=False)
        if not allowed:
            wait = (1 - tokens) * 60 / most
            raise _Refused(
                429,
                f"More than {most:.0f} requests a minute; try again in {max(1, round(wait))} s.",
                after_s=wait,
                why="rate",
            )

    def _headers(self, path: str, request_id: str) -> list[tuple[bytes, bytes]]:
        csp = _DOCS_CSP if path.startswith("/schema") else _CSP
        headers = {
            "x-request-id": quote(request_id),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "x-frame-options": "DENY",
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=()",
            "content-security-policy": csp,
        }
        if path.startswith("/v1/") and not path.endswith("/audio"):
            headers["cache-control"] = "no-store"
        return [(k.encode(), v.encode()) for k, v in headers.items()]


def _check_body(method: str, headers: dict[str, str]) -> None:
    if method not in {"POST", "PUT", "PATCH"}:
        return
    length = headers.get("content-length", "")
    if length and (not length.isdigit() or int(length) > BODY_LIMIT):
        raise _Refused(413, f"The body is larger than {BODY_LIMIT // 1024} KB.", why="body")
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise _Refused(415, "Send JSON, with `Content-Type: application/json`.", why="content_type")


def _limited(receive: Receive) -> Receive:
    """The same, with an end to a body that tells no length."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT:
                raise _Refused(413, f"The body is larger than {BODY_LIMIT // 1024} KB.", why="body")
        return message

    return bounded
