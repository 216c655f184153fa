"""Where a model runs, in which dtype, and whether it fits."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, get_args

import torch

from .config import ModelConfig
from .errors import CapacityError, RequestError
from .model import Cache
from .quantization import Quantization

__all__ = ["Placement", "check_memory", "device_of", "free_memory", "place", "seconds_that_fit"]

_FREE_SHARE = 0.9  # of the free memory, that may be taken
_DECODING = 1400  # bytes of memory for a sample while EnCodec decodes it: measured with the codec of the real models


class Placement(NamedTuple):
    """Where a model runs."""

    device: torch.device
    dtype: torch.dtype


def place(*, device: str, dtype: str, quantize: Quantization | None, slots: int) -> Placement:
    """Where a model will run, known before it is loaded.

    Raises:
        RequestError: an option is unknown, or not for this machine.
    """
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"slots is {slots!r}: give a whole number, 1 or more.")
    if quantize not in {None, *get_args(Quantization)}:
        raise RequestError(f"quantize is {quantize!r}: int8, int4, or nothing.")
    on = device_of(device)
    if quantize is not None and on.type != "cpu":
        raise RequestError(f'quantize="{quantize}" is for the CPU: on {on.type} leave it away (bfloat16 is used).')
    return Placement(on, _dtype_of(dtype, on, quantize))


def device_of(name: str) -> torch.device:
    """The device of a name; auto: a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in {"cpu", "cuda"}:
        raise RequestError(f"Device {name!r} is unknown: auto, cpu, cuda or cuda:1.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError(f"Device {name!r} is not there: torch sees no CUDA device. Use the device cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"Device {name!r} is not there: the last is cuda:{torch.cuda.device_count() - 1}.")
    return device


def _dtype_of(name: str, device: torch.device, quantize: Quantization | None) -> torch.dtype:
    """The dtype of a name; auto: the fastest that is safe on the device."""
    if name == "auto":  # quantised layers leave only attention and its cache to the dtype
        return torch.bfloat16 if device.type == "cuda" or quantize else torch.float32
    if name not in {"float32", "bfloat16", "float16"}:
        raise RequestError(f"dtype {name!r} is unknown: auto, float32, bfloat16 or float16.")
    return getattr(torch, name)


def check_memory(
    config: ModelConfig, slots: int, positions: int, text: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Refuses what cannot fit before anything is allocated."""
    each = Cache.nbytes(config, slots=1, positions=positions, text=text, dtype=dtype)
    free = _FREE_SHARE * free_memory(device)
    if slots * each > free:
        raise CapacityError(
            f"{slots} slots need {slots * each / 1e9:.1f} GB of memory for keys and values ({each / 1e6:.0f} MB each), "
            f"and {free / 1e9:.1f} GB can be used: load it with slots={int(free // each)} or fewer."
        )


def seconds_that_fit(config: ModelConfig, device: torch.device) -> float:
    """Seconds of music that can be decoded at once in the memory that is free."""
    return _FREE_SHARE * free_memory(device) / (_DECODING * config.sample_rate * config.channels)


def free_memory(device: torch.device) -> int:
    """Bytes that can be had; a number beyond any where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration):  # what Linux would give before it swaps
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1])
    return 1 << 62
