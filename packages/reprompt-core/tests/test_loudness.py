"""Loudness and peaks against pyloudnorm and waves whose peaks are known."""

import numpy as np
import pyloudnorm
import pytest
from reprompt_core.generation.loudness import fast_length, loudness, normalise, true_peak


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
@pytest.mark.parametrize("colour", ["white", "low", "gated"])
def test_loudness_agrees_with_pyloudnorm(rate: int, colour: str) -> None:
    samples = np.random.default_rng(0).standard_normal((2, 5 * rate)).astype(np.float32) * 0.1
    if colour == "low":
        samples = np.cumsum(samples, axis=1).astype(np.float32) * 0.01
    if colour == "gated":
        samples[:, 2 * rate :] *= 0.01
    expected = pyloudnorm.Meter(rate).integrated_loudness(samples.T.astype(np.float64))
    assert loudness(samples, rate) == pytest.approx(expected, abs=0.1)


def test_peaks_between_samples_are_found() -> None:
    n = np.arange(3200)
    wave = np.sin(np.pi / 2 * n + np.pi / 4).astype(np.float32)[None]  # a quarter of the rate: sampled at .707
    assert np.abs(wave).max() < 0.71
    assert true_peak(wave) == pytest.approx(0, abs=0.2)


def test_silence_stays_silent() -> None:
    silence = np.zeros((2, 32_000), np.float32)
    samples, lufs, peak = normalise(silence, 32_000)
    assert not samples.any()
    assert lufs == peak == float("-inf")


def test_fast_lengths_are_the_least_that_do() -> None:
    for n in (1, 7, 1000, 488_001):
        smooth = (m for m in range(n, 2 * n + 1) if _is_smooth(m))
        assert fast_length(n) == next(smooth)


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
