"""Whether the compiled arithmetic of `products.py` and `kernels.py` is of use here, and who may use it when."""

import threading
from types import ModuleType
from typing import Any

import torch

__all__ = ["kernels", "products", "turn", "use_threads"]

turn = threading.RLock()  # one thread at a time: some of numba's thread pools end the process when two come at once


def _load() -> tuple[ModuleType, ModuleType] | tuple[None, None]:
    """Both modules; nothing without numba, or without the instructions: torch's own kernels do the work then."""
    try:
        from llvmlite.binding import get_host_cpu_features
        from numba.core import config as of_numba
    except ImportError:  # no wheels for every platform and every Python
        return None, None
    config: Any = of_numba  # its names are made when it is imported
    told_otherwise = config.DISABLE_JIT or config.CPU_NAME or config.CPU_FEATURES  # by NUMBA_* of the environment
    if told_otherwise or not get_host_cpu_features().get("avx512vnni"):
        return None, None
    from . import kernels, products

    return products, kernels


products, kernels = _load()


def use_threads() -> int:
    """Has the compiled code use as many threads as torch does, as far as numba started them; how many."""
    import numba
    from numba.core import config as of_numba

    config: Any = of_numba
    count = min(torch.get_num_threads(), config.NUMBA_NUM_THREADS)
    numba.set_num_threads(count)
    return count
