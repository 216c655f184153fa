"""EnCodec's decoder layer by layer, for frames that arrive in pieces.

A stage takes the next piece of its input and gives what is final by then. Put together, what it gives is what its layer
gives for the whole input (transformers' `modeling_encodec.py`), because each keeps what it needs of the past: a
recurrence its state, a convolution the inputs under its kernel, a transposed one the overlap of its outputs. So nothing
is computed twice, and pieces may be of any length.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.encodec.modeling_encodec import (
    EncodecConv1d,
    EncodecConvTranspose1d,
    EncodecLSTM,
    EncodecResnetBlock,
)

from .errors import CheckpointError

__all__ = ["Chain", "Stage", "stage_of"]

_PADDINGS = ("reflect", "replicate", "constant")  # each can be made at one end without knowing the other


class Stage(Protocol):
    """A layer with what it remembers of one input."""

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        """The next outputs that are final.

        Args:
            x: [B, channels, n] the next inputs; n may be 0.
            last: nothing comes after x.

        Returns:
            [B, channels', m]; m may be 0.
        """
        ...

    def ready(self, length: int) -> int:
        """Outputs that are final after `length` inputs, before the last."""
        ...


class Chain:
    """Stages one after another."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._stages = tuple(stages)

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        """See `Stage.push`."""
        for stage in self._stages:
            x = stage.push(x, last=last)
        return x

    def ready(self, length: int) -> int:
        """See `Stage.ready`."""
        for stage in self._stages:
            length = stage.ready(length)
        return length


def stage_of(layer: nn.Module) -> Stage:
    """A fresh stage of a layer, whose weights it shares.

    Raises:
        CheckpointError: what the layer gives for a piece depends on all pieces.
    """
    match layer:
        case EncodecConv1d():
            return _Convolution(layer)
        case EncodecConvTranspose1d():
            return _Transposed(layer)
        case EncodecLSTM():
            return _Recurrence(layer)
        case EncodecResnetBlock():
            return _Residual(layer)
        case nn.ELU() | nn.Identity():
            return _Pointwise(layer)
        case _:
            raise CheckpointError(f"The codec has a layer that cannot be streamed: {type(layer).__name__}.")


class _Pointwise:
    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        del last
        return self._layer(x)

    def ready(self, length: int) -> int:
        return length


class _Convolution:
    """A convolution of stride 1. It starts once it has what the padding before the first input reflects."""

    def __init__(self, layer: EncodecConv1d) -> None:
        _refuse_time_norm(layer.norm_type)
        if layer.pad_mode not in _PADDINGS:
            raise CheckpointError(f'A codec that pads its convolutions by "{layer.pad_mode}" cannot be streamed.')
        self._layer = layer
        self._conv = cast("nn.Conv1d", layer.conv)
        self._past = self._conv.dilation[0] * (self._conv.kernel_size[0] - 1)  # inputs under the kernel besides one
        self._right = 0 if layer.causal else self._past // 2
        self._left = self._past - self._right
        self._held: Tensor | None = None
        self._started = False

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        x = x if self._held is None else torch.cat([self._held, x], -1)
        if not self._started:
            if x.shape[-1] <= self._left:
                # an input too short to be reflected as it is: the layer has its own way with those
                if last and x.shape[-1]:
                    return self._layer(x)
                self._held = x
                return x.new_empty(len(x), self._conv.out_channels, 0)
            x = F.pad(x, (self._left, 0), self._layer.pad_mode)
            self._started = True
        if last and self._right:
            x = F.pad(x, (0, self._right), self._layer.pad_mode)
        # a copy, lest it keep all of a long piece in memory
        self._held = x[..., max(0, x.shape[-1] - self._past) :].clone()
        if x.shape[-1] <= self._past:
            return x.new_empty(len(x), self._conv.out_channels, 0)
        return F.conv1d(x, self._conv.weight, self._conv.bias, dilation=self._conv.dilation)

    def ready(self, length: int) -> int:
        return length - self._right if length > self._left else 0


class _Transposed:
    """A transposed convolution, whose outputs of neighbouring inputs overlap."""

    def __init__(self, layer: EncodecConvTranspose1d) -> None:
        _refuse_time_norm(layer.norm_type)
        self._conv = cast("nn.ConvTranspose1d", layer.conv)
        self._stride = self._conv.stride[0]
        overlap = self._conv.kernel_size[0] - self._stride
        self._right = math.ceil(overlap * layer.trim_right_ratio) if layer.causal else overlap // 2
        self._left = overlap - self._right
        self._trim = self._left  # outputs before the first that are still to be left out
        self._tail: Tensor | None = None  # outputs to which the next inputs add, without the bias

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        final = x.shape[-1] * self._stride
        if final:
            x = F.conv_transpose1d(x, self._conv.weight, None, self._stride)
            if self._tail is not None:
                x[..., : self._tail.shape[-1]] += self._tail
        else:
            x = x.new_empty(len(x), self._conv.out_channels, 0) if self._tail is None else self._tail
        self._tail = x[..., final:].clone()
        x = x[..., : max(0, x.shape[-1] - self._right) if last else final]
        trimmed = min(self._trim, x.shape[-1])
        self._trim -= trimmed
        x = x[..., trimmed:]
        return x if self._conv.bias is None else x + self._conv.bias[:, None]

    def ready(self, length: int) -> int:
        return max(0, length * self._stride - self._left)


class _Recurrence:
    def __init__(self, layer: EncodecLSTM) -> None:
        self._lstm = layer.lstm
        self._state: tuple[Tensor, Tensor] | None = None

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        del last
        if not x.shape[-1]:
            return x
        steps = x.permute(2, 0, 1)
        y, self._state = self._lstm(steps, self._state)
        return (y + steps).permute(1, 2, 0)

    def ready(self, length: int) -> int:
        return length


class _Residual:
    """A block beside its shortcut, which waits for it."""

    def __init__(self, layer: EncodecResnetBlock) -> None:
        self._block = Chain(stage_of(inner) for inner in cast("Sequence[nn.Module]", layer.block))
        self._shortcut = stage_of(layer.shortcut)
        self._waiting: Tensor | None = None

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        beside = self._shortcut.push(x, last=last)
        if self._waiting is not None:
            beside = torch.cat([self._waiting, beside], -1)
        y = self._block.push(x, last=last)
        self._waiting = beside[..., y.shape[-1] :].clone()
        return y + beside[..., : y.shape[-1]]

    def ready(self, length: int) -> int:
        return self._block.ready(length)


def _refuse_time_norm(kind: str) -> None:
    if kind == "time_group_norm":
        raise CheckpointError("A codec normalised over time (time_group_norm) cannot be streamed: decode it whole.")
