"""How a job ends without music: with one of our errors, in words that say what to do."""

import torch

from .config import ModelConfig
from .errors import CapacityError, GenerationError, GpuError
from .job import Job
from .placement import free_memory, seconds_that_fit

__all__ = ["fail", "told"]

# of torch's allocators, whose errors are of no class of their own on a CPU
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def fail(job: Job, error: GpuError) -> None:
    """Ends a job that is not done, and its stream."""
    if not job.future.done():
        job.future.set_exception(error)
    if job.stream is not None:
        job.stream.chunks.put(None)


def told(e: Exception, *, seconds: float, config: ModelConfig, device: torch.device) -> GpuError:
    """An error of ours for one of the libraries.

    Args:
        e: what was raised.
        seconds: that were asked for.
        config: of the model.
        device: where it ran.
    """
    if isinstance(e, GpuError):
        return e
    if not isinstance(e, (torch.OutOfMemoryError, MemoryError)) and not (
        isinstance(e, RuntimeError) and any(words in str(e) for words in _NO_MEMORY)
    ):
        return GenerationError(f"The music could not be made ({type(e).__name__}: {e}).")
    # it did not fit, whatever the estimate says
    fits = min(seconds / 2, seconds_that_fit(config, device))
    return CapacityError(
        f"There is not enough memory for {seconds:g} seconds of music: {free_memory(device) / 1e9:.1f} GB are free, "
        f"which may do for {fits:.1f} seconds. Ask for fewer seconds, or load the model with fewer slots."
    )
