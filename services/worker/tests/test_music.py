"""Takes are those of the engine, brought to their loudness; nothing stays in the engine that no one waits for."""

import asyncio
import gc
import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from reprompt_core.errors import MakingError
from reprompt_core.generation.contract import Format, GenerationRequest, RemoteJob
from reprompt_core.generation.work import Sound
from reprompt_gpu import CapacityError, Engine, audio
from reprompt_gpu import GenerationRequest as EngineRequest
from reprompt_gpu.job import Job
from reprompt_worker.music import make_takes
from tiny import tiny_model, tiny_tokenizer

PROMPT = "slow sad piano"


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest(words="rain on the sea", **{"seconds": 2.0, "seed": 5, **fields})


def takes_of(engine: Engine, request: GenerationRequest | RemoteJob, **how: Any) -> list[Sound]:
    """The takes of a request, by number."""

    async def run() -> list[Sound]:
        kept: list[Sound] = []

        async def keep(sound: Sound) -> None:
            kept.append(sound)

        await make_takes(engine, prompt=PROMPT, asked=request, keep=keep, **how)
        return sorted(kept, key=lambda sound: sound.number)

    return asyncio.run(run())


@pytest.fixture
def submitted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the engine is given, as it is given."""
    jobs: list[Job] = []
    submit = engine.submit

    def spied(request: EngineRequest) -> list[Job]:
        jobs.extend(new := submit(request))
        return new

    monkeypatch.setattr(engine, "submit", spied)
    return jobs


def test_takes_are_those_of_the_engine_finished_and_encoded(engine: Engine) -> None:
    request = asked(takes=2, guidance=2.0, temperature=0.8, top_k=20)
    sounds = takes_of(engine, request)
    expected = engine.generate(
        [
            EngineRequest(prompt=PROMPT, seconds=2.0, seed=seed, guidance=2.0, temperature=0.8, top_k=20)
            for seed in (5, 6)
        ]
    )
    assert [(s.number, s.seed, s.format) for s in sounds] == [(0, 5, "wav"), (1, 6, "wav")]
    for sound, take in zip(sounds, expected, strict=True):
        samples = audio.finish(take.samples, take.sample_rate)
        assert sound.content == audio.encode(samples, take.sample_rate, "wav")
        assert (sound.loudness_lufs, sound.true_peak_dbtp) == pytest.approx(audio.measure(samples, 8000), abs=0.01)
        assert (sound.seconds, sound.sample_rate, sound.channels) == (2.0, 8000, 1)
        assert sound.true_peak_dbtp <= -0.99
    assert sounds[0].content != sounds[1].content


def test_a_take_among_others_is_the_same_alone(engine: Engine) -> None:
    together = takes_of(engine, asked(takes=3))
    alone = takes_of(engine, asked(seed=7))
    assert together[2].content == alone[0].content


def test_the_queue_and_a_serverless_endpoint_make_the_same_audio(engine: Engine) -> None:
    remote = RemoteJob(
        id="0" * 36, attempt=1, prompt=PROMPT, seconds=2.0, takes=2, seed=5, guidance=3.0, temperature=1.0, top_k=250,
        format="flac",
    )  # fmt: skip
    assert takes_of(engine, remote) == takes_of(engine, asked(takes=2, format="flac"))


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_every_format_holds_the_music(engine: Engine, format: Format) -> None:
    (sound,) = takes_of(engine, asked(format=format))
    samples, rate = soundfile.read(io.BytesIO(sound.content))
    assert (rate, sound.format) == (8000, format)
    assert len(samples) == pytest.approx(16_000, abs=2_400)  # mp3 is padded to its frames
    assert np.abs(samples).max() > 0.1


def test_progress_grows_to_its_end(engine: Engine) -> None:
    told: list[float] = []
    takes_of(engine, asked(seconds=20.0, takes=2), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert any(0 < share < 1 for share in told)


def test_silence_has_a_loudness_that_json_can_hold() -> None:
    silent = tiny_model(seed=1)
    with torch.no_grad():
        for name, parameter in silent.audio_encoder.decoder.named_parameters():
            if "bias" in name or "original0" in name or "weight_g" in name:
                parameter.zero_()
    with Engine.from_transformers(silent, tiny_tokenizer(), device="cpu", slots=1) as quiet:
        (sound,) = takes_of(quiet, asked())
    assert (sound.loudness_lufs, sound.true_peak_dbtp) == (-70.0, -70.0)


# -- ended early -------------------------------------------------------------------------------------------------


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


async def started(engine: Engine, jobs: list[Job]) -> "asyncio.Task[None]":
    """Takes in the making, some of whose frames are there."""

    async def keep(_: Sound) -> None:
        raise AssertionError("it should not have come to its end")

    making = asyncio.create_task(make_takes(engine, prompt=PROMPT, asked=asked(seconds=300.0, takes=2), keep=keep))
    await asyncio.to_thread(until, lambda: bool(jobs) and all(job.ready for job in jobs))
    return making


def test_what_is_cancelled_leaves_the_engine(
    engine: Engine, submitted: list[Job], caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        making = await started(engine, submitted)
        making.cancel()
        await asyncio.wait([making], timeout=10)
        assert making.cancelled()
        await asyncio.to_thread(until, lambda: all(job.done for job in submitted))

    asyncio.run(run())
    assert all("cancelled" in str(job.future.exception()) for job in submitted)
    submitted.clear()
    gc.collect()
    assert not caplog.records  # such as of an error that no one waited for


def test_what_is_cancelled_while_its_text_is_read_does_not_start(
    engine: Engine, submitted: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    submit = engine.submit

    def slow(request: EngineRequest) -> list[Job]:
        reading.set()
        go_on.wait(10)
        return submit(request)

    monkeypatch.setattr(engine, "submit", slow)

    async def run() -> None:
        making = asyncio.create_task(
            make_takes(engine, prompt=PROMPT, asked=asked(seconds=300.0), keep=lambda _: asyncio.sleep(0))
        )
        await asyncio.to_thread(reading.wait, 10)
        making.cancel()
        await asyncio.wait([making], timeout=10)
        assert making.cancelled()
        go_on.set()
        await asyncio.to_thread(until, lambda: bool(submitted) and submitted[0].done)

    asyncio.run(run())
    assert "cancelled" in str(submitted[0].future.exception())


def test_the_other_takes_end_with_one_that_cannot_be_kept(engine: Engine, submitted: list[Job]) -> None:
    async def keep(sound: Sound) -> None:
        raise MakingError("The disk is full.", code="storage", again=True)

    with pytest.raises(MakingError, match="The disk is full"):
        asyncio.run(make_takes(engine, prompt=PROMPT, asked=asked(takes=8), keep=keep))
    assert not wait([job.future for job in submitted], timeout=10).not_done
    assert [job for job in submitted if job.future.exception()]  # four of the eight waited for a slot


# -- errors ------------------------------------------------------------------------------------------------------


def failure(make: Callable[[], object]) -> MakingError:
    with pytest.raises(MakingError) as caught:
        make()
    return caught.value


def test_a_prompt_that_is_too_long_is_invalid(engine: Engine) -> None:
    words = "piano " * 330

    async def run() -> None:
        await make_takes(engine, prompt=words + words, asked=asked(), keep=lambda _: asyncio.sleep(0))

    e = failure(lambda: asyncio.run(run()))
    assert (e.code, e.again) == ("invalid", False)
    assert "2000" in str(e)
    assert takes_of(engine, asked())


def test_too_little_memory_is_told_and_tried_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine._batch, "join", full)
        e = failure(lambda: takes_of(engine, asked()))
    assert isinstance(e.__cause__, CapacityError)
    assert (e.code, e.again) == ("capacity", True)
    assert "fewer seconds" in str(e)
    assert takes_of(engine, asked())


def test_a_sound_that_its_format_cannot_hold_is_invalid(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "config", engine.config.__class__(**{**fields(engine), "sample_rate": 8123}))
    e = failure(lambda: takes_of(engine, asked(format="mp3")))
    assert (e.code, e.again) == ("invalid", False)
    assert "8123" in str(e)


def fields(engine: Engine) -> dict[str, Any]:
    return {name: getattr(engine.config, name) for name in engine.config.__slots__}


def test_numbers_that_are_none_are_a_fault_of_ours_without_its_details(
    broken_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    e = failure(lambda: takes_of(broken_engine, asked()))
    assert (e.code, e.again) == ("internal", True)
    assert "numbers" not in str(e)
    assert "values that are no numbers" in caplog.text


def test_a_closed_engine_leaves_its_work_to_another() -> None:
    closed = Engine.from_transformers(tiny_model(seed=1), tiny_tokenizer(), device="cpu", slots=1)
    closed.close()
    e = failure(lambda: takes_of(closed, asked()))
    assert (e.code, e.again) == ("internal", True)
