"""Settings: the only reader of the environment."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from .errors import SettingsError

__all__ = ["Settings"]

_T = TypeVar("_T")
_PREFIX = "REPROMPT_"
_ROOT_HOME = Path("/var/lib/reprompt")


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

    def __post_init__(self) -> None:
        if self.database_url is not None and not re.match(r"postgres(ql)?://", self.database_url):
            raise SettingsError("REPROMPT_DATABASE_URL must start with postgresql://")
