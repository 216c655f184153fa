"""How far fewer bits are from float32: on the same codes, at every step."""

import math

import pytest
import torch
from reprompt_gpu import Engine
from reprompt_gpu.divergence import decoder_as, diverge, divergences, next_logits
from reprompt_gpu.weights import from_transformers
from tiny import tiny_model

IDS = torch.tensor([5, 9, 3, 20, 1])


def test_the_divergence_is_that_of_kullback_and_leibler() -> None:
    expected = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]).log()
    found = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]).log() + 3  # logits have no zero
    d = diverge(expected, found)
    one = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert d.mean == pytest.approx(one / 3, rel=1e-5)
    assert d.p99 == pytest.approx(0.98 * one, rel=1e-5)  # between the largest two of three
    assert d.agreement == pytest.approx(2 / 3)
    assert d.entropy == pytest.approx((2 * math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1)) / 3, rel=1e-5)
    same = diverge(expected, expected)
    assert (same.mean, same.p99, same.agreement) == (0, 0, 1)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("stereo", [False, True])
def test_the_logits_of_a_code_are_those_it_was_chosen_by(stereo: bool, guidance: float) -> None:
    model = tiny_model(seed=1, stereo=stereo)
    with Engine.from_transformers(model, device="cpu") as engine:
        codes = engine.generate_codes(IDS[None], frames=30, guidance=guidance)[0]
        text = engine._read(IDS)
        logits = next_logits(engine.decoder, codes, text, guidance=guidance)
    assert logits.shape == (*codes.shape, 64)
    assert len(codes.unique()) > 5
    assert torch.equal(logits.argmax(-1), codes)


@pytest.mark.parametrize("seed", [0, 4])
def test_fewer_bits_stay_near_the_full_distribution(seed: int) -> None:
    checkpoint = from_transformers(tiny_model(seed=seed, hidden=128, ffn=256, layers=4))
    most = {"bfloat16": 2e-3, "float16": 5e-5, "int8": 0.03, "int4": 0.5}
    found = dict(divergences(checkpoint, ["float32", *most], ids=IDS, frames=12, guidance=1.0))
    assert (found["float32"].mean, found["float32"].agreement) == (0, 1)
    assert 1 < found["float32"].entropy < math.log(64)  # flat distributions would be near each other whatever one does
    for name, bound in most.items():
        d = found[name]
        assert 0 < d.mean < bound, name
        assert d.mean < d.p99 < 10 * bound, name
        assert d.agreement > (0.9 if bound < 0.01 else 0.4), name  # of 48 codes
    # more bits are nearer
    assert found["float16"].mean < found["bfloat16"].mean < found["int4"].mean
    assert found["int8"].mean < found["int4"].mean


def test_a_decoder_is_what_its_name_says() -> None:
    checkpoint = from_transformers(tiny_model(hidden=128, ffn=256))
    sizes = {name: decoder_as(checkpoint, name).nbytes for name in ("float32", "bfloat16", "float16", "int8", "int4")}
    assert sizes["float32"] == 2 * sizes["bfloat16"]
    assert sizes["float16"] < 1.1 * sizes["bfloat16"]
    assert sizes["bfloat16"] > 1.8 * sizes["int8"] > 2.5 * sizes["int4"]
