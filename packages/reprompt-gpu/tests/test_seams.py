"""Where a long piece goes on from what it has, and where a piece ends."""

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import torch
from reprompt_gpu import Engine, GenerationRequest
from reprompt_gpu.audio import Samples, finish, measure
from reprompt_gpu.divergence import next_logits
from tiny import tiny_model, tiny_tokenizer

WINDOW, STRIDE = 100, 60  # frames, for the 1,500 and 900 of the real models
FRAMES = 1000
SEAMS = range(WINDOW, FRAMES, STRIDE)  # the first frames that were made in another window than the one before
_LEVEL_S = 0.05  # at each side, over which a level is taken


@pytest.fixture(scope="module", params=[False, True], ids=["mono", "stereo"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    model = tiny_model(seed=2, stereo=request.param)
    with torch.no_grad():  # as drawn, its audio is nearly the same whatever the codes
        for name, weight in model.audio_encoder.decoder.named_parameters():
            if not name.endswith("bias"):
                weight *= 2.5
        last = model.audio_encoder.decoder.layers[-1].conv
        last.parametrizations.weight.original0 *= 0.02
        last.bias *= 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprompt_gpu.engine._WINDOW_S", WINDOW // 50)
        patch.setattr("reprompt_gpu.engine._LEAST_WINDOW", 1)
        with Engine.from_transformers(model, tiny_tokenizer(), device="cpu") as made:
            yield made


def piece(seconds: float, *, seed: int = 5) -> GenerationRequest:
    return GenerationRequest(prompt="slow strings", seconds=seconds, seed=seed)


def jumps(samples: Samples, sample_rate: int, points: list[int]) -> Samples:
    """[points] decibels between the level after each sample and the one before it."""
    n = round(_LEVEL_S * sample_rate)
    levels = [[10 * np.log10(np.square(samples[:, p + d : p + d + n]).mean()) for d in (-n, 0)] for p in points]
    return np.abs(np.diff(levels)[:, 0])


def longest_silence(samples: Samples) -> int:
    """Samples in a row that are 60 dB below the piece."""
    quiet = (np.abs(samples) < 1e-3 * np.sqrt(np.square(samples).mean())).all(0)
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~quiet, [True]]))) - 1
    return int(runs.max())


def test_a_level_that_jumps_and_a_gap_are_seen() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32)
    louder = noise.copy()
    louder[:, 4000:] *= 10 ** (3 / 20)
    assert jumps(noise, 8000, [4000]) < 1 < jumps(louder, 8000, [4000]) - 1
    noise[:, 3000:3040] = 0
    assert longest_silence(noise) == 40


def test_at_a_seam_the_level_is_as_even_as_elsewhere_and_nothing_is_missing(engine: Engine) -> None:
    (take,) = engine.generate([piece(FRAMES / 50)])
    samples, rate, frame = take.samples, take.sample_rate, take.sample_rate // 50
    assert samples.shape[1] == FRAMES * frame
    seams = jumps(samples, rate, [f * frame for f in SEAMS])
    elsewhere = jumps(samples, rate, [f * frame for f in range(10, FRAMES - 10) if f not in SEAMS])
    assert len(seams) == 15
    assert elsewhere.mean() > 0.2  # the level follows the codes
    # no seam jumps by a decibel more than nearly all other frames of the piece, nor are they worse on average
    assert seams.max() < np.quantile(elsewhere, 0.99) + 1
    assert seams.mean() < elsewhere.mean() + 0.5
    assert longest_silence(samples) <= 3


def test_what_follows_a_seam_is_what_the_model_says_after_the_last_codes(engine: Engine) -> None:
    ids = torch.tensor([[5, 9, 3, 20, 1]])
    codes = engine.generate_codes(ids, frames=3 * WINDOW, greedy=True)[0]
    text = engine._read(ids[0])
    known = WINDOW - STRIDE
    for start in (0, STRIDE, 2 * STRIDE, 3 * STRIDE):
        window = codes[:, start : start + WINDOW]
        said = next_logits(engine.decoder, window, text).argmax(-1)
        new = slice(known if start else 0, None)
        assert torch.equal(said[:, new], window[:, new]), start
    assert len(codes[:, -STRIDE:].unique()) > 5


def test_a_finished_take_and_a_finished_stream_end_in_the_same_short_fade(engine: Engine) -> None:
    request = piece(3)
    (take,) = engine.generate([request])
    streamed = np.concatenate(list(engine.stream(request)), axis=1)
    rate, raw = take.sample_rate, take.samples
    done = finish(raw, rate)
    fade = round(0.05 * rate)
    assert np.abs(raw[:, -fade:]).mean() > 0.2 * np.abs(raw).mean()  # by itself it ends abruptly
    assert np.abs(done[:, -1]).max() < 1e-6
    heard = np.abs(raw) > 0.1 * np.abs(raw).max()
    gains = [(done[c, heard[c]] / raw[c, heard[c]])[-np.count_nonzero(heard[c, -fade:]) :] for c in range(len(raw))]
    for gain in gains:
        assert len(gain) > 20
        assert (np.diff(gain) < 1e-3 * gain[0]).all()  # down, and never up
        assert gain[-1] < 0.3 * gain[0]
    np.testing.assert_allclose(finish(streamed, rate), done, atol=1e-3)
    lufs, peak = measure(done, rate)
    assert peak < -0.99
    assert lufs == pytest.approx(-14, abs=0.1)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_is_written_ends_at_zero(engine: Engine, tmp_path_factory: pytest.TempPathFactory, suffix: str) -> None:
    path = tmp_path_factory.mktemp("out") / f"a.{suffix}"
    (take,) = engine.generate([piece(1.5)])
    take.write(path)
    samples, _ = soundfile.read(path, always_2d=True)
    assert np.abs(samples[-1]).max() <= 1 / 32768
    assert np.abs(samples[-2000:-500]).max() > 0.05
