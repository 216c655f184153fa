"""Every error that reprompt-gpu raises on purpose.

GpuError
├── CheckpointError  a folder or file that is not a usable MusicGen checkpoint
├── RequestError     a request with values that cannot be used
├── CapacityError    it does not fit in memory
├── GenerationError  it failed while running
└── AudioError       the sound cannot be made or written

The docstring of a class is its default message.
"""

__all__ = ["AudioError", "CapacityError", "CheckpointError", "GenerationError", "GpuError", "RequestError"]


class GpuError(Exception):
    """The music could not be generated."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class CheckpointError(GpuError):
    """This is not a MusicGen checkpoint that can be used."""


class RequestError(GpuError, ValueError):
    """The request has a value that cannot be used."""


class CapacityError(GpuError):
    """It does not fit in memory; ask for fewer takes or seconds at once."""


class GenerationError(GpuError):
    """The generation failed while it ran."""


class AudioError(GpuError):
    """The sound cannot be made or written."""
