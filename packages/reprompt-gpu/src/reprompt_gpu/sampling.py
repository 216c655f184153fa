"""From logits to tokens: guidance, temperature, top-k, top-p, and noise that depends on nothing but the request.

The noise of a token is a hash of (seed, take, step, codebook, entry): a request draws the same music alone, in a
batch, joined late, or after a restart. Everything here works on whole batches with no branch on their values, so that
it can be part of a CUDA graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import compiled

__all__ = ["Options", "guide", "noise", "pick", "sample", "stream_key"]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 / golden ratio, as a signed number
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


@dataclass(slots=True)
class Options:
    """How each sequence of a batch is sampled; every tensor is [B] on the device."""

    keys: Tensor  # int64, of `stream_key`
    guidance: Tensor  # float32, 1: none
    temperature: Tensor  # float32
    top_k: Tensor  # int64, 1 .. entries
    top_p: Tensor  # float32, 1: off
    greedy: Tensor  # bool


def sample(logits: Tensor, steps: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """The next tokens, and where there are none.

    Args:
        logits: [2, B, K, V] with and without the text, or [1, B, K, V].
        steps: [B] int64: which numbers of its stream each sequence draws.
        options: of each sequence.

    Returns:
        [B, K] int64 and [B] bool: the logits were no numbers.
    """
    if compiled.kernels is None or logits.device.type != "cpu":
        guided = guide(logits, options.guidance)
        return pick(guided, steps, options), ~guided.isfinite().all(-1).all(-1)
    o, (_, b, codebooks, _) = options, logits.shape
    tokens, bad = torch.empty(b, codebooks, dtype=torch.int64), torch.zeros(b, dtype=torch.bool)
    asked = (logits.contiguous(), o.guidance, o.temperature, o.top_k, o.top_p, o.greedy, o.keys, steps, tokens, bad)
    with compiled.turn:
        compiled.kernels.draw(*(x.numpy() for x in asked), compiled.use_threads())
    return tokens, bad


def guide(logits: Tensor, guidance: Tensor) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022), as the reference applies it.

    Args:
        logits: [2, B, K, V] with and without the text, or [1, B, K, V].
        guidance: [B] the scale; 1 leaves what the text gives.

    Returns:
        [B, K, V].
    """
    if len(logits) == 1:
        return logits[0]
    told, untold = logits
    scale = guidance[:, None, None]
    return torch.where(scale == 1, told, untold + (told - untold) * scale)


def stream_key(seed: int, take: int) -> int:
    """The key of a take's noise, as a signed 64-bit number."""
    return _mix_int(_mix_int(seed) + take + 1)


def noise(keys: Tensor, steps: Tensor, codebooks: int, entries: int) -> Tensor:
    """Uniform numbers in (0, 1): SplitMix64 (Steele et al. 2014) over counters.

    Args:
        keys: [B] int64.
        steps: [B] int64 of each sequence.
        codebooks, entries: how many.

    Returns:
        [B, codebooks, entries] float32.
    """
    device = keys.device
    streams = _mix(keys[:, None] + (steps[:, None] * codebooks + torch.arange(codebooks, device=device)) * _GOLDEN)
    bits = _mix(streams[:, :, None] + torch.arange(1, entries + 1, device=device) * _GOLDEN)
    return ((bits >> 40) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)


def pick(logits: Tensor, steps: Tensor, options: Options) -> Tensor:
    """The next tokens.

    Args:
        logits: [B, K, V] float32, guided.
        steps: [B] int64: which numbers of its stream each sequence draws.
        options: of each sequence.

    Returns:
        [B, K] int64.
    """
    _, codebooks, entries = logits.shape
    best = logits.argmax(-1)
    scaled = logits / options.temperature[:, None, None]
    ordered = scaled.sort(dim=-1, descending=True, stable=True)
    # those beyond top_k, and those after the first whose probabilities together reach top_p
    rank = torch.arange(entries, device=logits.device)
    kept = ordered.values.masked_fill(rank >= options.top_k[:, None, None], -torch.inf)
    before = kept.softmax(-1).cumsum(-1).roll(1, -1)
    before[..., 0] = 0
    kept = kept.masked_fill((before >= options.top_p[:, None, None]) & (rank > 0), -torch.inf)
    # the largest of log p + Gumbel noise is a draw from p; the noise belongs to the entry, not to its rank
    gumbel = -torch.log(-torch.log(noise(options.keys, steps, codebooks, entries)))
    drawn = ordered.indices.gather(-1, (kept + gumbel.gather(-1, ordered.indices)).argmax(-1, keepdim=True))[..., 0]
    return torch.where(options.greedy[:, None], best, drawn)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap as they should."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """x >> by of unsigned numbers."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mix_int(x: int) -> int:
    return int(_mix(torch.tensor(_signed(x + _GOLDEN), dtype=torch.int64)))


def _signed(x: int) -> int:
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x
