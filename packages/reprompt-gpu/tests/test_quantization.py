"""Linear layers of fewer bits: rows that do not touch each other, and how near they are to the full product."""

import subprocess
import sys

import pytest
import torch
from reprompt_gpu import ModelConfig, compiled
from reprompt_gpu.errors import RequestError
from reprompt_gpu.model import Decoder, Span
from reprompt_gpu.quantization import Linear, Quantization, linear
from reprompt_gpu.weights import from_transformers
from tiny import tiny_model

BITS: list[Quantization] = ["int8", "int4"]
KINDS: list[Quantization | None] = [*BITS, None]  # None: float32


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def _with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the compiled kernels, and by torch's, which do the work where those cannot run."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "products", None)
        monkeypatch.setattr(compiled, "kernels", None)
    elif compiled.kernels is None:
        pytest.skip("needs numba and AVX-512 VNNI")


def weight_of(outputs: int, inputs: int) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0)) * inputs**-0.5


def rows_of(count: int, inputs: int) -> torch.Tensor:
    """Rows of very different sizes, [count, inputs]."""
    rows = torch.randn(count, inputs, generator=torch.Generator().manual_seed(1))
    return rows * torch.logspace(-3, 3, count)[torch.randperm(count, generator=torch.Generator().manual_seed(2)), None]


@pytest.mark.parametrize("shape", [(1024, 1024), (96, 192), (17, 13)], ids=str)
@pytest.mark.parametrize("quantize", KINDS)
def test_a_row_is_the_same_whatever_stands_beside_it(quantize: Quantization | None, shape: tuple[int, int]) -> None:
    layer, rows = linear(weight_of(*shape), dtype=torch.float32, quantize=quantize), rows_of(16, shape[1])
    _check_rows(layer, rows)


@pytest.mark.parametrize("shape", [(1024, 1024), (96, 192)], ids=str)
def test_a_row_in_bfloat16_is_the_same_whatever_stands_beside_it(shape: tuple[int, int]) -> None:
    _check_rows(linear(weight_of(*shape), dtype=torch.bfloat16), rows_of(16, shape[1]).bfloat16())


def _check_rows(layer: Linear, rows: torch.Tensor) -> None:
    alone = torch.cat([layer(row[None]) for row in rows])
    for count in range(1, 17):
        assert torch.equal(layer(rows[:count]), alone[:count]), count
        assert torch.equal(layer(rows[-count:]), alone[-count:]), count
    assert torch.equal(layer(rows.flip(0)), alone.flip(0))
    assert torch.equal(layer(rows.view(2, 8, -1)), alone.view(2, 8, -1))


@pytest.mark.parametrize("quantize", KINDS)
@torch.inference_mode()
def test_a_step_of_the_decoder_is_the_same_whoever_takes_it_along(quantize: Quantization | None) -> None:
    model = tiny_model(hidden=64, ffn=128)
    decoder = Decoder(ModelConfig.from_hf(model.config), from_transformers(model).decoder, quantize=quantize)
    tokens, texts = torch.randint(0, 64, (3, 8, 4)), torch.randn(8, 5, 24)  # [steps, slots, codebooks]

    def logits(first: int, count: int) -> torch.Tensor:
        """[steps, 2, count, K, V] of so many of the slots, from the first on."""
        cache = decoder.new_cache(slots=count, positions=3, text=5)
        for slot in range(count):
            decoder.read_text(texts[first + slot], cache, slot)
        found: list[torch.Tensor] = []
        for t, of_step in enumerate(tokens[:, first : first + count]):
            at, spans = torch.full((count,), t), [Span(0, count, t + 1)]
            found.append(decoder.step(of_step, at, cache, guided=True, spans=spans, text_spans=[Span(0, count, 5)]))
        return torch.stack(found)

    alone = torch.cat([logits(slot, 1) for slot in range(8)], 2)
    for count in range(1, 9):
        assert torch.equal(logits(0, count), alone[:, :, :count]), count
        assert torch.equal(logits(8 - count, count), alone[:, :, 8 - count :]), count


@pytest.mark.parametrize("shape", [(512, 1024), (96, 192), (17, 13)], ids=str)
def test_int8_errs_by_no_more_than_its_rounding(shape: tuple[int, int]) -> None:
    weight, rows = weight_of(*shape), rows_of(5, shape[1])
    found = linear(weight, dtype=torch.float32, quantize="int8")(rows)
    steps = 127 if torch.cpu._is_vnni_supported() else 63
    # half a step of each weight and of each activation
    off_weight, off_row = weight.abs().amax(1) / 127 / 2, rows.abs().amax(1, keepdim=True) / steps / 2
    most = off_weight * rows.abs().sum(1, keepdim=True) + off_row * (weight.abs().sum(1) + shape[1] * off_weight)
    error = (found - rows @ weight.t()).abs()
    assert (error <= 1.001 * most).all()
    assert error.max() > 0


@pytest.mark.parametrize(("quantize", "most"), [("int8", 0.015), ("int4", 0.1)])
def test_the_product_is_near_the_dense_one(quantize: Quantization, most: float) -> None:
    weight, rows = weight_of(512, 1024), rows_of(8, 1024)
    full = rows @ weight.t()
    found = linear(weight, dtype=torch.float32, quantize=quantize)(rows).float()
    off = (found - full).norm(dim=1) / full.norm(dim=1)  # of each row
    assert off.max() < most
    assert off.min() > most / 20  # and it is not the dense one


@pytest.mark.parametrize("shape", [(96, 160), (40, 128), (17, 13)], ids=str)
def test_a_shape_that_int4_does_not_take_becomes_int8(shape: tuple[int, int]) -> None:
    weight, rows = weight_of(*shape), rows_of(3, shape[1])
    four, eight = (linear(weight, dtype=torch.bfloat16, quantize=q) for q in ("int4", "int8"))
    assert four.nbytes == eight.nbytes == weight.numel() + 4 * len(weight)
    assert torch.equal(four(rows), eight(rows))


def test_fewer_bits_are_fewer_bytes() -> None:
    dense, eight, four = (linear(weight_of(256, 1024), dtype=torch.bfloat16, quantize=q) for q in (None, *BITS))
    assert dense.nbytes > 1.9 * eight.nbytes > 2.8 * four.nbytes


@pytest.mark.parametrize("quantize", BITS)
def test_zeros_give_zeros_and_what_is_no_number_stays_in_its_row(quantize: Quantization) -> None:
    layer, rows = linear(weight_of(96, 192), dtype=torch.float32, quantize=quantize), rows_of(4, 192)
    before = layer(rows)
    rows[1], rows[2, 5], rows[3, 7] = 0, torch.nan, torch.inf
    found = layer(rows)
    assert torch.equal(found[0], before[0])
    assert (found[1] == 0).all()
    assert not found[2:].isfinite().any()


@pytest.mark.parametrize("quantize", BITS)
def test_a_weight_on_another_device_is_refused(quantize: Quantization) -> None:
    with pytest.raises(RequestError, match=f"{quantize}.* is for the CPU: on meta"):
        linear(torch.empty(64, 64, device="meta"), dtype=torch.float32, quantize=quantize)


def test_int8_warns_of_nothing() -> None:
    """In a process of its own: torch tells of what is deprecated once in each."""
    code = """
import warnings, torch
from reprompt_gpu.quantization import linear
warnings.simplefilter("error")
print(linear(torch.randn(8, 16), dtype=torch.float32, quantize="int8")(torch.randn(1, 16)).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("torch.Size([1, 8])\n", "", 0)
