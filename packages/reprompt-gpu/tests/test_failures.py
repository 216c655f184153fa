"""What the engine refuses, and what it outlives."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from reprompt_gpu import CapacityError, CheckpointError, Engine, GenerationError, GenerationRequest, RequestError
from tiny import tiny_model, tiny_tokenizer

IDS = torch.tensor([[5, 9, 3, 1], [7, 2, 1, 0]])


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine.from_transformers(tiny_model(), tiny_tokenizer(), device="cpu", slots=2) as made:
        yield made
        # whatever happened, it goes on
        (take,) = made.generate([GenerationRequest(prompt="slow strings", seconds=1, seed=1)])
        assert take.codes.shape == (4, 50)
        assert np.isfinite(take.samples).all()


def piece(**more: Any) -> GenerationRequest:
    return GenerationRequest(**({"prompt": "loud drums", "seconds": 1} | more))


@pytest.mark.parametrize(
    "wrong",
    ["a string", b"bytes", None, 5, [1], ["jazz"], [None], {"prompt": "jazz"}, piece(), (piece() for _ in range(2))],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_list_of_requests_is_refused(engine: Engine, wrong: Any) -> None:
    with pytest.raises(RequestError, match=r"takes a list of GenerationRequest, such as \[GenerationRequest\("):
        engine.generate(wrong)


def test_a_list_may_be_empty_or_a_tuple(engine: Engine) -> None:
    assert engine.generate([]) == []
    assert len(engine.generate((piece(), piece(seed=2)))) == 2


@pytest.mark.parametrize("wrong", ["jazz", None, [piece()], {"prompt": "jazz"}], ids=lambda v: type(v).__name__)
def test_what_is_no_request_is_refused_at_once(engine: Engine, wrong: Any) -> None:
    asks: list[Callable[[], object]] = [
        lambda: engine.submit(wrong),
        lambda: engine.submit_ids(IDS[0], wrong),
        lambda: engine.stream(wrong),
    ]
    for ask in asks:
        with pytest.raises(RequestError, match=f"not of type {type(wrong).__name__}"):
            ask()
    with pytest.raises(RequestError, match=r"a tensor of integers \[tokens\], not of type list"):
        engine.submit_ids([5, 9, 1], piece())  # pyright: ignore[reportArgumentType]
    with pytest.raises(RequestError, match="takes is 2: a stream has one take"):
        engine.stream(piece(takes=2))


@pytest.mark.parametrize(
    ("ids", "mask", "frames", "says"),
    [
        (IDS.tolist(), None, 9, "tensors"),
        ("jazz", None, 9, "tensors"),
        (IDS[0], None, 9, "tensors"),
        (IDS[:0], None, 9, "tensors"),
        (IDS, [[1, 1, 1, 1]] * 2, 9, "tensors"),
        (IDS, torch.ones(2, 3), 9, r"\[2, 4\], but attention_mask \[2, 3\]"),
        (IDS.float(), None, 9, r"integers \[tokens\], not torch.float32"),
        (IDS.bool(), None, 9, r"integers \[tokens\], not torch.bool"),
        (IDS, torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]), 9, "0 tokens: give 1 to 512"),
        (torch.ones(1, 513, dtype=torch.int64), None, 9, "513 tokens: give 1 to 512"),
        (IDS + 60, None, 9, "from 61 to 69; those of this model are 0 to 63"),
        (IDS - 1, None, 9, "from -1 to 6"),
        (IDS, torch.tensor([[1, 1, 1, 2], [1, 1, 0, 0]]), 9, "something else than 0 and 1"),
        (IDS, None, 0, "frames is 0"),
        (IDS, None, True, "frames is True"),
        (IDS, None, -5, "frames is -5"),
        (IDS, None, 1.5, "frames is 1.5"),
        (IDS, None, 15_001, "at most 300"),
        (IDS, None, 10**15, "at most 300"),
    ],
)
def test_tokens_that_are_no_text_are_refused(engine: Engine, ids: Any, mask: Any, frames: Any, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        engine.generate_codes(ids, mask, frames=frames)


@pytest.mark.parametrize(
    "options", [{"guidance": float("nan")}, {"top_k": -1}, {"temperature": 0}, {"top_p": 2}, {"seed": -1}], ids=str
)
def test_options_of_codes_are_those_of_requests(engine: Engine, options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(options))):
        engine.generate_codes(IDS, frames=9, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(({"slots": n}, "slots is") for n in (0, -1, 1.5, "4", None, True)),
        ({"device": "abacus"}, "Device 'abacus' is unknown: auto, cpu, cuda or cuda:1"),
        ({"device": "meta"}, "Device 'meta' is unknown"),
        ({"device": None}, "Device None is unknown"),
        ({"device": "cuda:99"}, "Device 'cuda:99' is not there"),
        ({"dtype": "half"}, "dtype 'half' is unknown: auto, float32, bfloat16 or float16"),
        ({"quantize": "int2"}, "quantize is 'int2': int8, int4, or nothing"),
    ],
    ids=str,
)
def test_options_are_refused_before_anything_is_loaded(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        Engine.load("no/such/folder", **options)
    with pytest.raises(CheckpointError, match="no folder no/such/folder"):
        Engine.load("no/such/folder")


def test_where_one_of_several_requests_is_refused_none_is_made(engine: Engine) -> None:
    with pytest.raises(RequestError, match="tokens"):
        engine.generate([piece(seconds=300), piece(prompt="a " * 600)])
    deadline = time.monotonic() + 20
    while engine._running or engine._waiting:
        assert time.monotonic() < deadline, "the first is still made"
        time.sleep(0.001)


def out_of_memory(*_: Any, **__: Any) -> Any:
    torch.empty(10**15)  # more than any address space: torch raises what it raises


@pytest.mark.parametrize("where", ["step", "read_text", "codec", "text encoder"])
def test_out_of_memory_says_what_would_fit(engine: Engine, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        if where == "codec":
            patch.setattr(engine._codec, "decode", out_of_memory)
        elif where == "text encoder":
            patch.setattr(engine._text_encoder, "forward", out_of_memory)
        else:
            patch.setattr(engine.decoder, where, out_of_memory)
        with pytest.raises(CapacityError) as e:
            engine.generate([piece(seconds=12)])
    message = str(e.value)
    assert "not enough memory for 12 seconds" in message
    assert "GB are free, which may do for 6.0 seconds" in message  # never as many as did not fit
    assert "fewer slots" in message


def test_memory_that_ends_for_real_is_outlived() -> None:
    """In a process whose memory is limited after the model was loaded."""
    script = """
        import resource, torch
        from reprompt_gpu import CapacityError, Engine, GenerationRequest
        from tiny import tiny_model, tiny_tokenizer

        torch.set_num_threads(1)
        with Engine.from_transformers(tiny_model(), tiny_tokenizer(), device="cpu", slots=1) as engine:
            short = GenerationRequest(prompt="slow strings", seconds=1)
            engine.generate([short])
            decode = engine._codec.decode

            def hungry(codes):
                return decode(codes.repeat(40_000, 1, 1))[:1]

            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
            engine._codec.decode = hungry
            try:
                engine.generate([GenerationRequest(prompt="slow strings", seconds=4)])
            except CapacityError as e:
                print("refused:", e)
            engine._codec.decode = decode
            print(engine.generate([short])[0].codes.shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)], capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, made = done.stdout.splitlines()
    assert refused.startswith("refused: There is not enough memory for 4 seconds of music")
    assert made == "(4, 50)"


