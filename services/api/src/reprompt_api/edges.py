"""The edge of the service, as one ASGI layer: request ids, keys, limits, deadlines, headers, one log line each."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from litestar.utils.path import normalize_path

from .answers import AnswerHeaders, allow_preflight
from .bodies import GoneError, read_body
from .callers import check_host, client_address, tenant_of
from .limits import Gate, Rates
from .metrics import Metrics
from .problems import PROBLEM, ProblemError, problem_body
from .settings import ApiSettings
from .tracing import Tracing

__all__ = ["Edge", "Exchange"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PROBES = frozenset({"/livez", "/readyz"})  # no key, no limit, and no log of what is as it should be
_PUBLIC = re.compile(r"/|/page/.*|/schema(/.*)?|/favicon\.ico", re.DOTALL)  # without a key
_STREAMS = re.compile(r"/v1/.*/(events|audio|export)", re.DOTALL)  # their bodies take long
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_LARGEST_HEAD = 32 * 1024  # bytes of the address and the headers
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log: Any = structlog.get_logger()


class Exchange:
    """One request, and how far its answer is. Routes find it in their request's state."""

    def __init__(self, scope: Scope, send: Send, *, edge: "Edge") -> None:
        self.scope = scope
        self.path = normalize_path(str(scope["path"]))
        self.method = str(scope["method"])
        self.headers = _headers(scope)
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        self.is_head = self.method == "HEAD"  # routes answer GET; what has no end is not begun
        self.status, self.begun, self.gone = 500, False, False
        self.tenant = ""
        self.route = ""
        self.rate: list[tuple[bytes, bytes]] = []
        self.deadline: asyncio.Timeout | None = None
        self.ended = asyncio.Event()  # the answer is whole, or the client has gone
        self._send, self._edge = send, edge
        self._gate: Gate | None = None

    async def send(self, message: Message) -> None:
        """Passes the answer on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status, self.begun = int(message["status"]), True
            if self.deadline is not None and not self.deadline.expired():
                self.deadline.reschedule(None)  # what has begun is ended by the connection
            headers = [self._with_all_methods(name, value) for name, value in message.get("headers", ())]
            message["headers"] = headers + self._more_headers(headers)
        elif self.is_head:
            message = {**message, "body": b""}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended.set()

    async def refuse(self, error: ProblemError) -> None:
        """Answers with a problem, unless there is an answer already."""
        if self.begun:
            return
        body = problem_body(error.status_code, error.detail, self.request_id, error.errors)
        headers = [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
        headers += [(b"content-type", PROBLEM.encode()), (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": error.status_code, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def enter(self, gate: Gate) -> bool:
        """Takes a place for this request, instead of the one that it has; False: there is none."""
        if not gate.enter():
            return False
        self.leave()
        self._gate = gate
        return True

    def leave(self) -> None:
        """Gives its place back."""
        if self._gate is not None:
            self._gate.leave()
            self._gate = None

    def wait_aside(self, seconds: float) -> bool:
        """Frees the place for the time that this request waits for something; False: there is no room to wait."""
        if not self.enter(self._edge.streams):
            return False
        if self.deadline is not None:
            self.deadline.reschedule(asyncio.get_running_loop().time() + seconds + self._edge.settings.deadline_s)
        return True

    def _with_all_methods(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """Allow, whole: Litestar's OPTIONS knows one handler of an address alone, and never that GET means HEAD."""
        if name.lower() != b"allow":
            return name, value
        known = self._edge.methods.get(str(self.scope.get("path_template")), frozenset())
        methods = known | {method.strip() for method in value.decode().split(",")}
        return name, ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set[str]()))).encode()

    def _more_headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        more = [(b"x-request-id", self.request_id.encode()), *self.rate]
        more += self._edge.answer_headers.of(self.path, self.headers.get("origin"))
        if not any(name.lower() == b"cache-control" for name, _ in given):
            is_page = self.path.startswith(("/page/", "/schema"))
            more.append((b"cache-control", b"no-cache" if is_page else b"no-store"))
        return more


