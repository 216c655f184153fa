"""The compiled arithmetic of a CPU against torch's: attention, the drawing of codes, whole steps."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from reprompt_gpu import ModelConfig, compiled
from reprompt_gpu.model import Decoder, Span
from reprompt_gpu.quantization import Compiled, as_array, linear
from reprompt_gpu.sampling import Options, guide, pick, sample
from reprompt_gpu.weights import from_transformers
from tiny import tiny_model
from torch.nn import functional as F

needed = pytest.mark.skipif(compiled.kernels is None, reason="needs numba and AVX-512 VNNI")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needed
@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_is_that_of_torch(dtype: torch.dtype, each: int) -> None:
    lengths, heads, d = [1, 7, 40, 64], 3, 20
    states = numbers(8, 2, heads, 64, d).to(dtype)  # two rows of each of four slots
    rows = numbers(4 * each, 3 * heads * d, seed=1)
    q, *new = rows.view(-1, 3, heads, d).unbind(1)
    expected = torch.empty(4 * each, heads * d)
    changed = states.clone()
    for r in range(len(rows)):
        own, n = changed[(3 - each) * r], lengths[r // each]
        own[:, :, n - 1] = torch.stack([x[r] for x in new])
        keys, values = own[:, :, :n].float()
        expected[r] = F.scaled_dot_product_attention(q[r][:, None], keys, values).flatten()
    found = np.empty(expected.shape, np.float32)
    args = (as_array(rows), heads * d, as_array(states), np.array(lengths), each, 3 - each, found)
    compiled.kernels.attend(*args, compiled.use_threads())
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-6, rtol=1e-5)
    assert torch.equal(states, changed)


@needed
def test_a_key_that_is_no_number_stays_none_in_bfloat16() -> None:
    states, rows = torch.zeros(1, 2, 1, 1, 4).bfloat16(), torch.zeros(1, 12)
    rows[0, 4:8] = torch.tensor([torch.nan, torch.inf, 0x7FFFFFFF, 1.0]).view(4)
    rows.view(torch.int32)[0, 6] = 0x7FFFFFFF  # the NaN that rounding up would make zero
    found = np.empty((1, 4), np.float32)
    compiled.kernels.attend(as_array(rows), 4, as_array(states), np.array([1]), 1, 1, found, 1)
    assert states[0, 0, 0, 0].isfinite().tolist() == [False, False, False, True]


def options(b: int, **more: Any) -> Options:
    values: dict[str, Any] = {"guidance": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 2.0, "greedy": False} | more
    of = {name: torch.as_tensor(value).expand(b).clone() for name, value in values.items()}
    return Options(keys=torch.arange(b) * 0x1234567890ABCDE - 5, **of)


@needed
@pytest.mark.parametrize(
    "how",
    [
        {}, {"top_k": 2048}, {"top_k": 1}, {"top_p": 0.9}, {"top_k": 2048, "top_p": 0.5}, {"greedy": True},
        {"temperature": 0.7, "guidance": 1.0}, {"top_p": 1.0, "temperature": 1.3},
    ],
    ids=str,
)  # fmt: skip
def test_codes_are_drawn_as_torch_draws_them(how: dict[str, Any]) -> None:
    logits, steps, o = 2 * numbers(2, 16, 4, 2048), torch.arange(16) * 7, options(16, **how)
    codes, bad = sample(logits, steps, o)
    expected = pick(guide(logits, o.guidance), steps, o)
    assert not bad.any()
    # a last bit of a logarithm may decide between two
    assert (codes == expected).float().mean() >= 0.98
    assert len(codes.unique()) > 20
    alone = torch.cat([sample(logits[:, i : i + 1], steps[i : i + 1], _one(o, i))[0] for i in range(16)])
    assert torch.equal(alone, codes)


def _one(o: Options, i: int) -> Options:
    return Options(**{name: getattr(o, name)[i : i + 1] for name in Options.__slots__})


@needed
@pytest.mark.parametrize("count", [1, 3, 5])
def test_of_equal_logits_the_first_are_kept(count: int) -> None:
    logits = torch.zeros(1, 1, 1, 64)
    logits[..., 1::2] = -0.0  # equal to 0
    codes = {int(sample(logits, torch.tensor([s]), options(1, top_k=count))[0]) for s in range(200)}
    assert codes == set(range(count))


@needed
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_no_numbers_are_told_for_their_sequence_alone(wrong: float) -> None:
    logits = numbers(2, 3, 4, 64)
    before, _ = sample(logits, torch.zeros(3, dtype=torch.int64), options(3))
    logits[0, 1, 2, 63] = wrong
    codes, bad = sample(logits, torch.zeros(3, dtype=torch.int64), options(3))
    assert bad.tolist() == [False, True, False]
    assert torch.equal(codes[::2], before[::2])


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "int4"])
@torch.inference_mode()
def test_a_step_is_that_of_torch(kind: Any, activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(hidden=64, ffn=128, activation=activation)
    checkpoint = from_transformers(model)
    dtype = getattr(torch, kind, torch.float32) if kind.startswith(("float", "bfloat")) else torch.float32
    quantize = kind if kind.startswith("int") else None

    def logits() -> torch.Tensor:
        decoder = Decoder(ModelConfig.from_hf(model.config), checkpoint.decoder, dtype=dtype, quantize=quantize)
        cache = decoder.new_cache(slots=2, positions=6, text=5)
        for slot in range(2):
            decoder.read_text(numbers(3 + slot, 24, seed=slot), cache, slot)
        texts, found = [Span(0, 1, 3), Span(1, 2, 4)], []
        for t in range(6):
            tokens = torch.arange(8).view(2, 4) * (t + 1)
            spans = [Span(0, 2, t + 1)]
            at = torch.full((2,), t)
            found.append(decoder.step(tokens, at, cache, guided=True, spans=spans, text_spans=texts))
        return torch.stack(found)

    ours = logits()
    monkeypatch.setattr(compiled, "products", None)
    monkeypatch.setattr(compiled, "kernels", None)
    theirs = logits()
    off = (ours - theirs).norm() / theirs.norm()
    assert off < {"float32": 2e-6, "bfloat16": 0.01, "int8": 0.02, "int4": 0.1}[kind]
    assert theirs.std() > 0.1


@needed
@pytest.mark.parametrize("kind", [{}, {"dtype": torch.bfloat16}, {"quantize": "int8"}, {"quantize": "int4"}], ids=str)
def test_threads_change_nothing(kind: dict[str, Any]) -> None:
    layer, rows = linear(numbers(320, 128), **({"dtype": torch.float32} | kind)), numbers(7, 128, seed=1)
    assert isinstance(layer, Compiled)
    found: list[torch.Tensor] = []
    for threads in (1, 2, 64):  # no more than there are
        torch.set_num_threads(threads)
        found.append(layer(rows))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("told", [{"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_CPU_NAME": "generic"}], ids=str)
def test_without_the_instructions_torch_does_the_work(told: dict[str, str]) -> None:
    code = "from reprompt_gpu import compiled; print(compiled.products, compiled.kernels)"
    env = os.environ | told
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120, check=True
    )
    assert done.stdout == "None None\n"


def test_without_numba_torch_does_the_work() -> None:
    code = "import sys; sys.modules['numba'] = None; from reprompt_gpu import compiled; print(compiled.products)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "None\n"
