"""Linear layers without bias: dense, and with weights of 8 or 4 bits for a CPU.

Every one of them computes a row of its input the same whatever rows stand beside it, as far as the kernels beneath
allow: a request's music must not depend on its neighbours in the batch.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from . import compiled
from .errors import RequestError

__all__ = ["Compiled", "Linear", "Quantization", "as_array", "linear", "side_by_side"]

Array = NDArray[Any]
Quantization = Literal["int8", "int4"]
_torch: Any = torch  # kernels that have no public name yet
_GROUP = 32  # weights that share a scale in int4
_SHARES = (1, 0.95, 0.9, 0.85)  # of a group's range that 4 bits may span: the best is taken, and outliers are cut
_TINY = 1e-8
_LINE = 64  # bytes that memory gives at once
_MOST_IN_PAIRS = 64  # rows: of 32 requests at once
_NO_NORM: tuple[Array, Array] = np.empty(0, np.float32), np.empty(0, np.float32)


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
    if (
        compiled.products is not None
        and weight.device.type == "cpu"
        and not (quantize is None and dtype == torch.float16)
    ):
        return _compiled(weight, dtype, quantize)
    if quantize is None:
        if dtype == torch.float16:
            return _Half(weight)
        dense = _Columns if dtype == torch.float32 and weight.device.type == "cpu" else _Dense
        return dense(weight.to(dtype))
    if weight.device.type != "cpu":
        raise RequestError(
            f'quantize="{quantize}" is for the CPU: on {weight.device.type} leave it away (bf16 is used).'
        )
    return _Int4(weight) if quantize == "int4" and _grouped(weight) else _Int8(weight)


def _grouped(weight: Tensor) -> bool:
    """Whether int4 takes the shape."""
    outputs, inputs = weight.shape
    return inputs % (2 * _GROUP) == 0 and outputs % 16 == 0


def _compiled(weight: Tensor, dtype: torch.dtype, quantize: Quantization | None) -> "Compiled":
    p = compiled.products
    assert p is not None
    size, none = weight.numel(), torch.empty(0)
    if quantize is None:
        return Compiled(p.product_dense, len(weight), pack_dense(weight.to(dtype)), none, size * dtype.itemsize)
    weight = weight.float()
    if quantize == "int4" and _grouped(weight):
        return Compiled(p.product4, len(weight), pack_int4(weight), none, size // 2 + 4 * size // _GROUP)
    return Compiled(p.product8, len(weight), *pack_int8(weight), size + 4 * len(weight))


class Compiled:
    """A layer that `products.py` computes.

    Args:
        product: of `products.py`.
        outputs: of the layer.
        packed, scales: as the product reads them.
        nbytes: of the weights.
    """

    def __init__(self, product: Any, outputs: int, packed: Tensor, scales: Tensor, nbytes: int) -> None:
        self._product, self._outputs, self.nbytes = product, outputs, nbytes
        self.arrays = as_array(packed), as_array(scales)

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs, in float32."""
        rows = x.reshape(-1, x.shape[-1]).float().contiguous()
        y = torch.empty(len(rows), self._outputs)
        with compiled.turn:
            self._product(as_array(rows), *_NO_NORM, *self.arrays, as_array(y), (1, 1), 0, compiled.use_threads())
        return y.view(*x.shape[:-1], self._outputs)


