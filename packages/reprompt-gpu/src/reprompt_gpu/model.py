"""The MusicGen decoder: embeddings, layers, heads, over a cache that is allocated once.

Shapes: B sequences, R rows (with guidance two of each sequence: with the text, and without), T positions, H hidden,
K codebooks, V entries. The residual stream is float32 in every dtype: half precision overflows there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from . import compiled
from .config import ModelConfig
from .quantization import Array, Compiled, Linear, Quantization, as_array, linear, side_by_side

__all__ = ["Cache", "Decoder", "Span", "Spans", "cache_dtype"]


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Layer:
    self_norm: _Norm
    qkv: Linear
    self_out: Linear
    cross_norm: _Norm
    cross_q: Linear
    cross_kv: Linear
    cross_out: Linear
    ffn_norm: _Norm
    fc1: Linear
    fc2: Linear

    @property
    def each_step(self) -> list[Linear]:
        """Those that every step reads; what a text needs once is not among them."""
        return [self.qkv, self.self_out, self.cross_q, self.cross_out, self.fc1, self.fc2]

    @property
    def arrays(self) -> Any:
        """Norms and linear layers as `kernels.layer` takes them; of these fewer where one is not compiled."""
        norms = tuple((as_array(n.weight), as_array(n.bias)) for n in (self.self_norm, self.cross_norm, self.ffn_norm))
        return norms, tuple(n.arrays for n in self.each_step if isinstance(n, Compiled))


class Span(NamedTuple):
    """Slots that look at as many keys."""

    start: int  # the first slot
    stop: int  # the one after the last
    length: int  # keys
    mask: Tensor | None = None  # [slots, length] True where a key may be seen; None: all of them


Spans = Sequence[Span]


class Cache:
    """Keys and values of all slots: of what was generated, and of the text. A slot has two rows, the second unguided.

    Args:
        config: of the model.
        slots: sequences at once.
        positions: steps of the longest sequence.
        text: tokens of the longest text.
        dtype, device: of the tensors.
    """

    def __init__(
        self, config: ModelConfig, *, slots: int, positions: int, text: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        c = config
        new = partial(torch.zeros, dtype=dtype, device=device)
        self.slots, self.positions, self.text = slots, positions, text
        # of each row the keys, then the values: a step writes both at once
        self.states = new(c.layers, 2 * slots, 2, c.heads, positions, c.head_dim)
        self.keys, self.values = self.states.unbind(2)  # [layers, 2 * slots, heads, positions, head_dim]
        self.text_states = new(c.layers, slots, 2, c.heads, text, c.head_dim)
        on_cpu = device.type == "cpu"
        self.arrays = [as_array(s) for s in self.states] if on_cpu else []  # of each layer, for the compiled kernels
        self.text_arrays = [as_array(s) for s in self.text_states] if on_cpu else []

    @staticmethod
    def nbytes(config: ModelConfig, *, slots: int, positions: int, text: int, dtype: torch.dtype) -> int:
        """Bytes that such a cache takes."""
        return 2 * config.layers * slots * config.hidden * (2 * positions + text) * dtype.itemsize

    def move(self, source: int, target: int, *, positions: int, text: int) -> None:
        """Puts one slot's content into another: what is in use stays at the front."""
        rows, of = slice(2 * target, 2 * target + 2), slice(2 * source, 2 * source + 2)
        self.states[:, rows, :, :, :positions] = self.states[:, of, :, :, :positions]
        self.text_states[:, target, :, :, :text] = self.text_states[:, source, :, :, :text]


