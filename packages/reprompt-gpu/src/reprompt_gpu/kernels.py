"""Attention of one position and the drawing of codes on a CPU, compiled by numba; see `products.py`.

Arrays are numpy's, float32 where nothing else is said: R rows, B sequences, K codebooks, V entries.
"""

from typing import Any

import numpy as np
from numba import njit, prange
from numba.extending import overload

from .products import ADD, GELU, PUT, exp, fast, how, product4, product8, product_dense

__all__ = ["attend", "draw", "layer"]

_f32, _i32, _i64, _u32, _u64 = np.float32, np.int32, np.int64, np.uint32, np.uint64
_GOLDEN, _MIX_1, _MIX_2 = _u64(0x9E3779B97F4A7C15), _u64(0xBF58476D1CE4E5B9), _u64(0x94D049BB133111EB)


# what is not implemented here has an `overload` below, of which numba compiles the form that the types ask for


def _wide(x: Any) -> Any:
    """A cached number, bfloat16 as uint16, in float32."""
    raise NotImplementedError


def _narrow(x: Any, like: Any) -> Any:
    """A float32 as the cache holds it."""
    raise NotImplementedError


@overload(_wide, inline="always", strict=False)
def _(x: Any) -> Any:
    def widened(x: Any) -> Any:
        return _u32(_u32(x) << _u32(16)).view(_f32)

    def same(x: Any) -> Any:
        return x

    return widened if x.bitwidth == 16 else same


@overload(_narrow, inline="always", strict=False)
def _(x: Any, like: Any) -> Any:
    def rounded(x: Any, like: Any) -> Any:
        bits = _f32(x).view(_u32)
        if x != x:
            return np.uint16(0x7FC0)
        return np.uint16((bits + _u32(0x7FFF) + ((bits >> _u32(16)) & _u32(1))) >> _u32(16))

    def same(x: Any, like: Any) -> Any:
        return x

    return rounded if like.dtype.bitwidth == 16 else same


