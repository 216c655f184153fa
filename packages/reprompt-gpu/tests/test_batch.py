"""The batch's own bookkeeping: the captured step's form, buckets, noise, sampling."""

from typing import Any

import numpy as np
import pytest
import torch
from reprompt_gpu import ModelConfig
from reprompt_gpu.batch import Batch, Sequence
from reprompt_gpu.graphs import bucket
from reprompt_gpu.model import Decoder
from reprompt_gpu.sampling import Options, guide, noise, pick, stream_key
from reprompt_gpu.weights import from_transformers
from tiny import tiny_model
from transformers.generation.logits_process import ClassifierFreeGuidanceLogitsProcessor


def batch_of(*, slots: int = 4, window: int = 100) -> Batch:
    model = tiny_model()
    decoder = Decoder(ModelConfig.from_hf(model.config), from_transformers(model).decoder)
    return Batch(decoder, slots=slots, window=window, stride=60, text=16)


def sequences() -> list[Sequence]:
    torch.manual_seed(1)
    return [
        Sequence(torch.randn(3 + i, 24), 40 + 30 * i, stream_key(i, 0), guidance=(3.0, 1.0)[i % 2]) for i in range(5)
    ]


def finish(batch: Batch, waiting: list[Sequence]) -> None:
    waiting = list(waiting)
    while waiting or batch.active:
        while batch.free and waiting:
            batch.join(waiting.pop(0))
        for done in batch.step():
            batch.leave(done)


def assert_same_keys(one: Batch, other: Batch, *, positions: int) -> None:
    """Of the first slot, in which both had the same sequence last."""
    for part in ("keys", "values"):
        ours, theirs = (getattr(b.cache, part)[:, 0, :, :positions] for b in (one, other))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


