"""Loudness (ITU-R BS.1770-4) and a limiter, in numpy: filters as frequency responses, everything by blocks.

Samples are float32 [channels, n]; loudness in LUFS, peaks in dBTP (true peak) or as amplitudes.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["fast_length", "k_weighted", "loudness", "normalise", "true_peak"]

Samples = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]
Power = npt.NDArray[np.float64]

_BLOCK_S, _HOP_S = 0.4, 0.1  # of the measurement: 400 ms, a quarter new each time
_LIMITER_BLOCK = 32  # samples; 1 ms at 32 kHz
_LIMITER_REACH = 20  # blocks to each side: the gain moves before the peak comes and after it went
_TAPS = 32  # of the interpolator that finds peaks between samples
_FLOOR = 1e-12


def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c that is at least n: lengths that an FFT likes."""
    best = 1 << (n - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = 1 << max(0, (-(-n // three) - 1).bit_length())
            best = min(best, two * three)
            three *= 3
        five *= 5
    return best


def _k_response(n: int, rate: int) -> Spectrum:
    """The K-weighting's response [n // 2 + 1] for an FFT of n samples.

    The two analogue stages behind the standard's 48 kHz coefficients, as found by De Man, "Evaluation of
    implementations of the EBU R128 loudness measurement" (AES 145, 2018), mapped to any rate.
    """
    z = np.exp(-2j * np.pi / n * np.arange(n // 2 + 1))
    k, q = np.tan(np.pi * 1681.9744509555319 / rate), 0.7071752369554193
    high = 10 ** (3.99984385397 / 20)
    band = high**0.4996667741545416
    shelf = (high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k)
    response = _quadratic(z, *shelf) / _quadratic(z, 1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k)
    k, q = np.tan(np.pi * 38.13547087613982 / rate), 0.5003270373253953
    a0 = 1 + k / q + k * k
    response *= _quadratic(z, 1, -2, 1) / _quadratic(z, 1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0)
    return response.astype(np.complex64)


def _quadratic(z: npt.NDArray[np.complex128], a: float, b: float, c: float) -> npt.NDArray[np.complex128]:
    return a + z * (b + c * z)


def k_weighted(samples: Samples, rate: int) -> Samples:
    """The samples [channels, n] through the K-weighting filter."""
    size = _padded(samples, rate)
    return _filtered(_spectrum(samples, size) * _k_response(size, rate), size, samples.shape[-1])


def _padded(samples: Samples, rate: int) -> int:
    """A length at which the filter dies away before it wraps round: the high pass takes a quarter of a second."""
    return fast_length(samples.shape[-1] + rate // 4)


def _spectrum(samples: Samples, size: int) -> Spectrum:
    return np.fft.rfft(samples, size).astype(np.complex64, copy=False)


def _filtered(spectrum: Spectrum, size: int, n: int) -> Samples:
    return np.fft.irfft(spectrum, size)[..., :n].astype(np.float32, copy=False)


def loudness(samples: Samples, rate: int) -> float:
    """Integrated loudness in LUFS of samples [channels, n], all channels weighing one; -inf for silence."""
    return _gated(k_weighted(samples, rate), rate)


def _gated(weighted: Samples, rate: int) -> float:
    """The loudness of weighted samples [channels, n]."""
    hop = round(_HOP_S * rate)
    hops = weighted.shape[-1] // hop
    return _gated_hops(_energy(weighted[..., : hops * hop], hop) / hop)


def _energy(weighted: Samples, block: int) -> Power:
    """The energy [blocks] of weighted samples [channels, blocks * block], over all channels."""
    return np.square(weighted).reshape(-1, weighted.shape[-1] // block, block).sum(-1).sum(0).astype(np.float64)


def _gated_hops(power: Power) -> float:
    """The mean over the blocks above -70 LUFS and above 10 LU below the mean of those, of the power [hops]."""
    per_block = min(round(_BLOCK_S / _HOP_S), max(len(power), 1))
    blocks = np.convolve(power, np.full(per_block, 1 / per_block), "valid") if len(power) else np.zeros(1)
    loud = blocks[_lufs(blocks) > -70]
    if not len(loud):
        return float("-inf")
    return float(_lufs(loud[_lufs(loud) > _lufs(loud.mean()) - 10].mean()))


def _lufs(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return -0.691 + 10 * np.log10(np.maximum(power, _FLOOR))


def _interpolator() -> Samples:
    """Windowed sinc [taps, 3]: the values at a quarter, a half and three quarters between two samples."""
    at = np.arange(_TAPS)[:, None] - (_TAPS // 2 - 1) - np.array([0.25, 0.5, 0.75])
    window = np.i0(6 * np.sqrt(np.maximum(0, 1 - (at / (_TAPS / 2)) ** 2))) / np.i0(6)
    return (np.sinc(at) * window).astype(np.float32)


def true_peak(samples: Samples) -> float:
    """The true peak in dBTP: the largest value of the samples [channels, n] oversampled four times.

    Only beside samples that reach half the peak is it looked for: no wave rises 6 dB between two samples of music.
    """
    peak = float(np.abs(samples).max(initial=0))
    if peak == 0:
        return float("-inf")
    kernel = _interpolator()
    for channel in np.atleast_2d(samples):
        padded = np.pad(channel, _TAPS)
        near = np.abs(padded) > peak / 2
        starts = np.flatnonzero(near[:-1] | near[1:])
        starts = starts[(starts >= _TAPS // 2) & (starts < len(padded) - _TAPS // 2 - 1)] - (_TAPS // 2 - 1)
        for some in np.array_split(starts, -(-len(starts) // 65536) or 1):
            frames = padded[some[:, None] + np.arange(_TAPS)]  # [m, taps]
            peak = max(peak, float(np.abs(frames @ kernel).max(initial=0)))
    return 20 * float(np.log10(peak))


def _limiter(peaks: Samples, ceiling: float) -> Samples:
    """The gain of each block [m] that keeps the peaks [m] under the ceiling, moving smoothly."""
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, _FLOOR)).astype(np.float32)
    reach = _LIMITER_REACH
    # one block more than the smoothing reaches: between two blocks the gain is drawn as a line
    padded = np.pad(needed, reach + 1, mode="edge")
    least = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 3).min(-1)
    window = np.hanning(2 * reach + 3)[1:-1]
    smooth = np.convolve(np.pad(least, reach, mode="edge"), window / window.sum(), "valid")
    return smooth.astype(np.float32)


def _gain(peaks: Samples, energy: Power, rate: int, target: float, limit_db: float) -> Samples:
    """The gain of each block [m] that brings the whole to the target loudness and its peaks under the limit."""
    gain_db, got = 0.0, _gated_blocks(energy, rate)
    slope, gain = 1.0, np.ones(len(peaks), np.float32)
    for _ in range(12):
        step = (target - got) / slope
        gain_db += step
        scale = np.float32(10 ** (gain_db / 20))
        gain = scale * _limiter(peaks * scale, 10 ** (limit_db / 20))
        # the gain moves slowly: to weight what it has changed is as good as to change what was weighted
        reached = _gated_blocks(energy * np.square(gain, dtype=np.float64), rate)
        if abs(target - reached) < 0.05:
            break
        # the more is limited, the less a decibel of gain is worth
        slope, got = min(1.0, max(0.2, (reached - got) / step)), reached
    return gain


def _gated_blocks(energy: Power, rate: int) -> float:
    """The loudness of weighted energy [m] of the limiter's blocks."""
    per_hop = round(_HOP_S * rate / _LIMITER_BLOCK)
    hops = len(energy) // per_hop
    return _gated_hops(energy[: hops * per_hop].reshape(hops, per_hop).sum(1) / (per_hop * _LIMITER_BLOCK))


def _between(gain: Samples, n: int) -> Samples:
    """The gain [n] of samples: lines from the middle of each block [m] to the next."""
    ends = np.concatenate([gain[:1], (gain[:-1] + gain[1:]) / 2, gain[-1:]])
    ramp = ((np.arange(_LIMITER_BLOCK) + 0.5) / _LIMITER_BLOCK).astype(np.float32)
    return (ends[:-1, None] + np.diff(ends)[:, None] * ramp).reshape(-1)[:n].astype(np.float32, copy=False)


def normalise(
    samples: Samples, rate: int, *, target: float = -14.0, ceiling: float = -1.0
) -> tuple[Samples, float, float]:
    """(samples at the target loudness and under the ceiling, their measured LUFS, their measured dBTP).

    The ceiling holds always, the target within about half an LU; silence stays silent.
    """
    n = samples.shape[-1]
    blocks = -(-n // _LIMITER_BLOCK)
    size = _padded(samples, rate)
    weighting = _k_response(size, rate)
    spectrum = _spectrum(samples, size)
    energy = _energy(_filtered(spectrum * weighting, size, blocks * _LIMITER_BLOCK), _LIMITER_BLOCK)
    before = _gated_blocks(energy, rate)
    if before == float("-inf"):
        return samples, before, true_peak(samples)
    # the signal half a sample later: what it reaches between samples, but for a few tenths of a dB
    later = np.exp(0.5j * np.pi / (size // 2) * np.arange(size // 2 + 1)).astype(np.complex64)
    peaks = np.zeros(blocks * _LIMITER_BLOCK, np.float32)
    peaks[:n] = np.maximum(np.abs(samples).max(0), np.abs(_filtered(spectrum * later, size, n)).max(0))
    peaks = peaks.reshape(blocks, _LIMITER_BLOCK).max(1)
    ceiling -= 0.03  # another meter may find a little more
    limit_db, limited = ceiling - 0.3, samples
    for _ in range(3):
        limited = samples * _between(_gain(peaks, energy, rate, target, limit_db), n)
        over = true_peak(limited) - ceiling
        if over <= 0:
            break
        limit_db -= over + 0.05
    else:
        limited = limited * np.float32(10 ** (-max(0.0, true_peak(limited) - ceiling) / 20))
    weighted = _filtered(_spectrum(limited, size) * weighting, size, n)
    return limited, _gated(weighted, rate), true_peak(limited)
