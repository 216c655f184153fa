"""The engine: seeds that hold, joining and leaving, streams, long pieces, and what it refuses."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from reprompt_gpu import CapacityError, Engine, GenerationError, GenerationRequest, Job, RequestError
from tiny import tiny_model, tiny_tokenizer

PROMPTS = ("slow strings", "loud drums and bass in the night", "a bright flute melody", "warm jazz piano for the sea")


def engine_of(*, slots: int = 4, stereo: bool = False, **how: Any) -> Engine:
    return Engine.from_transformers(tiny_model(stereo=stereo), tiny_tokenizer(), device="cpu", slots=slots, **how)


def some_request(i: int, **more: Any) -> GenerationRequest:
    """Requests of different texts, lengths and options."""
    options: dict[str, Any] = {
        "prompt": PROMPTS[i % 4],
        "seconds": 1.0 + 0.3 * i,
        "seed": i,
        "guidance": (3.0, 1.0, 5.0)[i % 3],
        "temperature": 1 + 0.1 * i,
        "top_k": (250, 0, 5)[i % 3],
        "top_p": (0.0, 0.9)[i % 2],
    }
    return GenerationRequest(**(options | more))


@pytest.mark.parametrize(
    "how", [{}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"quantize": "int8"}, {"quantize": "int4"}], ids=str
)
def test_a_seed_gives_the_same_codes_alone_in_a_batch_and_joined_late(how: dict[str, Any]) -> None:
    requests = [some_request(i) for i in range(7)]
    with engine_of(slots=1, **how) as engine:
        alone = [engine.generate([r])[0].codes for r in requests]
    with engine_of(slots=7, **how) as engine:
        together = [t.codes for t in engine.generate(requests)]
        jobs = []
        for request in requests[::-1]:  # each joins while the others run
            jobs += engine.submit(request)
            while not jobs[-1].ready and not jobs[-1].done:
                time.sleep(0.001)
        late = [job.result(60).codes for job in jobs[::-1]]
    with engine_of(slots=3, **how) as engine:
        queued = [t.codes for t in engine.generate(requests)]
    for i, codes in enumerate(alone):
        assert codes.shape == (4, 50 + 15 * i)
        for others in (together, late, queued):
            np.testing.assert_array_equal(others[i], codes)


def test_takes_and_seeds_differ() -> None:
    with engine_of() as engine:
        takes = engine.generate([some_request(0, takes=2), some_request(0, seed=1)])
    assert [(t.request.seed, t.number) for t in takes] == [(0, 0), (0, 1), (1, 0)]
    codes = [t.codes.tobytes() for t in takes]
    assert len(set(codes)) == 3


@pytest.mark.parametrize("stereo", [False, True])
def test_a_stream_is_the_whole_piece_in_parts(stereo: bool) -> None:
    request = some_request(2, seconds=4)
    with engine_of(stereo=stereo) as engine:
        (whole,) = engine.generate([request])
        chunks = list(engine.stream(request))
    assert len(chunks) > 5
    streamed = np.concatenate(chunks, axis=1)
    assert whole.samples.shape == (2 if stereo else 1, 4 * whole.sample_rate)
    assert np.abs(whole.samples).max() > 0
    np.testing.assert_allclose(streamed, whole.samples, atol=1e-3)


def test_a_long_piece_goes_on_from_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprompt_gpu.engine._WINDOW_S", 10)  # 500 frames, a stride of 300
    monkeypatch.setattr("reprompt_gpu.engine._LEAST_WINDOW", 1)
    request = some_request(0, seconds=25)
    with engine_of() as engine:
        (long,) = engine.generate([request])
        (short,) = engine.generate([some_request(0, seconds=10)])
        streamed = np.concatenate(list(engine.stream(request)), axis=1)
    assert long.codes.shape == (4, 1250)
    assert long.samples.shape == (1, 25 * long.sample_rate)
    np.testing.assert_array_equal(long.codes[:, :500], short.codes)
    assert len(np.unique(long.codes[:, 1000:])) > 10
    np.testing.assert_allclose(streamed, long.samples, atol=1e-3)


def test_a_cancelled_job_leaves_and_the_others_go_on() -> None:
    with engine_of(slots=2) as engine:
        (alone,) = engine.generate([some_request(1, seconds=3)])
        (first,), (second,) = engine.submit(some_request(0, seconds=300)), engine.submit(some_request(1, seconds=3))
        (waiting,) = engine.submit(some_request(2, seconds=1))
        while first.ready < 10:
            time.sleep(0.001)
        first.cancel()
        with pytest.raises(GenerationError, match="cancelled"):
            first.result(10)
        assert first.ready < 3000  # far from its 15,000
        np.testing.assert_array_equal(second.result(60).codes, alone.codes)
        assert waiting.result(60).codes.shape == (4, 50)


def test_who_waits_for_a_job_may_give_up_and_the_engine_goes_on() -> None:
    async def give_up(job: Job) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(job.future), 0.01)

    with engine_of(slots=1) as engine:
        (job,) = engine.submit(some_request(0, seconds=20))
        asyncio.run(give_up(job))
        assert not job.done  # it has not been told
        assert job.result(60).codes.shape == (4, 1000)
        job.cancel()


def test_a_cancelled_job_advances_by_two_steps_at_most() -> None:
    with engine_of(slots=1) as engine:
        (job,) = engine.submit(some_request(0, seconds=300))
        steps: list[int] = []
        step = engine._batch.step
        engine._batch.step = lambda: steps.append(1) or step()  # type: ignore[method-assign]
        while job.ready < 5:
            time.sleep(0.001)
        job.cancel()
        before = len(steps)
        with pytest.raises(GenerationError):
            job.result(10)
        assert len(steps) - before <= 2


def test_progress_is_told_in_frames() -> None:
    seen: list[int] = []
    with engine_of() as engine:
        (job,) = engine.submit(some_request(0, seconds=2))
        while not job.done:
            seen.append(job.ready)
            time.sleep(0.002)
    assert seen == sorted(seen)
    assert job.frames == job.ready == 100


def test_many_threads_may_ask() -> None:
    with engine_of(slots=3) as engine:
        alone = [engine.generate([some_request(i)])[0].codes for i in range(6)]
        got: dict[int, Any] = {}

        def ask(i: int) -> None:
            got[i] = engine.generate([some_request(i)])[0].codes

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for i in range(6):
        np.testing.assert_array_equal(got[i], alone[i])


def test_values_that_are_no_numbers_are_an_error_and_the_engine_lives() -> None:
    with engine_of() as engine:
        heads = engine.decoder._heads
        engine.decoder._heads = lambda x: heads(x) * float("nan")  # type: ignore[assignment]
        with pytest.raises(GenerationError, match="no numbers"):
            engine.generate([some_request(0)])
        engine.decoder._heads = heads
        assert engine.generate([some_request(0)])[0].codes.shape == (4, 50)


def test_a_failure_ends_the_jobs_it_meets_and_no_others() -> None:
    with engine_of() as engine:
        step = engine.decoder.step

        def out_of_memory(*_: Any, **__: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        engine.decoder.step = out_of_memory  # type: ignore[method-assign]
        with pytest.raises(CapacityError, match="fewer seconds"):
            engine.generate([some_request(0)])
        engine.decoder.step = step  # type: ignore[method-assign]
        assert engine.generate([some_request(0)])[0].codes.shape == (4, 50)


def test_a_closed_engine_ends_its_jobs() -> None:
    engine = engine_of(slots=1)
    jobs = [*engine.submit(some_request(0, seconds=300)), *engine.submit(some_request(1, seconds=300))]
    engine.close()
    for job in jobs:
        with pytest.raises(GenerationError, match="closed"):
            job.result(5)
    with pytest.raises(GenerationError, match="closed"):
        engine.submit(some_request(0))


def test_requests_that_cannot_be_used() -> None:
    with engine_of() as engine:
        for wrong in ("a string", some_request(0), [1]):
            with pytest.raises(RequestError, match="list of GenerationRequest"):
                engine.generate(wrong)  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="one take"):
            list(engine.stream(some_request(0, takes=2)))
        with pytest.raises(RequestError, match="tokens: give 1 to 512"):
            engine.generate([some_request(0, prompt="a " * 600)])
        with pytest.raises(RequestError, match="1 frame or more"):
            engine.generate_codes(torch.ones(1, 3, dtype=torch.int64), frames=0)
    with (
        Engine.from_transformers(tiny_model(), device="cpu") as engine,
        pytest.raises(RequestError, match="without a tokenizer"),
    ):
        engine.generate([some_request(0)])


def test_options_of_the_engine_that_cannot_be_used() -> None:
    model = tiny_model()
    for options, match in (
        ({"device": "abacus"}, "abacus"),
        ({"dtype": "int3"}, "int3"),
        ({"slots": 0}, "slots"),
        ({"quantize": "int2"}, "int2"),
    ):
        with pytest.raises(RequestError, match=match):
            Engine.from_transformers(model, **({"device": "cpu"} | options))
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="CUDA"):
            Engine.from_transformers(model, device="cuda")
    with pytest.raises(CapacityError, match="slots="):
        Engine.from_transformers(model, device="cpu", slots=10_000_000)
