"""How far a model of fewer bits is from the one in float32: what it would say next, at every step of the same codes.

Nothing is drawn from the model that is compared: both read the same codes (teacher forcing), so a step's divergence is
its own and not that of another piece of music.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batch import Batch
from .batch import Sequence as Row
from .model import Decoder, Span
from .quantization import Quantization
from .sampling import guide
from .weights import Checkpoint

__all__ = ["Divergence", "decoder_as", "diverge", "divergences", "next_logits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Of a distribution from that of float32, over every codebook and frame."""

    mean: float  # nats, Kullback-Leibler of float32's from the other's
    p99: float  # nats; 99 % of the codes have less
    agreement: float  # share of the codes of which both find the same entry likeliest
    entropy: float  # nats, mean of float32's distributions; at most the logarithm of the codebook's entries


def decoder_as(checkpoint: Checkpoint, name: str, *, device: str = "cpu") -> Decoder:
    """The decoder of a checkpoint in a dtype (float32, bfloat16, float16) or quantised (int8, int4)."""
    quantize: Quantization | None = name if name in {"int8", "int4"} else None  # type: ignore[assignment]
    dtype = torch.bfloat16 if quantize else getattr(torch, name)
    return Decoder(checkpoint.config, checkpoint.decoder, dtype=dtype, device=device, quantize=quantize)


@torch.inference_mode()
def divergences(
    checkpoint: Checkpoint,
    names: Sequence[str],
    *,
    ids: Tensor,
    frames: int,
    device: str = "cpu",
    guidance: float = 3.0,
    seed: int = 0,
) -> Iterator[tuple[str, Divergence]]:
    """Each name of `decoder_as` with its divergence, on codes that the float32 decoder drew.

    Args:
        checkpoint: the model. Of random weights the figures say how the arithmetic does, and nothing of the music.
        names: what to compare with float32.
        ids: [tokens] of a text.
        frames: of the codes.
        device: where.
        guidance: of the distributions, which are those that codes are drawn from (at temperature 1).
        seed: of the codes.
    """
    encoder: Any = checkpoint.text_encoder
    text = encoder.to(device, torch.float32)(input_ids=ids[None].to(device)).last_hidden_state[0]
    full = decoder_as(checkpoint, "float32", device=device)
    row = Row(text, frames, seed, guidance)
    batch = Batch(full, slots=1, window=frames, stride=frames, text=len(text))
    batch.join(row)
    while not batch.step():
        pass
    expected = next_logits(full, row.codes, text, guidance=guidance)
    del batch, full
    for name in names:
        found = next_logits(decoder_as(checkpoint, name, device=device), row.codes, text, guidance=guidance)
        yield name, diverge(expected, found)


@torch.inference_mode()
def next_logits(decoder: Decoder, codes: Tensor, text: Tensor, *, guidance: float = 3.0) -> Tensor:
    """What a decoder says of each code, by the steps that it generates with.

    Args:
        decoder: in any dtype.
        codes: [K, F] int64 that it is given, whatever it would say itself.
        text: [tokens, text_hidden] of the text encoder.
        guidance: 1: none.

    Returns:
        [K, F, V] float32 logits, each after all codes of the steps before it.
    """
    config, frames = decoder.config, codes.shape[1]
    delays, device = config.delays, decoder.device
    steps = frames + max(delays)
    inputs = torch.full((steps, config.codebooks), config.start, device=device)  # a step reads what the last one gave
    for k, delay in enumerate(delays):
        inputs[delay + 1 : delay + 1 + frames, k] = codes[k, : steps - delay - 1].to(device)
    cache = decoder.new_cache(slots=1, positions=steps, text=len(text))
    decoder.read_text(text, cache, 0)
    scale = torch.tensor([guidance], device=device)
    said: list[Tensor] = []
    for step in range(steps):
        logits = decoder.step(
            inputs[step : step + 1], torch.tensor([step], device=device), cache, guided=guidance != 1,
            spans=[Span(0, 1, step + 1)], text_spans=[Span(0, 1, len(text))],
        )  # fmt: skip
        said.append(guide(logits, scale)[0])  # [K, V]
    return torch.stack([torch.stack(said[d : d + frames])[:, k] for k, d in enumerate(delays)])


def diverge(expected: Tensor, found: Tensor) -> Divergence:
    """The divergence of logits [..., V] from those of float32."""
    # in float64: where the two are close the sum is that of small differences
    full, other = (x.double().log_softmax(-1) for x in (expected, found))
    each = (full.exp() * (full - other)).sum(-1).flatten()
    return Divergence(
        mean=float(each.mean()),
        p99=float(each.quantile(0.99)),
        agreement=float((expected.argmax(-1) == found.argmax(-1)).double().mean()),
        entropy=float(-(full.exp() * full).sum(-1).mean()),
    )
