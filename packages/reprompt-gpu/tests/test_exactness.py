"""The decoder against transformers' own, code by code."""

from typing import Any

import pytest
import torch
from reprompt_gpu import Engine, ModelConfig
from reprompt_gpu.model import Decoder, Span
from reprompt_gpu.weights import from_transformers
from tiny import tiny_model

FRAMES = 260
SHAPES: list[dict[str, Any]] = [
    {"seed": 0},
    {"seed": 1, "stereo": True},
    {"seed": 2, "hidden": 48, "heads": 6, "ffn": 40, "activation": "relu"},
    {"seed": 3, "hidden": 40, "heads": 2, "layers": 3, "activation": "gelu_new", "stereo": True, "codebooks": 2},
    {"seed": 4, "hidden": 24, "text_hidden": 24, "heads": 3, "activation": "silu", "vocabulary": 32},
    {"seed": 5, "hidden": 33, "heads": 3, "vocabulary": 50, "entries": 64, "positions": 20},
]


def padded_texts(lengths: list[int], *, seed: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) [batch, tokens]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 60, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def reference_codes(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, *, guidance: float, frames: int = FRAMES
) -> torch.Tensor:
    """What `generate` hands to the codec, [batch, codebooks, frames]."""
    seen: list[torch.Tensor] = []
    decode = model.audio_encoder.decode
    model.audio_encoder.decode = lambda codes, **more: seen.append(codes[0]) or decode(codes, **more)
    delay = max(ModelConfig.from_hf(model.config).delays)
    try:
        model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, guidance_scale=guidance, max_new_tokens=frames + delay
        )
    finally:
        model.audio_encoder.decode = decode
    if len(seen) == 1:
        return seen[0]
    return torch.stack(seen, 2).flatten(1, 2)  # left and right in turn


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_greedy_codes_are_those_of_transformers(shape: dict[str, Any], guidance: float) -> None:
    model = tiny_model(**shape)
    ids, mask = padded_texts([9, 4, 7])
    with Engine.from_transformers(model, device="cpu") as engine:
        ours = engine.generate_codes(ids, mask, frames=FRAMES, guidance=guidance)
    theirs = reference_codes(model, ids, mask, guidance=guidance)
    assert ours.shape == theirs.shape == (3, len(ours[0]), FRAMES)
    assert len(theirs.unique()) > 10  # a model that repeats one code would prove little
    assert torch.equal(ours, theirs)


def test_a_text_may_have_padding_anywhere() -> None:
    model = tiny_model(seed=1)
    ids, mask = padded_texts([9, 9, 9])
    mask[0, :3] = 0  # on the left
    mask[1, 4] = 0  # within: what follows keeps its place
    mask[2, [0, 3, 4, 8]] = 0
    with Engine.from_transformers(model, device="cpu") as engine:
        ours = engine.generate_codes(ids, mask, frames=40)
    assert torch.equal(ours, reference_codes(model, ids, mask, guidance=3, frames=40))


def test_pieces_of_few_frames_a_second_are_exact_too() -> None:
    model = tiny_model(seed=2)
    codec: Any = model.config.audio_encoder
    codec.sampling_rate, codec.target_bandwidths = 800, [0.14]  # 5 frames a second, of as many codebooks
    ids, mask = padded_texts([4])
    with Engine.from_transformers(model, device="cpu") as engine:
        ours = engine.generate_codes(ids, frames=FRAMES)
    assert torch.equal(ours, reference_codes(model, ids, mask, guidance=3))


@torch.inference_mode()
def test_logits_are_those_of_transformers() -> None:
    model = tiny_model(seed=5, layers=3)
    config = ModelConfig.from_hf(model.config)
    decoder = Decoder(config, from_transformers(model).decoder)
    ids, mask = padded_texts([6])
    states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    tokens = torch.randint(0, config.vocabulary, (1, config.codebooks, 40))
    theirs = model(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=tokens.flatten(0, 1)
    ).logits  # [codebooks, T, V]
    cache = decoder.new_cache(slots=1, positions=40, text=8)
    decoder.read_text(states[0], cache, 0)
    for t in range(40):
        ours = decoder.step(
            tokens[:, :, t], torch.tensor([t]), cache, guided=False, spans=[Span(0, 1, t + 1)],
            text_spans=[Span(0, 1, 6)],
        )  # fmt: skip
        torch.testing.assert_close(ours[0, 0], theirs[:, t], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_known_tokens_read_at_once_leave_the_same_cache_as_one_by_one() -> None:
    model = tiny_model(seed=6)
    decoder = Decoder(ModelConfig.from_hf(model.config), from_transformers(model).decoder)
    states, tokens = torch.randn(5, 24), torch.randint(0, 64, (30, 4))
    one, all_ = (decoder.new_cache(slots=1, positions=30, text=8) for _ in range(2))
    for cache in (one, all_):
        decoder.read_text(states, cache, 0)
    for t in range(30):
        decoder.step(
            tokens[t : t + 1], torch.tensor([t]), one, guided=True, spans=[Span(0, 1, t + 1)],
            text_spans=[Span(0, 1, 5)],
        )  # fmt: skip
    x = decoder.embed(tokens, guided=True)
    for layer in range(2):
        x = decoder.prefill(x, layer, all_, 0, text_length=5)
    torch.testing.assert_close(one.keys, all_.keys, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.values, all_.values, atol=1e-5, rtol=0)
    assert one.keys[:, 1].abs().sum() > 0  # the row without text, too


@pytest.mark.parametrize("stereo", [False, True])
def test_audio_is_that_of_transformers(stereo: bool) -> None:
    model = tiny_model(seed=7, stereo=stereo)
    ids, mask = padded_texts([5])
    delay = 3
    theirs = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=60 + delay)
    with Engine.from_transformers(model, device="cpu") as engine:
        codes = engine.generate_codes(ids, mask, frames=60)
        ours = engine.decode(codes)
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
