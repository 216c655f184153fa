"""CUDA graphs of a step: captured once for each bucket of slots, keys and text, replayed without Python in between."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Graphs", "bucket"]

_KEYS, _TEXT = 256, 64  # the smallest buckets
_WARM_UPS = 2  # before a capture: libraries choose their kernels and allocate


class Graphs:
    """Replays `step(slots, keys, text, guided)`, each argument rounded up to a bucket.

    Args:
        step: works on tensors that stay where they are; nothing in it depends on their values.
        saved: the tensors that a warm-up must leave as they were.
        limits: (slots, keys, text) at most.
    """

    def __init__(
        self,
        step: Callable[[int, int, int, bool], None],
        saved: Callable[[], Sequence[Tensor]],
        *,
        limits: tuple[int, int, int],
    ) -> None:
        self._step, self._saved, self._limits = step, saved, limits
        self._graphs: dict[tuple[int, int, int, bool], torch.cuda.CUDAGraph] = {}
        self._pool: Any = None

    def run(self, slots: int, keys: int, text: int, *, guided: bool) -> None:
        """One step."""
        most_slots, most_keys, most_text = self._limits
        shape = (
            bucket(slots, 1, most_slots), bucket(keys, _KEYS, most_keys), bucket(text, _TEXT, most_text), guided,
        )  # fmt: skip
        if shape not in self._graphs:
            self._graphs[shape] = self._capture(shape)
        self._graphs[shape].replay()

    def _capture(self, shape: tuple[int, int, int, bool]) -> torch.cuda.CUDAGraph:
        kept = [(tensor, tensor.clone()) for tensor in self._saved()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._step(*shape)
        torch.cuda.current_stream().wait_stream(stream)
        for tensor, before in kept:
            tensor.copy_(before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._step(*shape)
        self._pool = self._pool or graph.pool()
        return graph


def bucket(n: int, smallest: int, most: int) -> int:
    """The least of smallest, 2 * smallest, 4 * smallest, ... that holds n, and never over most."""
    size = smallest
    while size < n:
        size *= 2
    return min(size, most)
