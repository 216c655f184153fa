"""float16 whose activations are beyond what it can hold."""

import pytest
import torch
from reprompt_gpu.divergence import decoder_as, diverge, next_logits
from reprompt_gpu.quantization import linear
from reprompt_gpu.weights import from_transformers
from tiny import tiny_model


def test_a_row_is_the_same_whatever_stands_beside_it() -> None:
    torch.manual_seed(0)
    layer, x = linear(0.02 * torch.randn(3072, 1024), dtype=torch.float16), torch.randn(16, 1024)
    together = layer(x)
    for n in (1, 2, 3, 4, 7, 8, 14):
        assert torch.equal(layer(x[:n]), together[:n])


@pytest.mark.parametrize("large", [1.0, 1e3, 1e6, 1e12])
def test_half_precision_holds_what_overflows_it(large: float) -> None:
    torch.manual_seed(0)
    weight, x = large * torch.randn(64, 4096), large * torch.randn(3, 4096)
    x[0] = weight[0] = large  # the largest sum there can be
    y = linear(weight, dtype=torch.float16)(x)
    expected = x @ weight.T
    assert y.isfinite().all()
    assert (y - expected).abs().max() < 1e-2 * expected.abs().max()
    assert not linear(weight, dtype=torch.float16)(0 * x).any()


@pytest.mark.parametrize("scale", [100, 1e4])
def test_a_model_whose_activations_overflow_half_precision_has_no_nan(scale: float) -> None:
    model = tiny_model(seed=8, hidden=64, ffn=128)
    with torch.no_grad():
        for name, weight in model.decoder.named_parameters():
            if weight.ndim == 2 and "embed" not in name and "lm_heads" not in name:
                weight *= scale
    checkpoint = from_transformers(model)
    codes = torch.randint(0, 64, (4, 20), generator=torch.Generator().manual_seed(1))
    text = torch.randn(6, 24, generator=torch.Generator().manual_seed(2))
    full, half = (next_logits(decoder_as(checkpoint, name), codes, text) for name in ("float32", "float16"))
    assert half.isfinite().all()
    assert diverge(full, half).mean < 0.5
