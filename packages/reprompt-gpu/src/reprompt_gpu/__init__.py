"""MusicGen inference that keeps its GPU or CPU busy. Knows nothing of the rest of Reprompt."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .config import GenerationRequest, ModelConfig
    from .engine import Engine
    from .errors import AudioError, CapacityError, CheckpointError, GenerationError, GpuError, RequestError
    from .job import Job, Take

__all__ = [
    "AudioError",
    "CapacityError",
    "CheckpointError",
    "Engine",
    "GenerationError",
    "GenerationRequest",
    "GpuError",
    "Job",
    "ModelConfig",
    "RequestError",
    "Take",
]

_HOME = {
    "Engine": "engine",
    **dict.fromkeys(["Job", "Take"], "job"),
    **dict.fromkeys(["GenerationRequest", "ModelConfig"], "config"),
}


def __getattr__(name: str) -> Any:
    """The public names are imported when first used: torch takes seconds."""
    if name == "__version__":
        from importlib.metadata import version

        return version("reprompt-gpu")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME.get(name, 'errors')}", __name__), name)