class Decoder:
    """The decoder of a checkpoint, for inference.

    Args:
        config: its shape.
        weights: its tensors by the names of Hugging Face checkpoints.
        dtype: of dense weights and activations; the residual stream is always float32.
        device: where it lives.
        quantize: weights of fewer bits, on a CPU.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        quantize: Quantization | None = None,
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.dtype = cache_dtype(dtype, self.device)

        def full(name: str) -> Tensor:
            return weights[name].to(self.device, torch.float32)

        def norm(name: str) -> _Norm:
            return _Norm(full(f"{name}.weight"), full(f"{name}.bias"))

        def fused(*names: str) -> Linear:
            parts = [weights[f"{n}.weight"].to(self.device) for n in names]
            return linear(torch.cat(parts) if len(parts) > 1 else parts[0], dtype=dtype, quantize=quantize)

        def layer(at: str) -> _Layer:
            own, text = f"{at}.self_attn", f"{at}.encoder_attn"
            found = _Layer(
                self_norm=norm(f"{at}.self_attn_layer_norm"),
                qkv=fused(f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj"),
                self_out=fused(f"{own}.out_proj"),
                cross_norm=norm(f"{at}.encoder_attn_layer_norm"),
                cross_q=fused(f"{text}.q_proj"),
                cross_kv=fused(f"{text}.k_proj", f"{text}.v_proj"),
                cross_out=fused(f"{text}.out_proj"),
                ffn_norm=norm(f"{at}.final_layer_norm"),
                fc1=fused(f"{at}.fc1"),
                fc2=fused(f"{at}.fc2"),
            )
            side_by_side(found.each_step)
            return found

        root = "model.decoder"
        tables = [full(f"{root}.embed_tokens.{k}.weight") for k in range(config.codebooks)]
        self._entries = len(tables[0])  # vocabulary and the start token
        self._embeddings = torch.cat(tables)  # [K * entries, H]
        self._offsets = torch.arange(config.codebooks, device=self.device) * self._entries
        self._layers = [layer(f"{root}.layers.{i}") for i in range(config.layers)]
        self._norm = norm(f"{root}.layer_norm")
        self._heads = fused(*(f"lm_heads.{k}" for k in range(config.codebooks)))
        self._activation = ACT2FN[config.activation]
        self._text_projection: tuple[Tensor, Tensor] | None = None
        if "enc_to_dec_proj.weight" in weights:
            self._text_projection = full("enc_to_dec_proj.weight"), full("enc_to_dec_proj.bias")
        self._positions = _sinusoids(config.max_positions, config.hidden).to(self.device)
        self._ffn = len(weights[f"{root}.layers.0.fc1.weight"])
        self._arrays = [y.arrays for y in self._layers] if config.activation == "gelu" else []
        self._compiled = bool(self._arrays) and all(len(linears) == 6 for _, linears in self._arrays)
        if self._compiled:  # no request is to wait for that
            self._compile()

    @torch.inference_mode()
    def _compile(self) -> None:
        """A step, for which every kernel is compiled or read from the disk."""
        cache, one = self.new_cache(slots=1, positions=1, text=1), torch.zeros(1, dtype=torch.int64)
        tokens, spans = one.expand(1, self.config.codebooks), [Span(0, 1, 1)]
        self.step(tokens, one, cache, guided=True, spans=spans, text_spans=spans)

    @property
    def nbytes(self) -> int:
        """Bytes of weights that one step reads."""
        return sum(n.nbytes for y in self._layers for n in y.each_step) + self._heads.nbytes

    def new_cache(self, *, slots: int, positions: int, text: int) -> Cache:
        """A cache for this decoder."""
        if positions > len(self._positions):
            self._positions = _sinusoids(positions, self.config.hidden).to(self.device)
        return Cache(self.config, slots=slots, positions=positions, text=text, dtype=self.dtype, device=self.device)

    def read_text(self, states: Tensor, cache: Cache, slot: int) -> None:
        """Keys and values of a text, once for a sequence.

        Args:
            states: [tokens, text_hidden] of the text encoder, without padding.
            cache: where they go.
            slot: whose they are.
        """
        x = states.to(self.device, torch.float32)
        if self._text_projection is not None:
            x = F.linear(x, *self._text_projection)
        n, c = len(x), self.config
        for i, layer in enumerate(self._layers):
            cache.text_states[i, slot, :, :, :n] = layer.cross_kv(x).view(n, 2, c.heads, c.head_dim).permute(1, 2, 0, 3)

    def step(
        self, tokens: Tensor, positions: Tensor, cache: Cache, *, guided: bool, spans: Spans, text_spans: Spans
    ) -> Tensor:
        """Logits of the next tokens of the first B slots.

        Args:
            tokens: [B, K] of the step before; the start token where a codebook has none yet.
            positions: [B] of these tokens, counted from 0.
            cache: keys and values so far; those of this step are added.
            guided: compute the rows without text, too.
            spans: which keys each slot looks at; together they cover the B slots in order.
            text_spans: which keys of the text.

        Returns:
            [2, B, K, V] float32 with and without the text, or [1, B, K, V].
        """
        c, b = self.config, len(tokens)
        each = 2 if guided else 1
        x = F.embedding(tokens + self._offsets, self._embeddings).sum(1)  # [B, H]
        x = x + self._positions[positions]
        x = x.repeat_interleave(each, 0) if guided else x  # [R, H]
        if self._compiled and spans[0].mask is None:
            with compiled.turn:
                self._compiled_layers(as_array(x), cache, _lengths(spans), _lengths(text_spans), each)
            return self._logits(x, b)
        # views of all layers at once: one by one they cost as much as the arithmetic of a few rows
        states = cache.states[:, : 2 * b : 3 - each]  # both rows of each slot, or the first
        parts = _parts(states, spans, each=each)
        text_parts = _parts(cache.text_states[:, :b], text_spans, each=1)
        layers, index, at = (
            states.unbind(),
            torch.arange(each * b, device=self.device),
            positions.repeat_interleave(each),
        )
        for i, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.self_norm(x)).to(self.dtype).view(-1, 3, c.heads, c.head_dim)
            new = qkv[:, 1:]
            if spans[0].mask is None:  # the slots of a span are at one position
                for part in parts:
                    part.last[i].copy_(new[part.rows])
            else:
                layers[i][index, :, :, at] = new
            seen = _attend(qkv[:, 0, :, None], parts, i)
            x += layer.self_out(seen.reshape(-1, c.hidden))
            # a row without text attends to zeros, which adds nothing
            told = x[::each]
            q = layer.cross_q(layer.cross_norm(told)).to(self.dtype).view(b, c.heads, 1, c.head_dim)
            told += layer.cross_out(_attend(q, text_parts, i).reshape(b, c.hidden))
            x += layer.fc2(self._activation(layer.fc1(layer.ffn_norm(x))))
        return self._logits(x, b)

    def _logits(self, x: Tensor, b: int) -> Tensor:
        """[R / B, B, K, V] of the residual stream [R, H] after the last layer."""
        logits = self._heads(self._norm(x)).float()
        return logits.view(b, -1, self.config.codebooks, logits.shape[1] // self.config.codebooks).transpose(0, 1)

    def _compiled_layers(self, x: Array, cache: Cache, lengths: Array, texts: Array, each: int) -> None:
        """All layers of a step, by compiled kernels.

        Args:
            x: [R, H] the residual stream, which they add to.
            cache: keys and values so far; those of this step are added.
            lengths: [B] keys that each sequence looks at.
            texts: [B] of its text.
            each: rows of a sequence.
        """
        assert compiled.kernels is not None
        threads, of_layer = compiled.use_threads(), zip(self._arrays, cache.arrays, cache.text_arrays, strict=True)
        for (norms, linears), states, text_states in of_layer:
            compiled.kernels.layer(x, self._ffn, norms, linears, states, text_states, lengths, texts, each, threads)

    def embed(self, tokens: Tensor, *, guided: bool) -> Tensor:
        """[R, T, H] of known tokens [T, K] from position 0, for `prefill`; guided: for the row without text, too."""
        x = F.embedding(tokens + self._offsets, self._embeddings).sum(1) + self._positions[: len(tokens)]
        return x.expand(2 if guided else 1, -1, -1).clone()

    def prefill(self, x: Tensor, index: int, cache: Cache, slot: int, *, text_length: int) -> Tensor:
        """One layer of known tokens, all at once: adds their keys and values.

        Args:
            x: [R, T, H] of `embed`, or of the layer before.
            index: of the layer.
            cache: where they go.
            slot: whose they are.
            text_length: tokens of the slot's text.

        Returns:
            [R, T, H] for the next layer.
        """
        c, t, layer = self.config, x.shape[1], self._layers[index]
        rows = slice(2 * slot, 2 * slot + len(x))
        qkv = layer.qkv(layer.self_norm(x)).to(self.dtype).view(-1, t, 3, c.heads, c.head_dim)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = qkv  # [R, heads, T, head_dim]
        cache.states[index, rows, :, :, :t] = qkv[1:].transpose(0, 1)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + layer.self_out(seen.transpose(1, 2).reshape(-1, t, c.hidden))
        told = x[:1]
        q = layer.cross_q(layer.cross_norm(told)).to(self.dtype).view(1, t, c.heads, c.head_dim).transpose(1, 2)
        keys, values = cache.text_states[index, slot, :, None, :, :text_length]  # [1, heads, text_length, head_dim]
        seen = F.scaled_dot_product_attention(q, keys, values)
        told += layer.cross_out(seen.transpose(1, 2).reshape(1, t, c.hidden))
        return x + layer.fc2(self._activation(layer.fc1(layer.ffn_norm(x))))


def cache_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of keys and values: on a CPU torch's half precision takes twice the time of float32."""
    compact = device.type != "cpu" or (dtype == torch.bfloat16 and compiled.kernels is not None)
    return dtype if compact else torch.float32


