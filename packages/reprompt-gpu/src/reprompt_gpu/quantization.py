"""Linear layers without bias: dense, and with weights of 8 or 4 bits for a CPU.

Every one of them computes a row of its input the same whatever rows stand beside it, as far as the kernels beneath
allow: a request's music must not depend on its neighbours in the batch.
"""

import warnings
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import RequestError

__all__ = ["Linear", "Quantization", "linear"]

Quantization = Literal["int8", "int4"]
_torch: Any = torch  # kernels that have no public name yet
_GROUP = 32  # weights that share a scale in int4
_TINY = 1e-8
_MOST_IN_PAIRS = 64  # rows: of 32 requests at once


class Linear(Protocol):
    """x [..., inputs] to [..., outputs]."""

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs of a batch of any leading shape."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the weights, which each call reads."""
        ...


def linear(weight: Tensor, *, dtype: torch.dtype, quantize: Quantization | None = None) -> Linear:
    """A linear layer of a weight [outputs, inputs].

    Args:
        weight: in any floating dtype.
        dtype: of a dense layer, and of the activations.
        quantize: int8 or int4 weights (CPU only); layers whose shape the int4 kernel does not take become int8.
    """
    if quantize is None:
        if dtype == torch.float16:
            return _Half(weight)
        dense = _Columns if dtype == torch.float32 and weight.device.type == "cpu" else _Dense
        return dense(weight.to(dtype))
    if weight.device.type != "cpu":
        raise RequestError(
            f'quantize="{quantize}" is for the CPU: on {weight.device.type} leave it away (bf16 is used).'
        )
    outputs, inputs = weight.shape
    if quantize == "int4" and inputs % (2 * _GROUP) == 0 and outputs % 16 == 0:
        return _Int4(weight)
    return _Int8(weight)


class _Dense:
    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._one_rounds_otherwise = weight.device.type == "cpu"

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self._weight.dtype)
        if self._one_rounds_otherwise and x.numel() == x.shape[-1]:
            return F.linear(torch.cat([x, x]), self._weight)[:1]
        return F.linear(x, self._weight)

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes


class _Columns(_Dense):
    """The rows as columns, two at a time: a CPU multiplies them three times as fast so, and always rounds the same.

    With another number of columns it rounds otherwise, and a request would hear how many run beside it. The rows of a
    text or of what is read again are the request's own: many at once.
    """

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        n = len(rows)
        if n % 2:  # a pair that lies in memory as the others do
            rows = torch.cat([rows, rows[-1:]])
        if n > _MOST_IN_PAIRS:
            y = torch.mm(self._weight, rows.t()).t()
        else:
            y = torch.cat([torch.mm(self._weight, pair.t()).t() for pair in rows.split(2)])
        return y[:n].contiguous().view(*x.shape[:-1], len(self._weight))


class _Half:
    """float16 that cannot overflow: inputs and weights are brought to -1..1 row by row, so their sums stay small."""

    def __init__(self, weight: Tensor) -> None:
        weight = weight.float()
        scales = weight.abs().amax(1, keepdim=True).clamp_min(_TINY)  # [outputs, 1]
        self._weight, self._scales = (weight / scales).half(), scales[:, 0]

    def __call__(self, x: Tensor) -> Tensor:
        x = x.float()
        scales = x.abs().amax(-1, keepdim=True).clamp_min(_TINY)
        return F.linear((x / scales).half(), self._weight).float() * self._scales * scales

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self._scales.nbytes


class _Int8:
    """Weights of 8 bits with a scale for each output, activations of 8 bits with a scale for each row.

    The kernel takes one scale for all rows, so each row is brought to -1..1 first: rows do not touch each other.
    """

    def __init__(self, weight: Tensor) -> None:
        weight = weight.float()
        scales = weight.abs().amax(1).clamp_min(_TINY) / 127  # [outputs]
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():  # such tensors are deprecated, and the kernel takes no others
            warnings.filterwarnings("ignore", "torch.quantize_per", UserWarning)
            packed = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self._packed = _torch.ops.quantized.linear_prepack(packed, None)
        # the kernel itself: its wrapper looks through every argument on each call
        self._multiply = _torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default._op
        self._shape = weight.shape
        # without VNNI sums of two products saturate at 16 bits: activations of 7 bits stay below
        self._steps = 127 if _torch.cpu._is_vnni_supported() else 63

    def __call__(self, x: Tensor) -> Tensor:
        rows = (x if x.dim() == 2 else x.reshape(-1, x.shape[-1])).float()
        scales = rows.abs().amax(1, True)
        # a row of zeros becomes NaN, then numbers of 8 bits whichever they are, and zeros again
        y = self._multiply(rows / scales, 1 / self._steps, self._steps, self._packed).mul_(scales)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self._shape[0])

    @property
    def nbytes(self) -> int:
        return self._shape.numel() + 4 * self._shape[0]


class _Int4:
    """Weights of 4 bits with a scale and an offset for each group of 32 inputs; bf16 activations."""

    def __init__(self, weight: Tensor) -> None:
        weight = weight.float()
        groups = weight.view(len(weight), -1, _GROUP)  # [outputs, groups, 32]
        low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
        scales = ((high - low) / 15).clamp_min(_TINY)
        codes = ((groups - low) / scales).round().clamp(0, 15).to(torch.int32).view_as(weight)
        self._packed = _torch._convert_weight_to_int4pack_for_cpu(codes, 2)
        # the kernel computes (code - 8) * scale + zero
        zeros = low + 8 * scales
        self._scales = torch.cat([scales, zeros], 2).transpose(0, 1).contiguous().bfloat16()  # [groups, outputs, 2]
        self._shape = weight.shape

    def __call__(self, x: Tensor) -> Tensor:
        rows = (x if x.dim() == 2 else x.reshape(-1, x.shape[-1])).bfloat16()
        y = _torch._weight_int4pack_mm_for_cpu(rows, self._packed, _GROUP, self._scales)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self._shape[0])

    @property
    def nbytes(self) -> int:
        return self._shape.numel() // 2 + self._scales.nbytes