def test_one_request_without_numbers_ends_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,) = engine.generate([piece(seed=3)])
    (good,) = engine.submit(piece(seed=3))
    read = engine._read
    monkeypatch.setattr(engine, "_read", lambda ids, **k: read(ids, **k) * torch.nan)
    (bad,) = engine.submit(piece(seconds=0.5))
    monkeypatch.undo()
    with pytest.raises(GenerationError, match="no numbers"):
        bad.result(20)
    np.testing.assert_array_equal(good.result(20).codes, alone.codes)


def test_a_job_that_waits_can_be_cancelled_while_others_run(engine: Engine) -> None:
    long = [engine.submit(piece(seconds=300, seed=i))[0] for i in range(2)]
    (waiting,) = engine.submit(piece())
    waiting.cancel()
    with pytest.raises(GenerationError, match="cancelled"):
        waiting.result(20)
    assert not any(job.done for job in long)
    for job in long:
        job.cancel()


def test_a_new_request_joins_at_the_next_step(engine: Engine) -> None:
    (long,) = engine.submit(piece(seconds=300))
    steps: list[int] = []
    step = engine._batch.step

    def counted() -> Any:
        steps.append(len(engine._batch.active))
        return step()

    engine._batch.step = counted  # type: ignore[method-assign]
    while not steps:
        time.sleep(0.001)
    (joined,) = engine.submit(piece())
    before = len(steps)
    joined.result(20)
    assert 2 in steps[: before + 2]  # at most the step that was under way
    left = len(steps) - steps[::-1].index(2)
    assert steps[left - 53 : left] == [2] * 53  # it ran for its 50 frames and 3, and left at once
    long.cancel()


def test_a_stream_that_nobody_reads_on_leaves(engine: Engine) -> None:
    stream = engine.stream(piece(seconds=300))
    first = next(stream)
    assert first.shape[1] > 0
    assert engine._running  # the sound comes while the piece is made
    stream.close()
    deadline = time.monotonic() + 20
    while engine._running:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_stream_of_a_closed_engine_ends_with_the_reason() -> None:
    engine = Engine.from_transformers(tiny_model(), tiny_tokenizer(), device="cpu", slots=1)
    stream = engine.stream(piece(seconds=300))
    next(stream)
    engine.close()
    with pytest.raises(GenerationError, match="closed"):
        list(stream)