class Uncaptured:
    """What a CUDA graph replays, run as it is."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.shapes = batch, set[tuple[int, ...]]()

    def run(self, slots: int, keys: int, text: int, *, guided: bool) -> None:
        shape = (bucket(slots, 1, 4), bucket(keys, 32, self.batch._positions), bucket(text, 4, 16))
        self.shapes.add(shape)
        self.batch._masked(*shape, guided)


def test_the_form_of_a_step_that_is_captured_gives_the_same_codes() -> None:
    plain, captured = batch_of(), batch_of()
    shapes = Uncaptured(captured)
    captured._graphs = shapes  # type: ignore[assignment]
    one, other = sequences(), sequences()
    with torch.inference_mode():
        finish(plain, one)
        finish(captured, other)
    for a, b in zip(one, other, strict=True):
        assert a.codes.shape == (4, a.frames)
        np.testing.assert_array_equal(a.codes, b.codes)
    assert len(shapes.shapes) > 4


@pytest.mark.parametrize("captured", [False, True])
def test_one_sequence_without_numbers_ends_alone_and_leaves_nothing_behind(captured: bool) -> None:
    batch = batch_of(slots=3)
    if captured:
        batch._graphs = Uncaptured(batch)  # type: ignore[assignment]
    bad, good, after, alone = (sequences()[i] for i in (1, 2, 0, 0))
    bad.text = torch.full_like(bad.text, torch.nan)
    with torch.inference_mode():
        finish(batch_of(), [alone])
        batch.join(good)
        batch.join(bad)
        while not bad.error:
            for done in batch.step():
                assert done is bad
                batch.leave(done)
        assert "no numbers" in str(bad.error)
        finish(batch, [after])  # beside the good one, in the slot of the bad one
    assert good.error is None
    assert good.done == 100
    assert after.error is None
    np.testing.assert_array_equal(after.codes, alone.codes)


def test_nothing_is_allocated_anew_for_a_sequence() -> None:
    batch = batch_of(slots=3)
    kept = {name: t.data_ptr() for name, t in [*vars(batch).items(), *vars(batch.cache).items()] if torch.is_tensor(t)}
    assert len(kept) > 10
    finish(batch, sequences())
    now = [*vars(batch).items(), *vars(batch.cache).items()]
    assert {name: t.data_ptr() for name, t in now if torch.is_tensor(t)} == kept


def test_a_piece_that_goes_on_reads_a_layer_with_each_step_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = [sequences()[1:4:2] for _ in range(2)]  # of 70 frames and of 130: a window and a half
    batch, by_itself = batch_of(), [batch_of() for _ in alone]
    for s, its_own in zip(alone, by_itself, strict=True):
        finish(its_own, [s])
    calls: list[str] = []
    for name in ("prefill", "step"):
        call = getattr(batch.decoder, name)
        monkeypatch.setattr(batch.decoder, name, lambda *a, _n=name, _c=call, **k: calls.append(_n) or _c(*a, **k))
    batch.join(together[1])
    for _ in range(50):  # the other is under way when the window ends
        batch.step()
    finish(batch, together[:1])
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.codes, b.codes)
    # codes seldom show a key that is wrong
    assert_same_keys(batch, by_itself[1], positions=alone[1].position - 1)
    assert calls.count("prefill") == 2  # layers
    assert "prefill prefill" not in " ".join(calls)


def test_a_piece_that_goes_on_may_move_and_leave_while_it_reads() -> None:
    alone, by_itself = sequences()[3], batch_of()
    finish(by_itself, [alone])
    batch = batch_of()
    first, moved = sequences()[4], sequences()[3]
    for s in (first, moved):
        batch.join(s)
    while not moved.reading:
        batch.step()
    batch.step()  # a layer is read
    assert moved.reading
    assert batch.active.index(moved) == 1
    batch.leave(first)
    assert batch.active.index(moved) == 0
    finish(batch, [])
    np.testing.assert_array_equal(alone.codes, moved.codes)
    assert_same_keys(batch, by_itself, positions=alone.position - 1)
    left = sequences()[3]
    batch.join(left)
    while not left.reading:
        batch.step()
    batch.leave(left)
    again = sequences()[3]
    finish(batch, [again])
    np.testing.assert_array_equal(alone.codes, again.codes)


def test_a_bucket_holds_what_it_is_for_and_no_more_than_there_is() -> None:
    assert [bucket(n, 64, 500) for n in (1, 64, 65, 200, 300, 500)] == [64, 64, 128, 256, 500, 500]


def test_noise_is_uniform_and_differs_by_key_step_and_codebook() -> None:
    keys = torch.tensor([stream_key(s, t) for s in range(3) for t in range(2)])
    found = noise(keys, torch.arange(6), 4, 2048)
    assert found.shape == (6, 4, 2048)
    assert 0 < found.min() < 1e-3
    assert 1 - 1e-3 < found.max() < 1
    counts = torch.histc(found, 16, 0, 1)
    assert ((counts - counts.mean()).square() / counts.mean()).sum() < 40  # chi-squared of 15 degrees: 99.95 % below
    flat = found.view(24, -1)
    assert (torch.corrcoef(flat) - torch.eye(24)).abs().max() < 0.1
    assert torch.equal(found, noise(keys, torch.arange(6), 4, 2048))
    # a sequence's noise is its own wherever it stands
    assert torch.equal(found[3:4], noise(keys[3:4], torch.tensor([3]), 4, 2048))


def options(n: int, **more: Any) -> Options:
    values: dict[str, Any] = {"guidance": 1.0, "temperature": 1.0, "top_k": 2048, "top_p": 2.0, "greedy": False} | more
    return Options(
        keys=torch.tensor([stream_key(i, 0) for i in range(n)]),
        guidance=torch.full((n,), values["guidance"]),
        temperature=torch.full((n,), values["temperature"]),
        top_k=torch.full((n,), values["top_k"]),
        top_p=torch.full((n,), values["top_p"]),
        greedy=torch.full((n,), values["greedy"]),
    )


def draws(logits: torch.Tensor, n: int = 20_000, **more: Any) -> torch.Tensor:
    """[entries] how often each was drawn."""
    found = pick(logits.expand(n, 1, -1), torch.zeros(n, dtype=torch.int64), options(n, **more))
    return torch.bincount(found.flatten(), minlength=logits.shape[-1]) / n


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    torch.testing.assert_close(draws(logits), logits.softmax(-1), atol=0.015, rtol=0)
    torch.testing.assert_close(draws(logits, temperature=2.0), (logits / 2).softmax(-1), atol=0.015, rtol=0)


def test_top_k_and_top_p_leave_out_the_rest() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])  # .52 .07 .19 .03 .12 and so on
    assert draws(logits, top_k=2).nonzero().flatten().tolist() == [0, 2]
    assert draws(logits, top_p=0.6).nonzero().flatten().tolist() == [0, 2]
    assert draws(logits, top_p=0.01).nonzero().flatten().tolist() == [0]
    assert draws(logits, top_k=1).tolist() == draws(logits, greedy=True).tolist() == [1, 0, 0, 0, 0]


def test_guidance_is_that_of_the_reference() -> None:
    logits = torch.randn(2, 3, 4, 8)
    rows = logits.flatten(0, 2)  # with the text, then without
    theirs = ClassifierFreeGuidanceLogitsProcessor(3.0)(torch.zeros(12, 1, dtype=torch.int64), rows).view(3, 4, 8)
    torch.testing.assert_close(guide(logits, torch.full((3,), 3.0)), theirs)
    assert torch.equal(guide(logits, torch.ones(3)), logits[0])
    assert torch.equal(guide(logits[:1], torch.ones(3)), logits[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_on_a_gpu_give_the_codes_of_the_cpu() -> None:
    model = tiny_model()
    checkpoint = from_transformers(model)
    found: list[list[torch.Tensor]] = []
    for device in ("cpu", "cuda"):
        decoder = Decoder(checkpoint.config, checkpoint.decoder, device=device)
        batch = Batch(decoder, slots=4, window=100, stride=60, text=16)
        ours = sequences()
        for s in ours:
            s.greedy = True
        finish(batch, ours)
        found.append([s.codes for s in ours])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