def _lengths(spans: Spans) -> Array:
    """[B] int64 keys of each slot."""
    return np.repeat([s.length for s in spans], [s.stop - s.start for s in spans])


class _Part(NamedTuple):
    """What the rows of a span look at."""

    rows: slice
    keys: Sequence[Tensor]  # of each layer [rows, heads, length, head_dim]
    values: Sequence[Tensor]
    mask: Tensor | None  # [rows, 1, 1, length]
    last: Sequence[Tensor]  # both, at the last position [rows, 2, heads, head_dim]


def _parts(states: Tensor, spans: Spans, *, each: int) -> list[_Part]:
    """The spans' keys and values of every layer.

    Args:
        states: [layers, R, 2, heads, positions, head_dim].
        spans: the slots, in order.
        each: rows of a slot.
    """
    parts: list[_Part] = []
    for start, stop, length, mask in spans:
        rows = slice(start * each, stop * each)
        if mask is not None:
            mask = mask.repeat_interleave(each, 0)[:, None, None]
        seen = states[:, rows, :, :, :length]
        keys, values = seen.unbind(2)
        parts.append(_Part(rows, keys.unbind(), values.unbind(), mask, seen[..., -1, :].unbind()))
    return parts


def _attend(q: Tensor, parts: Sequence[_Part], layer: int) -> Tensor:
    """Attention of one position, q [R, heads, 1, head_dim]."""
    if len(parts) == 1:
        (p,) = parts
        return F.scaled_dot_product_attention(q, p.keys[layer], p.values[layer], attn_mask=p.mask)
    return torch.cat(
        [F.scaled_dot_product_attention(q[p.rows], p.keys[layer], p.values[layer], attn_mask=p.mask) for p in parts]
    )


def _sinusoids(positions: int, hidden: int) -> Tensor:
    """[positions, hidden] sinusoidal embeddings, cosines first (tensor2tensor's form, as in the reference)."""
    half = hidden // 2
    frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    angles = torch.arange(positions).float()[:, None] * frequencies
    table = torch.cat([angles.cos(), angles.sin()], 1)
    return F.pad(table, (0, hidden % 2))
