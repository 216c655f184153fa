"""Where a model runs, in which dtype, and whether it fits."""

from contextlib import suppress
from pathlib import Path

import torch

from .config import ModelConfig
from .errors import CapacityError, RequestError
from .model import Cache
from .quantization import Quantization

__all__ = ["check_memory", "device_of", "dtype_of"]

_FREE_SHARE = 0.9  # of the free memory, that may be taken


def device_of(name: str) -> torch.device:
    """The device of a name; auto: a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise RequestError(f"Device {name!r} is unknown: auto, cpu, cuda or cuda:1.") from e
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError(f'Device {name!r} is not there: torch sees no CUDA device. Use device="cpu".')
    return device


def dtype_of(name: str, device: torch.device, quantize: Quantization | None) -> torch.dtype:
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
    free = _FREE_SHARE * _free_memory(device)
    if slots * each > free:
        raise CapacityError(
            f"{slots} slots need {slots * each / 1e9:.1f} GB of memory for keys and values ({each / 1e6:.0f} MB each), "
            f"and {free / 1e9:.1f} GB can be used: load it with slots={int(free // each)} or fewer."
        )


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration):  # what Linux would give before it swaps
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1])
    return 1 << 62