def side_by_side(layers: Sequence[Linear]) -> None:
    """Moves the compiled layers' weights into one piece of memory, for which numpy asks the system for large pages."""
    many = [n for n in layers if isinstance(n, Compiled)]
    memory = np.empty(sum(a.nbytes + _LINE for n in many for a in n.arrays) + _LINE, np.uint8)
    at = -memory.ctypes.data % _LINE
    for n in many:
        moved: list[Array] = []
        for a in n.arrays:
            moved.append(memory[at : at + a.nbytes].view(a.dtype).reshape(a.shape))
            moved[-1][...] = a
            at += -(-a.nbytes // _LINE) * _LINE
        n.arrays = moved[0], moved[1]


def as_array(x: Tensor) -> Array:
    """The tensor's memory for numpy, which has no bfloat16: uint16."""
    x = x.detach()
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype == torch.bfloat16 else x.numpy()


def pack_dense(weight: Tensor) -> Tensor:
    """[outputs, inputs] to [outputs / 64, inputs, 64], the last filled up with zeros."""
    padded = F.pad(weight, (0, 0, 0, -len(weight) % 64))
    return padded.view(-1, 64, weight.shape[1]).transpose(1, 2).contiguous()


def pack_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [outputs / 64, inputs / 4, 64, 4] of uint8 and scales [outputs / 64, 64] of the outputs."""
    outputs, inputs = weight.shape
    scales = weight.abs().amax(1).clamp_min(_TINY) / 127
    codes = ((weight / scales[:, None]).round() + 128).to(torch.uint8)
    codes = F.pad(codes, (0, -inputs % 4, 0, -outputs % 64), value=128)
    codes = codes.view(len(codes) // 64, 64, -1, 4).transpose(1, 2).contiguous()
    return codes, F.pad(scales, (0, -outputs % 64)).view(-1, 64)


def _in_groups(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [outputs, groups, 32] of uint8, scales and zeros [outputs, groups, 1] of bfloat16.

    A weight is (code - 8) * scale + zero.
    """
    groups = weight.view(len(weight), -1, _GROUP)  # [outputs, groups, 32]
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    best, codes, scales, zeros = torch.full_like(low, torch.inf), groups, low, low
    for share in _SHARES:
        of_share = (share * (high - low) / 15).clamp_min(_TINY).bfloat16()
        middle = (share * low + 8 * of_share).bfloat16()
        near = ((groups - middle) / of_share + 8).round().clamp(0, 15)
        error = ((near - 8) * of_share + middle - groups).square().sum(2, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        codes, scales = torch.where(better, near, codes), torch.where(better, of_share, scales)
        zeros = torch.where(better, middle, zeros)
    return codes.to(torch.uint8), scales.bfloat16(), zeros.bfloat16()


def pack_int4(weight: Tensor) -> Tensor:
    """Groups of 32 inputs by 32 outputs [outputs / 32, inputs / 32, 640] of uint8: codes, scales, zeros.

    Codes are [2, 4, 16, 4]: 16 outputs, then four inputs of the group's first half in the low bits and four of its
    second half in the high bits. Scales and zeros are [32] in bfloat16.
    """
    codes, scales, zeros = _in_groups(F.pad(weight, (0, 0, 0, -len(weight) % 32)))
    n = codes.shape[1]
    codes = codes.view(-1, 2, 16, n, 2, 4, 4).permute(0, 3, 4, 1, 5, 2, 6)  # [.., n, halves, 2, 4, 16, 4]
    codes = (codes[:, :, 0] | codes[:, :, 1] << 4).reshape(-1, n, 512)
    factors = torch.cat([scales, zeros], 2).view(-1, 32, n, 2).permute(0, 2, 3, 1).contiguous()
    return torch.cat([codes, factors.view(torch.uint8).view(-1, n, 128)], 2)


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
        codes, scales, zeros = _in_groups(weight)
        self._packed = _torch._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32).view_as(weight), 2)
        # the kernel computes (code - 8) * scale + zero
        self._scales = torch.cat([scales, zeros], 2).transpose(0, 1).contiguous()  # [groups, outputs, 2]
        self._shape = weight.shape

    def __call__(self, x: Tensor) -> Tensor:
        rows = (x if x.dim() == 2 else x.reshape(-1, x.shape[-1])).bfloat16()
        y = _torch._weight_int4pack_mm_for_cpu(rows, self._packed, _GROUP, self._scales)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self._shape[0])

    @property
    def nbytes(self) -> int:
        return self._shape.numel() // 2 + self._scales.nbytes
