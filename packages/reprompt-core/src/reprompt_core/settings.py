"""Settings: the only reader of the environment."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import platformdirs

from .errors import SettingsError

__all__ = ["Settings"]

_T = TypeVar("_T")
_PREFIX = "REPROMPT_"
_ROOT_HOME = Path("/var/lib/reprompt")
OPENAI_URL = "https://api.openai.com/v1"


def _env(name: str, parse: Callable[[str], _T], default: Callable[[], _T], **options: Any) -> Any:
    """A field read from REPROMPT_<name> when it is set and not empty, else made by `default`."""

    def read() -> _T:
        value = os.environ.get(_PREFIX + name, "")
        if not value:
            return default()
        try:
            return parse(value)
        except (ValueError, RuntimeError) as e:  # RuntimeError: ~ of an unknown user
            raise SettingsError(f"{_PREFIX}{name} is {value!r}: {e}") from e

    return field(default_factory=read, **options)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(value)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", value) or not low <= float(value) <= high:
            raise ValueError(f"give a number from {low:g} to {high:g}")
        return float(value)

    return parse


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port  # read: it may be no number
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", value))
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and plain


def _switch(value: str) -> bool:
    if value.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ValueError("give 1 or 0")
    return value.lower() in {"1", "true", "yes", "on"}


def _folder(value: str) -> Path:
    return Path(value).expanduser().absolute()


def _default_data_dir() -> Path:
    # The embedded server runs as a user of its own under root and must be able to enter every parent folder,
    # which would open root's home: keep its data out of homes.
    if os.name == "posix" and os.geteuid() == 0:
        return _ROOT_HOME
    return Path(platformdirs.user_data_path("reprompt", appauthor=False))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be configured. Each field is read from REPROMPT_<NAME> unless given here."""

    database_url: str | None = _env("DATABASE_URL", str, lambda: None, repr=False)
    """postgresql://... of a server with pgvector; None: the embedded server. Holds a password: kept out of repr."""
    data_dir: Path = _env("DATA_DIR", _folder, _default_data_dir)
    """Folder of the embedded database."""
    database_pool: int = _env("DATABASE_POOL", _whole(1, 100), lambda: 4)
    """Connections at most, 1 to 100."""
    database_timeout_s: int = _env("DATABASE_TIMEOUT_S", _whole(1, 600), lambda: 10)
    """Seconds to wait for a connection."""
    database_prepare: bool = _env("DATABASE_PREPARE", _switch, lambda: True)
    """Prepare statements on the server. False behind PgBouncer in transaction mode: there nothing of a session holds,
    so corpora are changed over a direct connection."""
    encoder: Path | None = _env("ENCODER", _folder, lambda: None)
    """Folder of an encoder bundle; None: the cache folder, else one is built or downloaded."""
    cache_dir: Path = _env(
        "CACHE_DIR", _folder, lambda: Path(platformdirs.user_cache_path("reprompt", appauthor=False))
    )
    """Folder of encoder bundles."""
    threads: int = _env("THREADS", _whole(1, 64), lambda: min(os.cpu_count() or 1, 4))
    """Processor threads of the encoder, 1 to 64."""
    offline: bool = _env("OFFLINE", _switch, lambda: False)
    """Never download an encoder."""
    llm_model: str | None = _env("LLM_MODEL", str, lambda: None)
    """The language model that writes prompts, as its server calls it; None: none, the rules write them."""
    llm_base_url: str = _env("LLM_BASE_URL", str, lambda: OPENAI_URL)
    """The address of an OpenAI-compatible server, up to and with its /v1."""
    llm_api_key: str | None = _env("LLM_API_KEY", str, lambda: None, repr=False)
    """The key that the server asks for; kept out of repr, logs and errors."""
    llm_timeout_s: float = _env("LLM_TIMEOUT_S", _number(0.05, 600), lambda: 20.0)
    """Seconds for a whole answer, every retry and repair included, .05 to 600."""
    llm_max_concurrency: int = _env("LLM_MAX_CONCURRENCY", _whole(1, 1000), lambda: 16)
    """Requests under way to the model at once, 1 to 1,000."""
    llm_temperature: float | None = _env("LLM_TEMPERATURE", _number(0, 2), lambda: None)
    """Sampling temperature, 0 to 2; None: the server's own."""
    llm_breaker_failures: int = _env("LLM_BREAKER_FAILURES", _whole(1, 1000), lambda: 5)
    """Failures in a row after which the model is left alone."""
    llm_breaker_s: float = _env("LLM_BREAKER_S", _number(0.05, 86_400), lambda: 30.0)
    """Seconds for which it is left alone."""
    llm_cache_size: int = _env("LLM_CACHE_SIZE", _whole(0, 10_000_000), lambda: 10_000)
    """Answers of the model that the database keeps; 0: none."""
    llm_cache_days: int = _env("LLM_CACHE_DAYS", _whole(1, 3650), lambda: 30)
    """Days for which an answer is kept."""

    audio_url: str | None = _env("AUDIO_URL", str, lambda: None)
    """Where audio is kept: a folder, or s3://, gs:// or az:// (their own variables hold the credentials); None: in
    data_dir."""
    queue_limit: int = _env("QUEUE_LIMIT", _whole(1, 1_000_000), lambda: 10_000)
    """Generations that may wait; more are refused."""
    attempts: int = _env("ATTEMPTS", _whole(1, 20), lambda: 3)
    """Times that a generation is tried whose worker dies or whose store is away."""
    retention_days: int = _env("RETENTION_DAYS", _whole(1, 3650), lambda: 30)
    """Days after which a finished generation is deleted, its events and audio with it."""
    stalled_s: float = _env("STALLED_S", _number(2, 600), lambda: 20.0)
    """Seconds without a sign of life after which a worker counts as dead."""
    drain_s: float = _env("DRAIN_S", _number(0, 3600), lambda: 30.0)
    """Seconds that a stopping worker gives to what it is making; then that is left to another."""
    runpod_endpoint: str | None = _env("RUNPOD_ENDPOINT", str, lambda: None)
    """Id of a RunPod serverless endpoint; None: none is used."""
    runpod_api_key: str | None = _env("RUNPOD_API_KEY", str, lambda: None, repr=False)
    """Its key; kept out of repr, logs and errors."""
    runpod_url: str = _env("RUNPOD_URL", str, lambda: "https://api.runpod.ai/v2")
    """The address of RunPod's API."""
    runpod_timeout_s: float = _env("RUNPOD_TIMEOUT_S", _number(1, 86_400), lambda: 900.0)
    """Seconds from the submission until a result must be there."""

    def __post_init__(self) -> None:
        if self.database_url is not None and not re.match(r"postgres(ql)?://", self.database_url):
            raise SettingsError("REPROMPT_DATABASE_URL must start with postgresql://")
        # the values are not quoted: who puts a password into an address must not find it in a log
        if not _is_address(self.llm_base_url):
            raise SettingsError(
                "REPROMPT_LLM_BASE_URL must be an address such as http://localhost:11434/v1, with no user or password "
                "in it (a key goes into REPROMPT_LLM_API_KEY)"
            )
        if not _is_address(self.runpod_url):
            raise SettingsError("REPROMPT_RUNPOD_URL must be an address such as https://api.runpod.ai/v2")
        if self.runpod_endpoint is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", self.runpod_endpoint):
            raise SettingsError("REPROMPT_RUNPOD_ENDPOINT must be the id of an endpoint: letters, digits, - and _")
        if (self.runpod_endpoint is None) != (self.runpod_api_key is None):
            raise SettingsError("REPROMPT_RUNPOD_ENDPOINT and REPROMPT_RUNPOD_API_KEY go together: set both or none")
        if self.runpod_api_key is not None and not re.fullmatch(r"[!-~]+", self.runpod_api_key):
            raise SettingsError("REPROMPT_RUNPOD_API_KEY holds a space or a character that no key has")
        if self.llm_api_key is not None and not re.fullmatch(r"[!-~]+", self.llm_api_key):
            raise SettingsError("REPROMPT_LLM_API_KEY holds a space or a character that no key has")
        if self.llm_model is None and (self.llm_base_url != OPENAI_URL or self.llm_api_key is not None):
            raise SettingsError("REPROMPT_LLM_MODEL is missing: name the model to use at REPROMPT_LLM_BASE_URL")
