"""Which model a worker loads, and how: read from REPROMPT_WORKER_*, and loaded."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from reprompt_core.errors import SettingsError
from reprompt_gpu import GenerationRequest

if TYPE_CHECKING:
    from reprompt_gpu import Engine

__all__ = ["PREFIX", "Options", "load_engine"]

PREFIX = "REPROMPT_WORKER_"
_T = TypeVar("_T")
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_QUANTIZATIONS = (None, "int8", "int4")
_MOST = 1024  # slots; memory ends long before


def _env(name: str, parse: Callable[[str], _T], default: _T) -> Any:
    """A field read from REPROMPT_WORKER_<name> when it is set and not empty."""

    def read() -> _T:
        value = os.environ.get(PREFIX + name, "")
        try:
            return parse(value) if value else default
        except ValueError as e:
            raise SettingsError(f"{PREFIX}{name} is {value!r}: {e}") from e

    return field(default_factory=read)


def _count(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"give a whole number from 1 to {_MOST}")
    return int(value)


@dataclass(frozen=True, kw_only=True)
class Options:
    """A model and how to load it. Each field is read from REPROMPT_WORKER_<NAME> unless given here.

    Raises:
        SettingsError: a value that cannot be used.
    """

    model: str | None = _env("MODEL", str, None)
    """A folder, or an id of the Hugging Face hub."""
    revision: str | None = _env("REVISION", str, None)
    """Branch, tag or commit of the hub."""
    device: str = _env("DEVICE", str, "auto")
    """auto, cpu, cuda or cuda:1."""
    dtype: str = _env("DTYPE", str, "auto")
    """auto, float32, bfloat16 or float16."""
    quantize: str | None = _env("QUANTIZE", str, None)
    """int8 or int4 weights, on a CPU; None: as they are."""
    slots: int = _env("SLOTS", _count, 4)
    """Takes that the engine makes at once."""
    jobs: int | None = _env("JOBS", _count, None)
    """Generations at once; None: as many as slots. What finds no slot waits in the engine."""

    def __post_init__(self) -> None:
        for name, value, known in (("dtype", self.dtype, _DTYPES), ("quantize", self.quantize, _QUANTIZATIONS)):
            if value not in known:
                raise SettingsError(f"The {name} is {value!r}: give {', '.join(k for k in known if k)}.")
        for name, count in (("slots", self.slots), ("jobs", self.at_once)):
            if not 1 <= count <= _MOST:
                raise SettingsError(f"The number of {name} is {count}: give a whole number from 1 to {_MOST}.")

    @property
    def at_once(self) -> int:
        """Generations at once."""
        return self.slots if self.jobs is None else self.jobs


def load_engine(options: Options) -> "Engine":
    """The engine, loaded and tried: it made a moment of music. Takes seconds to minutes, and blocks.

    The hub is not asked where HF_HUB_OFFLINE is 1.

    Raises:
        SettingsError: no model is named.
        GpuError: the model cannot be loaded, does not fit, or makes no music.
    """
    if options.model is None:
        raise SettingsError(f"No model is named: give --model, or set {PREFIX}MODEL to a folder or an id of the hub.")
    from reprompt_gpu import Engine  # torch takes seconds

    engine = Engine.load(
        options.model,
        revision=options.revision,
        offline=os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"},
        device=options.device,
        dtype=options.dtype,  # pyright: ignore[reportArgumentType] - checked above
        quantize=options.quantize,  # pyright: ignore[reportArgumentType]
        slots=options.slots,
    )
    try:
        engine.generate([GenerationRequest(prompt="music", seconds=0.1)])
    except BaseException:
        engine.close()
        raise
    return engine
