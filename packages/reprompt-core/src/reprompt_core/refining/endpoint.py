"""One OpenAI-compatible server: requests with retries, a limit on how many at once, and errors of one kind.

The only module that knows the openai package, which takes most of a second to import: it is imported at the first call.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..settings import Settings
from .breaker import Breaker
from .messages import Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Endpoint", "ModelError"]

_RETRIES = 2
_RETRIED = frozenset({408, 409, 429})
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 8.0
_MOST_BYTES = 256 * 1024  # of a whole response; an answer has about two thousand
_MAX_TOKENS = 4096  # room for a model that thinks first
# what a server may refuse to be sent, and can do without
_OPTIONAL = ("response_format", "max_tokens", "temperature", "seed")
_HINTS = {
    401: "check REPROMPT_LLM_API_KEY",
    403: "check REPROMPT_LLM_API_KEY",
    404: "check REPROMPT_LLM_MODEL and REPROMPT_LLM_BASE_URL",
    429: "its rate limit",
}


class ModelError(Exception):
    """The model gave no answer. The message may be shown: it quotes neither the server nor the key."""

    def __init__(self, message: str, *, said: str = "", faulty: bool | None = True) -> None:
        super().__init__(message)
        self.said = said  # the server's own words, without the key: for the operator alone
        self.faulty = faulty  # the server failed; False: it answered, but not usably; None: it was not asked


class _Refused(Exception):
    """A 400 or 422: perhaps for something that the server does not know."""

    def __init__(self, status: int, said: str, names: tuple[str, ...]) -> None:
        super().__init__(status)
        self.status, self.said, self.names = status, said, names


class Endpoint:
    """Asks the configured model. `complete` never waits longer than its deadline; `ModelError` is all it raises."""

    def __init__(self, settings: Settings) -> None:
        assert settings.llm_model is not None
        self.model = settings.llm_model
        self.server = urlsplit(settings.llm_base_url).netloc
        self._settings = settings
        self._breaker = Breaker(failures=settings.llm_breaker_failures, pause_s=settings.llm_breaker_s)
        self._slots = asyncio.Semaphore(settings.llm_max_concurrency)
        self._client: AsyncOpenAI | None = None
        self._unknown: frozenset[str] = frozenset()  # what this server refuses to be sent
        self._answered = False

    @property
    def structured(self) -> bool | None:
        """Whether the server takes a JSON schema; None: it has not answered yet."""
        return None if not self._answered else "response_format" not in self._unknown

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def complete(self, messages: Sequence[Message], *, schema: dict[str, Any], seed: int, deadline: float) -> str:
        """The text of the model's answer.

        Args:
            messages: role and content of each.
            schema: JSON schema of the answer, sent to servers that take one.
            seed: sent to servers that take one.
            deadline: of `time.monotonic()`, for everything together.

        Raises:
            ModelError: no answer, for whatever reason.
        """
        if not self._breaker.admits():
            raise ModelError(
                f"it failed {self._settings.llm_breaker_failures} times in a row and is left alone for another "
                f"{self._breaker.rest_s:.0f} s",
                faulty=None,
            )
        try:
            text = await self._ask(messages, schema, seed, deadline)
        except ModelError as e:
            if e.faulty is not None:
                (self._breaker.failed if e.faulty else self._breaker.succeeded)()
            raise
        self._breaker.succeeded()
        return text

    async def _ask(self, messages: Sequence[Message], schema: dict[str, Any], seed: int, deadline: float) -> str:
        """Asks, each time without what the server refused before, until it refuses nothing."""
        unknown = set(self._unknown)
        while True:
            options = {k: v for k, v in self._options(schema, seed).items() if k not in unknown}
            try:
                body = await self._with_retries(messages, options, deadline)
            except _Refused as e:
                named = next((name for name in e.names if name in options), None)
                refused = named or ("response_format" if "response_format" in options else None)
                if refused is None:
                    raise ModelError(f"its server refused the request ({e.status})", said=e.said) from None
                unknown.add(refused)
                continue
            self._unknown, self._answered = frozenset(unknown), True
            return _text(body)

    def _options(self, schema: dict[str, Any], seed: int) -> dict[str, Any]:
        options: dict[str, Any] = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "music_prompt", "schema": schema, "strict": True},
            },
            "max_tokens": _MAX_TOKENS,
            "seed": seed,
        }
        if self._settings.llm_temperature is not None:
            options["temperature"] = self._settings.llm_temperature
        return options

    async def _with_retries(self, messages: Sequence[Message], options: dict[str, Any], deadline: float) -> bytes:
        for attempt in range(_RETRIES + 1):
            try:
                return await self._in_turn(messages, options, deadline)
            except _Retry as e:
                pause = e.after_s
                if pause is None:
                    pause = min(_BACKOFF_S * 2**attempt, _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)  # noqa: S311
                else:
                    pause *= random.uniform(1.0, 1.1)  # noqa: S311 - so that not all come back at once
                if attempt == _RETRIES or time.monotonic() + pause >= deadline:
                    raise e.error from None
            await asyncio.sleep(pause)
        raise AssertionError  # the last attempt returned or raised

    async def _in_turn(self, messages: Sequence[Message], options: dict[str, Any], deadline: float) -> bytes:
        """One request, when fewer than the most are under way."""
        late = f"no answer within {self._settings.llm_timeout_s:g} s"
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._slots.acquire()
        except TimeoutError:
            raise ModelError(f"{late}: too many requests wait for it", faulty=None) from None
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._post(messages, options)
        except TimeoutError:
            raise ModelError(late) from None
        finally:
            self._slots.release()

    async def _post(self, messages: Sequence[Message], options: dict[str, Any]) -> bytes:
        """One request; the vendor's errors become ours here and nowhere else."""
        client = self._client or await self._connect()
        import openai
        from httpx2 import HTTPError

        create: Any = client.chat.completions.with_streaming_response.create
        try:
            async with create(model=self.model, messages=messages, extra_headers=self._headers, **options) as response:
                body = bytearray()
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise ModelError(f"its answer is over {_MOST_BYTES // 1024} KiB", faulty=False)
                return bytes(body)
        except openai.APIStatusError as e:
            told = str(e.body or e.message)
            said = self._without_key(told)
            if e.status_code in {400, 422}:
                raise _Refused(e.status_code, said, tuple(name for name in _OPTIONAL if name in told)) from None
            hint = f"; {_HINTS[e.status_code]}" if e.status_code in _HINTS else ""
            error = ModelError(f"its server answered with status {e.status_code}{hint}", said=said)
            if e.status_code in _RETRIED or e.status_code >= 500:
                raise _Retry(error, _retry_after(e.response.headers)) from None
            raise error from None
        except (openai.APIError, HTTPError) as e:
            cause = e.__cause__ or e
            error = ModelError(
                f"no connection to its server {self.server} ({type(cause).__name__}); check REPROMPT_LLM_BASE_URL",
                said=self._without_key(str(cause)),
            )
            raise _Retry(error, None) from None

    async def _connect(self) -> "AsyncOpenAI":
        if self._client is None:
            await asyncio.to_thread(__import__, "openai")
        if self._client is None:  # nobody else was faster
            from openai import AsyncOpenAI, Omit

            # nothing of the OPENAI_... variables: they would be sent to whatever server is configured
            key = self._settings.llm_api_key
            self._headers: dict[str, Any] = {
                "OpenAI-Organization": Omit(),
                "OpenAI-Project": Omit(),
                "Authorization": Omit() if key is None else f"Bearer {key}",
            }
            self._client = AsyncOpenAI(
                base_url=self._settings.llm_base_url,
                api_key=key or "none",
                admin_api_key="",
                max_retries=0,  # ours know the deadline
                timeout=None,
            )
            self._client._custom_headers = {}  # pyright: ignore[reportPrivateUsage] - OPENAI_CUSTOM_HEADERS
        return self._client

    def _without_key(self, text: str) -> str:
        key = self._settings.llm_api_key
        return (text.replace(key, "***") if key else text)[:500]


class _Retry(Exception):
    def __init__(self, error: ModelError, after_s: float | None) -> None:
        super().__init__(str(error))
        self.error, self.after_s = error, after_s


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait, from Retry-After in seconds or as a date."""
    value = str(headers.get("retry-after", "")).strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _text(body: bytes) -> str:
    """The content of the first choice of a chat completion."""
    try:
        completion: Any = json.loads(body)
        choices = completion["choices"]
        message, finish = (choices[0]["message"], choices[0].get("finish_reason")) if choices else ({}, None)
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise ModelError("its server's answer is no chat completion") from None
    if refusal or finish == "content_filter":
        raise ModelError("it refused", faulty=False)
    if not isinstance(content, str) or not content.strip():
        raise ModelError("its answer is empty", faulty=False)
    if finish == "length":
        raise ModelError("its answer was cut off", faulty=False)
    return content
