"""What can be configured of the API, beside the settings of reprompt-core."""

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reprompt_core import SettingsError

__all__ = ["ApiSettings", "Key"]

_T = TypeVar("_T")
_PREFIX = "REPROMPT_API_"
_NAME = r"[A-Za-z0-9._-]{1,64}"
_SHORTEST_KEY = 16


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: a name, which is whose the generations are, and the SHA-256 of the key."""

    name: str
    digest: bytes = field(repr=False)

    def fits(self, digest: bytes) -> bool:
        """Whether this is the SHA-256 of the key, compared in constant time."""
        return hmac.compare_digest(self.digest, digest)


def _env(name: str, parse: Callable[[str], _T], default: Callable[[], _T], **options: Any) -> Any:
    def read() -> _T:
        value = os.environ.get(_PREFIX + name, "")
        if not value:
            return default()
        try:
            return parse(value)
        except ValueError as e:
            # what was given is not quoted: it may be a key
            raise SettingsError(f"{_PREFIX}{name} cannot be used: {e}") from None

    return field(default_factory=read, **options)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(value)

    return parse


def _keys(value: str) -> tuple[Key, ...]:
    keys = [_key(entry.strip()) for entry in value.split(",") if entry.strip()]
    if len({k.name for k in keys}) < len(keys):
        raise ValueError("two keys have the same name")
    return tuple(keys)


def _key(entry: str) -> Key:
    """NAME:sha256:HEX as `reprompt-api key` prints it, NAME:KEY, or a key alone, whose name is made from its hash."""
    if hashed := re.fullmatch(f"({_NAME}):sha256:([0-9a-f]{{64}})", entry):
        return Key(hashed[1], bytes.fromhex(hashed[2]))
    name, _, secret = entry.rpartition(":")
    if len(secret) < _SHORTEST_KEY or not re.fullmatch(r"[!-~]+", secret):
        raise ValueError(f"a key has at least {_SHORTEST_KEY} printable characters (`reprompt-api key` makes one)")
    if name == "sha256":  # else the hash itself would be the key
        raise ValueError("a hash is written NAME:sha256:HEX; the name is missing")
    if name and not re.fullmatch(_NAME, name):
        raise ValueError("the name of a key has letters, digits, dots and dashes only")
    digest = hashlib.sha256(secret.encode()).digest()
    return Key(name or digest.hex()[:12], digest)


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(v.strip().rstrip("/") for v in value.split(",") if v.strip())
    if bad := [o for o in origins if not re.fullmatch(r"https?://[^/\s*]+", o)]:
        raise ValueError(f"{bad[0]!r} is no origin such as https://music.example")
    return origins


def _names(value: str) -> tuple[str, ...]:
    names = tuple(v.strip().lower().rstrip(".") for v in value.split(",") if v.strip())
    if bad := [n for n in names if not re.fullmatch(r"[a-z0-9.-]+", n)]:
        raise ValueError(f"{bad[0]!r} is no host name such as music.example, without a port")
    return names


def _networks(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(v.strip()) for v in value.split(",") if v.strip())


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """Each field is read from REPROMPT_API_<NAME> unless given here."""

    host: str = _env("HOST", str, lambda: "127.0.0.1")
    """Address to listen on."""
    port: int = _env("PORT", _whole(0, 65535), lambda: 8000)
    """0: any that is free."""
    keys: tuple[Key, ...] = _env("KEYS", _keys, tuple)
    """NAME:sha256:HEX, several with commas between (`reprompt-api key NAME` makes one). None: open, on loopback."""
    rate_per_minute: int = _env("RATE_PER_MINUTE", _whole(1, 1_000_000), lambda: 600)
    """Requests a minute of one key; without keys of one address."""
    in_flight: int = _env("IN_FLIGHT", _whole(1, 10_000), lambda: 64)
    """Requests under way at once in this process; more are refused with 503."""
    streams: int = _env("STREAMS", _whole(1, 10_000), lambda: 200)
    """Event streams, downloads and waiting requests (Prefer: wait) at once in this process, beside those."""
    body_s: int = _env("BODY_S", _whole(1, 600), lambda: 10)
    """Seconds for the body of a request to arrive; until then it takes no place."""
    deadline_s: int = _env("DEADLINE_S", _whole(1, 600), lambda: 35)
    """Seconds until an answer begins, without the body's time and that of Prefer: wait."""
    heartbeat_s: int = _env("HEARTBEAT_S", _whole(1, 600), lambda: 15)
    """Seconds after which a silent event stream is kept open by a comment."""
    grace_s: int = _env("GRACE_S", _whole(0, 600), lambda: 8)
    """Seconds that a stopping server gives to requests and to what it is making, at once."""
    previews: int = _env("PREVIEWS", _whole(0, 64), lambda: max(1, min(os.cpu_count() or 1, 4)))
    """Previews made at once in this process; 0: left to `reprompt worker`."""
    runpod_jobs: int = _env("RUNPOD_JOBS", _whole(0, 1000), lambda: 32)
    """RunPod generations followed at once by this process; 0: left to `reprompt worker`."""
    cors_origins: tuple[str, ...] = _env("CORS_ORIGINS", _origins, tuple)
    """Origins of pages elsewhere that may call the API. None: none."""
    hosts: tuple[str, ...] = _env("HOSTS", _names, tuple)
    """Names that the service is reached by where it asks for no key, beside localhost: others are refused, since a page
    elsewhere could have its own name point here."""
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = _env(
        "TRUSTED_PROXIES", _networks, tuple
    )
    """Addresses or networks whose X-Forwarded-For is believed."""
    log_level: str = _env("LOG_LEVEL", str.upper, lambda: "INFO")
    """DEBUG, INFO, WARNING or ERROR. Words and prompts are logged at DEBUG alone."""
    otel_endpoint: str | None = _env("OTEL_ENDPOINT", str, lambda: None)
    """OTLP endpoint for traces; needs reprompt-api[otel]. None: none are sent."""

    def __post_init__(self) -> None:
        if self.log_level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise SettingsError("REPROMPT_API_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")
        if not self.keys and not self.is_loopback:
            raise SettingsError(
                f"REPROMPT_API_HOST is {self.host}, which others can reach: set REPROMPT_API_KEYS first "
                "(`reprompt-api key NAME` makes a key), or listen on 127.0.0.1."
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
