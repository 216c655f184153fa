"""Products of rows with weights of 32, 16, 8 or 4 bits, on a CPU with AVX-512 VNNI, compiled by numba.

Compilers do not find these instructions in a plain loop, so numba is given the inner loop as LLVM's own code: up to 4
rows by 64 (int4: 32) outputs, the sums in registers, whose lanes are outputs. A row's sums run over its inputs in one
order whatever rows stand beside it. Arrays are numpy's, float32 where nothing else is said: R rows, I inputs, O
outputs, P registers of outputs. numba keeps the compiled code on disk; it looks at this file alone to see whether that
is still of use, so what is inlined here stands here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

__all__ = ["ADD", "GELU", "GROUP", "PUT", "exp", "fast", "how", "product4", "product8", "product_dense"]

PUT, ADD, GELU = range(3)  # what becomes of a product: it is put, added to what stands there, or put through GELU
GROUP = 32  # inputs that share a scale in int4
_ROWS = 4  # of a tile at most: their sums fill the registers
_EPSILON = 1e-5  # of a layer norm
_LANES = 16
_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_I32, _LANES), ir.VectorType(_F32, _LANES)


class _Code:
    """LLVM code under construction, addresses as whole numbers."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def at(self, base: Any, *terms: Any) -> Any:
        """The address of a sum."""
        for term in terms:
            base = self.b.add(base, ir.Constant(_I64, term) if isinstance(term, int) else term)
        return base

    def load(self, address: Any, kind: Any) -> Any:
        found = self.b.load(self.b.inttoptr(address, kind.as_pointer()), typ=kind)
        found.align = 1
        return found

    def store(self, value: Any, address: Any) -> None:
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer())).align = 1

    def spread(self, address: Any, kind: Any) -> Any:
        """A number of memory in every lane."""
        vector = ir.VectorType(kind, _LANES)
        empty = ir.Constant(vector, ir.Undefined)
        one = self.b.insert_element(empty, self.load(address, kind), ir.Constant(_I32, 0))
        return self.b.shuffle_vector(one, empty, ir.Constant(_INTS, [0] * _LANES))

    def widened(self, address: Any) -> Any:
        """16 bfloat16 as float32."""
        halves = self.b.zext(self.load(address, ir.VectorType(_I16, _LANES)), _INTS)
        return self.b.bitcast(self.b.shl(halves, ir.Constant(_INTS, [16] * _LANES)), _FLOATS)

    def call(self, name: str, kind: Any, *arguments: Any) -> Any:
        """An intrinsic of three vectors of a kind."""
        known = self.b.module.globals.get(name)
        return self.b.call(known or ir.Function(self.b.module, ir.FunctionType(kind, [kind] * 3), name), arguments)

    def dot(self, sums: Any, codes: Any, row: Any) -> Any:
        """Adds the products of four neighbours each: unsigned codes of weights, signed ones of a row."""
        return self.call("llvm.x86.avx512.vpdpbusd.512", _INTS, sums, codes, row)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.call("llvm.fma.v16f32", _FLOATS, a, b, c)

    def loop(self, count: Any, sums: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Runs the body for 0 .. count - 1 on sums that it renews, count > 0; the last ones."""
        b, before = self.b, self.b.block
        inside, after = b.append_basic_block(), b.append_basic_block()
        b.branch(inside)
        b.position_at_end(inside)
        i = b.phi(_I64)
        i.add_incoming(ir.Constant(_I64, 0), before)
        held = [b.phi(s.type) for s in sums]
        for phi, first in zip(held, sums, strict=True):
            phi.add_incoming(first, before)
        renewed = body(i, held)
        following = self.at(i, 1)
        for phi, value in zip((i, *held), (following, *renewed), strict=True):
            phi.add_incoming(value, b.block)
        b.cbranch(b.icmp_signed("<", following, count), inside, after)
        b.position_at_end(after)
        return renewed


def _int8(c: _Code, rows: int, blocks: int, weight: Any, codes: Any, stride: Any, steps: Any, _: Any) -> list[Any]:
    """Sums of int32; a step is 4 inputs: codes [rows, stride] int8, weight [steps, 64, 4] uint8."""

    def step(i: Any, sums: list[Any]) -> list[Any]:
        at = c.at(weight, c.b.mul(i, ir.Constant(_I64, 64 * blocks)))
        weights = [c.load(c.at(at, 64 * k), _INTS) for k in range(blocks)]
        new: list[Any] = []
        for r in range(rows):
            own = c.spread(c.at(codes, c.b.mul(stride, ir.Constant(_I64, r)), c.b.shl(i, ir.Constant(_I64, 2))), _I32)
            new += [c.dot(sums[r * blocks + k], weights[k], own) for k in range(blocks)]
        return new

    return c.loop(steps, [ir.Constant(_INTS, [0] * _LANES)] * (rows * blocks), step)


def _int4(c: _Code, rows: int, blocks: int, weight: Any, codes: Any, stride: Any, steps: Any, more: Any) -> list[Any]:
    """Sums of float32; a step is a group of 32 inputs: codes [rows, stride] int8, more [rows, steps, 3] of `sort`.

    weight [steps, 640] uint8: codes [2, 4, 16, 4], the first four inputs of eight in the low bits, then scales [32] and
    zeros [32] in bfloat16; more: -8 times the codes' sum (int32), their scale, and sum times scale (float32).
    """
    half = ir.Constant(_INTS, [0x0F0F0F0F] * _LANES)
    four = ir.Constant(_INTS, [4] * _LANES)

    def group(g: Any, sums: list[Any]) -> list[Any]:
        at = c.at(weight, c.b.mul(g, ir.Constant(_I64, 320 * blocks)))
        own = [
            c.at(codes, c.b.mul(stride, ir.Constant(_I64, r)), c.b.shl(g, ir.Constant(_I64, 5))) for r in range(rows)
        ]
        tables = [
            c.at(more, c.b.mul(c.at(c.b.mul(steps, ir.Constant(_I64, r)), g), ir.Constant(_I64, 12)))
            for r in range(rows)
        ]
        whole = [c.spread(t, _I32) for t in tables for _ in range(blocks)]
        for v in range(4):
            packed = [c.load(c.at(at, 64 * (4 * k + v)), _INTS) for k in range(blocks)]
            for part in range(2):
                weights = [c.b.and_(c.b.lshr(p, four) if part else p, half) for p in packed]
                for r in range(rows):
                    row = c.spread(c.at(own[r], 16 * part + 4 * v), _I32)
                    for k in range(blocks):
                        whole[r * blocks + k] = c.dot(whole[r * blocks + k], weights[k], row)
        scales, zeros = (
            [c.widened(c.at(at, 256 * blocks + 32 * (blocks * part + k))) for k in range(blocks)] for part in range(2)
        )
        new: list[Any] = []
        for r in range(rows):
            scale, total = (c.spread(c.at(tables[r], n), _F32) for n in (4, 8))
            for k in range(blocks):
                scaled = c.b.fmul(c.b.sitofp(whole[r * blocks + k], _FLOATS), scale)
                new.append(c.fma(total, zeros[k], c.fma(scaled, scales[k], sums[r * blocks + k])))
        return new

    return c.loop(steps, [ir.Constant(_FLOATS, [0.0] * _LANES)] * (rows * blocks), group)


def _floats(wide: int) -> Callable[..., list[Any]]:
    """Of weights [steps, 64], float32 (4 bytes wide) or bfloat16 (2)."""

    def sums_of(c: _Code, rows: int, blocks: int, weight: Any, x: Any, stride: Any, steps: Any, _: Any) -> list[Any]:
        def step(i: Any, sums: list[Any]) -> list[Any]:
            at = c.at(weight, c.b.mul(i, ir.Constant(_I64, _LANES * blocks * wide)))
            places = [c.at(at, _LANES * wide * k) for k in range(blocks)]
            weights = [c.load(p, _FLOATS) if wide == 4 else c.widened(p) for p in places]
            new: list[Any] = []
            for r in range(rows):
                own = c.spread(
                    c.at(x, c.b.mul(stride, ir.Constant(_I64, 4 * r)), c.b.shl(i, ir.Constant(_I64, 2))), _F32
                )
                new += [c.fma(own, weights[k], sums[r * blocks + k]) for k in range(blocks)]
            return new

        return c.loop(steps, [ir.Constant(_FLOATS, [0.0] * _LANES)] * (rows * blocks), step)

    return sums_of


def _tile(form: str) -> Any:
    """f(rows, weight, x, stride, steps, more, out) of arrays and counts; out [rows, outputs] is contiguous."""

    @intrinsic
    def tile(typing: Any, rows: Any, weight: Any, x: Any, stride: Any, steps: Any, more: Any, out: Any) -> Any:
        kinds = (rows, weight, x, stride, steps, more, out)
        of = _FORMS.get(form) or _FORMS[str(weight.dtype)]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = [
                builder.ptrtoint(context.make_array(kind)(context, builder, a).data, _I64)
                if isinstance(kind, types.Array)
                else a
                for kind, a in zip(kinds, arguments, strict=True)
            ]
            code, (rows, weight, x, stride, steps, more, out) = _Code(builder), values
            after = builder.append_basic_block()
            switch = builder.switch(rows, after)
            for n in range(1, _ROWS + 1):
                block = builder.append_basic_block()
                switch.add_case(ir.Constant(_I64, n), block)
                builder.position_at_end(block)
                for k, value in enumerate(of.sums(code, n, of.blocks, weight, x, stride, steps, more)):
                    code.store(value, code.at(out, 64 * k))
                builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return types.void(*(types.int64 if isinstance(k, types.Integer) else k for k in kinds)), generate

    return tile


class _Form(NamedTuple):
    sums: Callable[..., list[Any]]
    blocks: int  # registers of outputs in a tile


_FORMS = {
    "int8": _Form(_int8, 4), "int4": _Form(_int4, 2), "uint16": _Form(_floats(2), 4), "float32": _Form(_floats(4), 4),
}  # fmt: skip
_tile8, _tile4, _tile_dense = _tile("int8"), _tile("int4"), _tile("")
_f32, _i32 = np.float32, np.int32
# sums may be reordered (once, by the compiler) and NaN stays NaN
how: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}
fast: dict[str, Any] = how | {"fastmath": {"reassoc", "contract", "nsz"}}


@njit(**how)
def exp(x: Any) -> Any:
    """e^x in float32 to two units in the last place; a plain function, of which loops become vectors."""
    x = min(max(x, _f32(-87)), _f32(88))
    n = np.rint(x * _f32(1.44269504))
    r = (x - n * _f32(0.693359375)) + n * _f32(2.12194440e-4)
    p = _f32(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + _f32(c)
    return (p * r * r + r + _f32(1)) * _i32((_i32(n) + _i32(127)) << _i32(23)).view(_f32)


@njit(**how)
def _gelu(x: Any) -> Any:
    """x times the normal distribution's share below x (Abramowitz & Stegun 7.1.26, to 1.5e-7)."""
    z = abs(x) * _f32(0.70710678)
    t = _f32(1) / (_f32(1) + _f32(0.3275911) * z)
    p = _f32(1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + _f32(c)
    tail = _f32(0.5) * p * t * exp(-z * z)
    return x * (_f32(1) - tail if x > 0 else tail)


@njit(**fast)
def _prepared(x: Any, norm: Any, bias: Any, out: Any) -> None:
    """A row [I], through a layer norm where there is one (norm [I], else [0])."""
    n = len(x)
    if len(norm) == 0:
        for i in range(n):
            out[i] = x[i]
        return
    total = _f32(0)
    for i in range(n):
        total += x[i]
    mean = total / _f32(n)
    squares = _f32(0)
    for i in range(n):
        squares += (x[i] - mean) * (x[i] - mean)
    scale = _f32(1) / np.sqrt(squares / _f32(n) + _f32(_EPSILON))
    for i in range(n):
        out[i] = (x[i] - mean) * scale * norm[i] + bias[i]


@njit(**fast)
def _codes(x: Any, codes: Any) -> Any:
    """Numbers of 8 bits for a row, their scale and their sum; what is no number becomes zeros with a scale of NaN."""
    most = _i32(0)  # the bits of a number without its sign, of which NaN and infinity have the most
    for i in range(len(x)):
        most = max(most, _i32(_f32(x[i]).view(_i32) & _i32(0x7FFFFFFF)))
    if most >= _i32(0x7F800000):
        codes[:] = 0
        return _f32(np.nan), _i32(0)
    largest = _i32(most).view(_f32)
    inverse = _f32(127) / largest if most > 0 else _f32(0)
    whole = _i32(0)
    for i in range(len(x)):
        code = _i32(np.rint(x[i] * inverse))
        codes[i] = code
        whole = _i32(whole + code)
    return largest / _f32(127), whole


@njit(**fast)
def _into(out: Any, sums: Any, then: int) -> None:
    """Lanes of sums into an output row."""
    n = len(out)
    if then == ADD:
        for i in range(n):
            out[i] += sums[i]
    elif then == GELU:
        for i in range(n):
            out[i] = _gelu(sums[i])
    else:
        for i in range(n):
            out[i] = sums[i]


@njit(parallel=True, **fast)
def product8(
    x: Any, norm: Any, bias: Any, weight: Any, scales: Any, out: Any, skips: Any, then: int, threads: int
) -> None:
    """The product of rows x [R, I] with weights of 8 bits, into out [R, O].

    Args:
        x, out: contiguous.
        norm, bias: [I] of the layer norm that comes first; [0]: none.
        weight: [O / 64, I / 4, 64, 4] uint8, offset by 128, both rounded up.
        scales: [O / 64, 64] of the outputs.
        skips: (of x, of out): row r is x[skip * r], and goes to out[skip * r].
        then: PUT, ADD or GELU.
        threads: among which the outputs are shared out.
    """
    rows, inputs = -(-x.shape[0] // skips[0]), x.shape[1]
    blocks, steps = weight.shape[:2]
    codes = np.zeros((rows, 4 * steps), np.int8)
    of_row, whole = np.empty(rows, np.float32), np.empty(rows, np.int32)
    for r in prange(rows):
        row = np.empty(inputs, np.float32)
        _prepared(x[skips[0] * r], norm, bias, row)
        of_row[r], whole[r] = _codes(row, codes[r, :inputs])
    for t in prange(threads):
        found, sums = np.empty((_ROWS, 64), np.int32), np.empty(64, np.float32)
        for b in range(blocks * t // threads, blocks * (t + 1) // threads):
            for first in range(0, rows, _ROWS):
                n = min(_ROWS, rows - first)
                _tile8(n, weight[b], codes[first], 4 * steps, steps, whole, found)
                for k in range(n):
                    r = first + k
                    offset, scale = _i32(128 * whole[r]), of_row[r]
                    for i in range(64):
                        sums[i] = _f32(_i32(found[k, i] - offset)) * (scale * scales[b, i])
                    _into(out[skips[1] * r, 64 * b : 64 * b + 64], sums, then)


@njit(parallel=True, **fast)
def product4(
    x: Any, norm: Any, bias: Any, weight: Any, scales: Any, out: Any, skips: Any, then: int, threads: int
) -> None:
    """As `product8`, with weights of 4 bits: weight [O / 32, I / 32, 640] uint8 as `_int4` reads it; scales: none."""
    rows, inputs = -(-x.shape[0] // skips[0]), x.shape[1]
    blocks, groups = weight.shape[:2]
    codes = np.empty((rows, inputs), np.int8)
    more = np.empty((rows, groups, 3), np.float32)
    for r in prange(rows):
        row = np.empty(inputs, np.float32)
        _prepared(x[skips[0] * r], norm, bias, row)
        for g in range(groups):
            part = slice(GROUP * g, GROUP * g + GROUP)
            scale, whole = _codes(row[part], codes[r, part])
            more[r, g, 0] = _i32(-8 * whole).view(_f32)
            more[r, g, 1], more[r, g, 2] = scale, scale * _f32(whole)
    for t in prange(threads):
        sums = np.empty((_ROWS, 32), np.float32)
        for b in range(blocks * t // threads, blocks * (t + 1) // threads):
            for first in range(0, rows, _ROWS):
                n = min(_ROWS, rows - first)
                _tile4(n, weight[b], codes[first], inputs, groups, more[first], sums)
                for k in range(n):
                    _into(out[skips[1] * (first + k), 32 * b : 32 * b + 32], sums[k], then)


@njit(parallel=True, **fast)
def product_dense(
    x: Any, norm: Any, bias: Any, weight: Any, scales: Any, out: Any, skips: Any, then: int, threads: int
) -> None:
    """As `product8`, with weights [O / 64, I, 64] in float32, or in bfloat16 as uint16; scales: none."""
    rows, inputs = -(-x.shape[0] // skips[0]), x.shape[1]
    blocks = len(weight)
    ready = np.empty((rows, inputs), np.float32)
    for r in prange(rows):
        _prepared(x[skips[0] * r], norm, bias, ready[r])
    for t in prange(threads):
        sums = np.empty((_ROWS, 64), np.float32)
        for b in range(blocks * t // threads, blocks * (t + 1) // threads):
            for first in range(0, rows, _ROWS):
                n = min(_ROWS, rows - first)
                _tile_dense(n, weight[b], ready[first], inputs, inputs, ready, sums)
                for k in range(n):
                    _into(out[skips[1] * (first + k), 64 * b : 64 * b + 64], sums[k], then)
