"""RunPod's serverless API over HTTP: submit, status, cancel, and what each answer means for the bill.

An answer is a yes, a no, or neither. A submission that got neither may have been taken: it is never sent again.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from httpx2 import (
    AsyncClient,
    ConnectError,
    ConnectTimeout,
    HTTPError,
    InvalidURL,
    Limits,
    PoolTimeout,
    ProxyError,
    StreamError,
    Timeout,
)

from ..errors import MakingError
from ..settings import Settings

__all__ = ["Answer", "NotTaken", "RunPodClient", "Unheard", "plain_numbers", "unknown"]

_log = logging.getLogger(__name__)
_FAULTS = (HTTPError, InvalidURL, StreamError, TimeoutError, OSError)  # what goes wrong on the way
_NOT_SENT = (ConnectError, ConnectTimeout, PoolTimeout, ProxyError)
_CONNECT_S = 10.0
_MOST_BYTES = 16 << 20  # of an answer; RunPod's own limit of a result is 10 MB
_MARGIN_S = 60.0  # for which RunPod keeps a job longer than it is followed
_SHORTEST_RUN_S, _SHORTEST_LIFE_S = 5.0, 10.0  # RunPod refuses less
_REFUSALS = {
    400: "the endpoint does not take what it was sent: check that it runs this version of the worker",
    401: "check REPROMPT_RUNPOD_API_KEY",
    402: "check the balance of the RunPod account",
    403: "check that REPROMPT_RUNPOD_API_KEY may use the endpoint REPROMPT_RUNPOD_ENDPOINT",
    404: "check REPROMPT_RUNPOD_ENDPOINT and REPROMPT_RUNPOD_URL",
    405: "check REPROMPT_RUNPOD_URL",
    413: "the request is larger than RunPod takes: use a shorter prompt",
    422: "the endpoint does not take what it was sent: check that it runs this version of the worker",
    **dict.fromkeys((301, 302, 303, 307, 308), "it answers from another address: check REPROMPT_RUNPOD_URL"),
}


class Unheard(Exception):
    """No answer that says anything. The message quotes neither RunPod nor the key."""

    def __init__(self, why: str, *, status: int | None = None, after_s: float | None = None) -> None:
        super().__init__(why)
        self.status, self.after_s = status, after_s  # of HTTP; seconds that it asks to wait


class NotTaken(Unheard):
    """Certainly nothing was submitted: it may be sent again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What RunPod says of a job."""

    status: str
    output: object
    error: object
    timings_ms: dict[str, float]


class RunPodClient:
    """One endpoint. Use it within one event loop, and close it.

    Args:
        settings: with an endpoint and its key.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.runpod_endpoint is not None
        self.server = urlsplit(settings.runpod_url).netloc
        self._base = f"{settings.runpod_url.rstrip('/')}/{settings.runpod_endpoint}"
        self._key = settings.runpod_api_key or ""
        policy = {
            "executionTimeout": max(settings.runpod_timeout_s, _SHORTEST_RUN_S),
            # the job's data with its result is deleted then: not before the last look at it
            "ttl": max(settings.runpod_timeout_s + _MARGIN_S, _SHORTEST_LIFE_S),
        }
        self._policy = {name: round(1000 * seconds) for name, seconds in policy.items()}
        headers = {"Authorization": f"Bearer {self._key}", "Accept-Encoding": "identity"}
        # a kept connection may close while a submission is sent over it, and nobody would know whether it arrived
        self._submitting = AsyncClient(headers=headers, limits=Limits(max_keepalive_connections=0), timeout=None)
        self._asking = AsyncClient(headers=headers, timeout=None)

    async def close(self) -> None:
        """Gives up the connections."""
        await self._submitting.aclose()
        await self._asking.aclose()

    async def run(self, job: dict[str, Any], *, timeout_s: float) -> str:
        """Submits a job, once; its id at RunPod.

        Raises:
            NotTaken: nothing was submitted.
            MakingError: it is refused, or (code "unknown") may have been submitted.
        """
        content = msgspec.json.encode({"input": job, "policy": self._policy})
        try:
            status, headers, body = await self._send("POST", "run", content=content, timeout_s=timeout_s)
        except _NOT_SENT as e:
            raise NotTaken(f"there is no connection to {self.server} ({type(e).__name__})") from None
        except _FAULTS as e:
            raise unknown(job["id"], f"no answer came ({type(e).__name__})") from None
        if status == 429:
            raise NotTaken("RunPod's rate limit is reached", status=status, after_s=_retry_after(headers))
        if status in _REFUSALS:
            raise MakingError(f"RunPod refused the job ({status}): {_REFUSALS[status]}.", code="refused")
        if not 200 <= status < 300:
            raise unknown(job["id"], f"the answer was status {status}")
        id = _fields(body).get("id")
        if not isinstance(id, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", id):
            raise unknown(job["id"], "the answer held no id")
        return id

    async def status(self, id: str, *, timeout_s: float) -> Answer:
        """How a job is.

        Raises:
            Unheard: ask again; with 404 as its status: RunPod does not know the job.
            MakingError: the answer is larger than a result may be.
        """
        try:
            status, headers, body = await self._send("GET", f"status/{id}", timeout_s=timeout_s)
        except _FAULTS as e:
            raise Unheard(f"no answer came from {self.server} ({type(e).__name__})") from None
        if not 200 <= status < 300:
            raise Unheard(f"the answer was status {status}", status=status, after_s=_retry_after(headers))
        fields = _fields(body)
        word = fields.get("status")
        if not isinstance(word, str):
            raise Unheard("the answer held no status")
        times = {"runpod_queue": fields.get("delayTime"), "runpod_run": fields.get("executionTime")}
        return Answer(word, fields.get("output"), fields.get("error"), plain_numbers(times))

    async def cancel(self, id: str, *, timeout_s: float) -> None:
        """Asks once that a job ends. Whether it does is not known: an error is only logged."""
        why = None
        with suppress(MakingError, *_FAULTS):
            status, _, _ = await self._send("POST", f"cancel/{id}", timeout_s=timeout_s)
            why = None if 200 <= status < 300 else f"status {status}"
            if why is None:
                return
        _log.warning("RunPod's job %s may still run: it could not be cancelled (%s)", id, why or "no answer")

    def without_key(self, text: str) -> str:
        """A text of RunPod's for the operator."""
        return text.replace(self._key, "***") if self._key else text

    async def _send(
        self, method: Literal["GET", "POST"], path: str, *, content: bytes | None = None, timeout_s: float
    ) -> tuple[int, Any, bytes]:
        """(status, headers, body) of one request."""
        client = self._submitting if path == "run" else self._asking
        sent = {} if content is None else {"Content-Type": "application/json"}
        # no connection must be told from no answer: it is given up before the whole is
        limits = Timeout(None, connect=min(_CONNECT_S, timeout_s / 2))
        body = bytearray()
        async with (
            asyncio.timeout(timeout_s),
            client.stream(method, f"{self._base}/{path}", content=content, headers=sent, timeout=limits) as response,
        ):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise MakingError(
                        f"RunPod's answer is over {_MOST_BYTES >> 20} MiB, more than a result may be.",
                        code="bad_result",
                    )
        return response.status_code, response.headers, bytes(body)


def unknown(generation: str, why: str) -> MakingError:
    """Nobody knows whether a generation was submitted."""
    return MakingError(
        f"It may have been submitted to RunPod, and billed, or not: {why}. It was not sent again. Look at the "
        f"endpoint's requests for the input id {generation}; ask again if it is not there.",
        code="unknown",
    )


def _fields(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer; nothing of anything else."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def plain_numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Those of the values that are numbers from 0 to a billion."""
    numbers = {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {k: float(v) for k, v in numbers.items() if 0 <= v <= 1e9}


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait, from Retry-After in seconds or as a date."""
    value = str(headers.get("retry-after", "")).strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