@njit(parallel=True, **fast)
def attend(q: Any, new: int, states: Any, lengths: Any, each: int, skip: int, out: Any, threads: int) -> None:
    """Attention of one position of every row, each on its own keys.

    Args:
        q: [R, heads * d], and maybe keys and values beside them.
        new: the column of the first of heads * d keys and as many values, which become those of the last position; 0:
            they are there.
        states: [rows, 2, heads, positions, d] keys and values, in float32, or in bfloat16 as uint16.
        lengths: [R / each] int64 keys that a sequence's rows look at.
        each: rows of a sequence.
        skip: row r looks at states[skip * r].
        out: [R, heads * d].
        threads: among which rows and heads are shared out.
    """
    rows = len(q)
    _, _, heads, _, d = states.shape
    scale = _f32(1 / np.sqrt(d))
    for t in prange(threads):
        asked = np.empty(d, np.float32)
        for item in range(rows * heads * t // threads, rows * heads * (t + 1) // threads):
            r, h = item // heads, item % heads
            length = lengths[r // each]
            keys, values = states[skip * r, 0, h], states[skip * r, 1, h]
            for i in range(d):
                asked[i] = q[r, h * d + i] * scale
            if new:
                for i in range(d):
                    keys[length - 1, i] = _narrow(q[r, new + h * d + i], keys)
                    values[length - 1, i] = _narrow(q[r, new + (heads + h) * d + i], values)
            _attend(asked, keys, values, length, out[r, h * d : h * d + d])


@njit(**fast)
def _attend(q: Any, keys: Any, values: Any, n: int, out: Any) -> None:
    """One head of one row: q [d] on the first n of keys and values [T, d], into out [d]."""
    d = len(q)
    weights, sums = np.empty(n, np.float32), np.zeros(d, np.float32)
    most = _f32(-np.inf)
    for t in range(n):
        score = _f32(0)
        for i in range(d):
            score += q[i] * _wide(keys[t, i])
        weights[t] = score
        most = max(most, score)
    total = _f32(0)
    for t in range(n):
        weights[t] = exp(weights[t] - most)
        total += weights[t]
    whole = n // 4 * 4
    for t in range(0, whole, 4):
        a, b, c, e = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for i in range(d):
            sums[i] += (a * _wide(values[t, i]) + b * _wide(values[t + 1, i])) + (
                c * _wide(values[t + 2, i]) + e * _wide(values[t + 3, i])
            )
    for t in range(whole, n):
        for i in range(d):
            sums[i] += weights[t] * _wide(values[t, i])
    for i in range(d):
        out[i] = sums[i] / total


def _product(
    x: Any, norm: Any, linear: Any, out: Any, then: int, threads: int, x_skip: int = 1, out_skip: int = 1
) -> None:
    """The product that reads the weights of a linear layer, known by their form."""
    raise NotImplementedError


@overload(_product, strict=False)
def _(x: Any, norm: Any, linear: Any, out: Any, then: int, threads: int, x_skip: int = 1, out_skip: int = 1) -> Any:
    weight = linear[0]
    product = product8 if weight.ndim == 4 else product4 if weight.dtype.bitwidth == 8 else product_dense

    def call(
        x: Any, norm: Any, linear: Any, out: Any, then: int, threads: int, x_skip: int = 1, out_skip: int = 1
    ) -> None:
        product(x, norm[0], norm[1], linear[0], linear[1], out, (x_skip, out_skip), then, threads)

    return call


@njit(nogil=True)  # not on the disk: there it would outlive a change of `products.py`
def layer(
    x: Any, ffn: int, norms: Any, linears: Any, states: Any, text_states: Any, lengths: Any, texts: Any, each: int,
    threads: int,
) -> None:  # fmt: skip
    """A layer of the decoder with GELU, of one position.

    Args:
        x: [R, H] the residual stream, which it adds to.
        ffn: outputs of up.
        norms: weights and biases before the attention, before that of the text, and before the rest.
        linears: weights and scales of queries, keys and values; out; queries of the text; out; up; down.
        states: of this layer as for `attend`; text_states: of the texts, and of one row of each sequence.
        lengths, texts: [B] int64 keys and text tokens that a sequence looks at.
        each: rows of a sequence, the first of which is told the text.
        threads: among which everything is shared out.
    """
    rows, hidden = x.shape
    to_qkv, self_out, cross_q, cross_out, up, down = linears
    none = norms[0][0][:0], norms[0][0][:0]
    qkv, seen = np.empty((rows, 3 * hidden), np.float32), np.empty((rows, hidden), np.float32)
    _product(x, norms[0], to_qkv, qkv, PUT, threads)
    attend(qkv, hidden, states, lengths, each, 3 - each, seen, threads)
    _product(seen, none, self_out, x, ADD, threads)
    # a row without text attends to zeros, which adds nothing
    asked, told = np.empty((rows // each, hidden), np.float32), np.empty((rows // each, hidden), np.float32)
    _product(x, norms[1], cross_q, asked, PUT, threads, each, 1)
    attend(asked, 0, text_states, texts, 1, 1, told, threads)
    _product(told, none, cross_out, x, ADD, threads, 1, each)
    wide = np.empty((rows, ffn), np.float32)
    _product(x, norms[2], up, wide, GELU, threads)
    _product(wide, none, down, x, ADD, threads)


@njit(parallel=True, **how)
def draw(
    logits: Any, guidance: Any, temperature: Any, top_k: Any, top_p: Any, greedy: Any, keys: Any, steps: Any,
    codes: Any, bad: Any, threads: int,
) -> None:  # fmt: skip
    """The next codes, as `sampling.guide` and `sampling.pick` draw them.

    Args:
        logits: [2, B, K, V] with and without the text, or [1, B, K, V].
        guidance, temperature, top_p: [B].
        top_k: [B] int64, 1 .. V.
        greedy: [B] bool.
        keys, steps: [B] int64 of the noise.
        codes: [B, K] int64, written.
        bad: [B] bool, set where logits are no numbers.
        threads: among which the codes are shared out.
    """
    each, b, k, v = logits.shape
    for t in prange(threads):
        scores, order = np.empty(v, np.float32), np.empty(v, np.int32)
        for item in range(b * k * t // threads, b * k * (t + 1) // threads):
            s, book = item // k, item % k
            best, fine = 0, True
            told = logits[0, s, book]
            untold = logits[each - 1, s, book]
            alone = each == 1 or guidance[s] == 1
            for i in range(v):
                scores[i] = told[i] if alone else untold[i] + (told[i] - untold[i]) * guidance[s]
                fine &= np.isfinite(scores[i])
            if not fine:
                bad[s], codes[s, book] = True, 0
                continue
            for i in range(1, v):
                if scores[i] > scores[best]:
                    best = i
            if greedy[s]:
                codes[s, book] = best
                continue
            for i in range(v):
                scores[i] = scores[i] / temperature[s]
            kept = _kept(scores, order, top_k[s], top_p[s])
            stream = _mix(_u64(keys[s]) + _u64(steps[s] * k + book) * _GOLDEN)
            codes[s, book] = _likeliest(scores, order[:kept], stream)


@njit(**how)
def _kept(scores: Any, order: Any, top_k: int, top_p: float) -> int:
    """Puts the entries that may be drawn into order; how many."""
    v = len(scores)
    kept = v
    if top_k < v:
        kept = _largest(scores, order, top_k)
    else:
        for i in range(v):
            order[i] = i
    if top_p > 1:
        return kept
    # the likeliest first, equals by their index
    ranks = np.empty(kept, np.int64)
    for j in range(kept):
        ranks[j] = (-_i64(_ordinal(scores[order[j]])) << _i64(32)) + _i64(order[j])
    ranks.sort()
    total = 0.0
    first = scores[_i32(ranks[0] & _i64(0xFFFFFFFF))]
    for j in range(kept):
        order[j] = _i32(ranks[j] & _i64(0xFFFFFFFF))
        total += exp(scores[order[j]] - first)
    before = 0.0
    for j in range(kept):
        if j > 0 and before / total >= top_p:
            return j
        before += exp(scores[order[j]] - first)
    return kept


@njit(**how)
def _largest(scores: Any, order: Any, count: int) -> int:
    """Puts the `count` largest entries into order, of equals the first, as they come; count."""
    low, high = -(_i64(1) << _i64(31)), (_i64(1) << _i64(31)) - 1
    while low < high:  # the largest number that so many reach
        middle = (low + high + 1) >> 1
        bound, reached = _i32(middle), _i32(0)
        for i in range(len(scores)):
            reached = _i32(reached + _i32(_ordinal(scores[i]) >= bound))
        if reached >= count:
            low = middle
        else:
            high = middle - 1
    bound = _i32(low)
    beyond = 0
    for i in range(len(scores)):
        beyond += _ordinal(scores[i]) > bound
    equals, n = count - beyond, 0
    for i in range(len(scores)):
        rank = _ordinal(scores[i])
        if rank > bound or (rank == bound and equals > 0):
            equals -= rank == bound
            order[n] = i
            n += 1
    return n


@njit(**how)
def _ordinal(x: Any) -> Any:
    """A whole number that is larger where x is."""
    bits = _f32(x + _f32(0)).view(_i32)  # -0 is 0
    return bits if bits >= 0 else bits ^ _i32(0x7FFFFFFF)


@njit(**how)
def _likeliest(scores: Any, order: Any, stream: Any) -> Any:
    """The entry with the largest sum of score and Gumbel noise: a draw by e^score."""
    drawn, most = _i64(order[0]), _f32(-np.inf)
    for i in order:
        bits = _mix(stream + _u64(i + 1) * _GOLDEN) >> _u64(40)
        uniform = (_f32(_i32(bits)) + _f32(0.5)) * _f32(2.0**-24)
        found = scores[i] - np.log(-np.log(uniform))
        if found > most:
            drawn, most = _i64(i), found
    return drawn


@njit(**how)
def _mix(x: Any) -> Any:
    """SplitMix64's finaliser, as `sampling.noise` has it."""
    x = (x ^ (x >> _u64(30))) * _MIX_1
    x = (x ^ (x >> _u64(27))) * _MIX_2
    return x ^ (x >> _u64(31))