class Edge:
    """Wraps the app.

    Args:
        app: what answers.
        settings: limits and keys.
        metrics: where refusals and times are counted.
        tracing: where each request is told.
        methods: of each address, by its template.
    """

    def __init__(
        self,
        app: App,
        settings: ApiSettings,
        metrics: Metrics,
        tracing: Tracing,
        *,
        methods: Mapping[str, frozenset[str]],
    ) -> None:
        self.methods = methods
        # what has no parameter first: /v1/comparisons/export is no id
        self._patterns = {t: _pattern(t) for t in sorted(methods, key=lambda template: "{" in template)}
        self._app, self.settings, self._metrics, self._tracing = app, settings, metrics, tracing
        self.requests, self.streams = Gate(settings.in_flight), Gate(settings.streams)
        self.answer_headers = AnswerHeaders(settings)
        self._rates, self._unknown = Rates(settings.rate_per_minute), Rates(settings.rate_per_minute)
        metrics.in_flight.set_function(lambda: self.requests.taken)
        metrics.streams.set_function(lambda: self.streams.taken)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket is spoken here
            await send({"type": "websocket.close", "code": 1002})
            return
        started = time.perf_counter()
        exchange = Exchange(scope, send, edge=self)
        exchange.scope = scope = dict(scope, method="GET" if exchange.is_head else exchange.method)
        scope["state"] = {**scope.get("state", {}), "request_id": exchange.request_id, "exchange": exchange}
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        with self._tracing.request(_method(exchange), exchange.headers, exchange.request_id) as span:
            try:
                await self._answer(scope, receive, exchange)
            finally:
                exchange.leave()
                exchange.route = self._route(scope, exchange)
                span.update({"http.route": exchange.route, "http.response.status_code": exchange.status})
                self._tell(exchange, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        """The answer, whatever happens."""
        try:
            if exchange.path in _PROBES:
                await self._app(scope, receive, exchange.send)
            else:
                await self._guarded(scope, receive, exchange)
        except ProblemError as problem:
            await exchange.refuse(problem)
        except GoneError:
            exchange.gone = True
        except TimeoutError:
            self._metrics.refused.labels("deadline").inc()
            await exchange.refuse(ProblemError(504, f"There was no answer within {self.settings.deadline_s} s."))
        except asyncio.CancelledError:
            if not exchange.gone:  # the server stops, and has waited long enough
                await exchange.refuse(ProblemError(503, "The server is stopping; try again.", headers=_after(1)))
        except Exception as error:
            # Litestar names the cause of what broke off in the middle; the connection ends without the rest
            _log.error("broken off" if exchange.begun else "fault", exc_info=error)
            await exchange.refuse(ProblemError(500, "A fault of ours. The log has it under the id in `instance`."))

    async def _guarded(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        """The checks, from cheap to dear, and then the app."""
        size = sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope.get("raw_path", b""))
        if size + len(scope.get("query_string", b"")) > _LARGEST_HEAD:
            raise ProblemError(431, f"The request line and headers are larger than {_LARGEST_HEAD // 1024} KB.")
        check_host(exchange.headers, self.settings)
        if (allowed := allow_preflight(scope, exchange.headers, self.settings)) is not None:
            await exchange.send({"type": "http.response.start", "status": 204, "headers": allowed})
            await exchange.send({"type": "http.response.body", "body": b""})
            return
        if not _PUBLIC.fullmatch(exchange.path):
            self._admit(scope, exchange)
        scope["state"]["tenant"] = exchange.tenant
        length = exchange.headers.get("content-length")
        if exchange.method in _WITHOUT_BODY and length is None:
            body = None
        else:
            try:
                body = await read_body(receive, length=length, within_s=self.settings.body_s)
            except ProblemError as problem:
                self._metrics.refused.labels("body").inc()
                raise problem from None
        if exchange.path == "/metrics":  # never refused for what it tells of
            await self._app(scope, receive, exchange.send)
            return
        streams = _STREAMS.fullmatch(exchange.path) is not None
        if not exchange.enter(self.streams if streams else self.requests):
            self._metrics.refused.labels("streams" if streams else "in_flight").inc()
            raise ProblemError(
                503, "Too much is under way; try again in a moment.", headers=_after(5 if streams else 1)
            )
        async with asyncio.timeout(self.settings.deadline_s) as exchange.deadline:
            try:
                if streams:  # Litestar looks itself whether the client of a stream has gone
                    await self._app(scope, receive if body is None else _again(body, receive), exchange.send)
                else:
                    await self._watched(scope, receive, body or b"", exchange)
            finally:
                exchange.deadline = None

    def _admit(self, scope: Scope, exchange: Exchange) -> None:
        """Counts the request to whoever sent it.

        Raises:
            ProblemError: the key is missing or wrong, or there were too many.
        """
        tenant = tenant_of(exchange.headers, self.settings)
        if tenant:  # who has a key is not held up by others at the same address
            rate = self._rates.take(f"key {tenant}")
        else:
            address = client_address(scope.get("client"), exchange.headers, self.settings.trusted_proxies)
            rate = (self._unknown if tenant is None else self._rates).take(address)
        exchange.rate = rate.headers
        if not rate.allowed:
            self._metrics.refused.labels("rate").inc()
            after = max(1, round(rate.wait_s + 0.5))
            raise ProblemError(
                429, f"More than {rate.limit} requests a minute; try again in {after} s.", headers=_after(after)
            )
        if tenant is None:
            self._metrics.refused.labels("key").inc()
            raise ProblemError(
                401, "Send your API key as `Authorization: Bearer KEY`.", headers={"WWW-Authenticate": "Bearer"}
            )
        exchange.tenant = tenant

    async def _watched(self, scope: Scope, receive: Receive, body: bytes, exchange: Exchange) -> None:
        """The app, stopped when nobody waits for its answer any more."""
        working = asyncio.current_task()
        assert working is not None

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            exchange.ended.set()
            if not exchange.begun:
                exchange.gone = True
                working.cancel()

        async def ended() -> Message:
            await exchange.ended.wait()
            return {"type": "http.disconnect"}

        watching = asyncio.create_task(watch())
        try:
            await self._app(scope, _again(body, ended), exchange.send)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    def _route(self, scope: Scope, exchange: Exchange) -> str:
        """The template of the path, never the path: that would be one more time series for each id."""
        if exchange.path.startswith("/page/"):
            return "/page"
        if (template := scope.get("path_template")) is not None:
            return str(template)
        # refused here, before the app looked for a route
        found = (template for template, pattern in self._patterns.items() if pattern.fullmatch(exchange.path))
        return next(found, "none")

    def _tell(self, exchange: Exchange, took_s: float) -> None:
        status = 499 if exchange.gone and not exchange.begun else exchange.status
        self._metrics.requests.labels(exchange.route, _method(exchange), str(status)).inc()
        self._metrics.seconds.labels(exchange.route).observe(took_s)
        if exchange.path not in _PROBES or 400 <= status < 500:  # an answer that names an id has its line
            _log.info(
                "request", method=_method(exchange), route=exchange.route, status=status, ms=round(1000 * took_s, 1),
                key=exchange.tenant,
            )  # fmt: skip


def _headers(scope: Scope) -> dict[str, str]:
    """By lower-case name; what stands several times is joined, as RFC 9110 says."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        text = value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _method(exchange: Exchange) -> str:
    return exchange.method if exchange.method in _METHODS else "other"


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(template)))


def _after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, and then what follows it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
