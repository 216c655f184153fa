"""The lead line: short phrases that return, chord tones on strong beats and steps between."""

import random
from collections.abc import Sequence

from ..types import MusicPlan
from .harmony import Form, scale_pitches, tonic_of

__all__ = ["MELODY_CENTRE", "melody"]

MELODY_CENTRE = {"low": 52, "mid": 69, "high": 86}  # MIDI pitches: E3, A4, D6
_REACH = 9  # semitones to both sides

# Lengths in beats that fill a bar; the closing ones end a phrase on a long note.
_BARS = {
    4: (
        (1, 1, 1, 1),
        (1, 0.5, 0.5, 1, 1),
        (2, 1, 1),
        (1, 1, 0.5, 0.5, 1),
        (0.5, 0.5, 1, 0.5, 0.5, 1),
        (1, 1, 1, 0.5, 0.5),
    ),
    3: ((1, 1, 1), (2, 1), (1, 0.5, 0.5, 1), (1, 1, 0.5, 0.5)),
}
_CLOSING = {4: ((1, 1, 2), (2, 2), (1, 0.5, 0.5, 2)), 3: ((1, 2), (1, 0.5, 0.5, 1), (3,))}


def melody(plan: MusicPlan, form: Form, *, division: int, seed: int) -> list[tuple[float, float, int]]:
    """The lead's notes as (beat, slot in beats, pitch), the final note last.

    A phrase keeps its rhythm and its direction each time it returns; its pitches follow the chords of the moment.
    """
    centre = MELODY_CENTRE[plan.register]
    tonic = tonic_of(plan.key, seed)
    scale = scale_pitches(plan, tonic, centre - _REACH, centre + _REACH)
    notes: list[tuple[float, float, int]] = []
    pitch = _nearest([p for p in scale if p % 12 in form.chords[0].classes] or scale, centre)
    for bar, letter in enumerate(form.letters):
        half = bar % 2
        rng = random.Random(f"melody {seed} {letter} {half}")  # noqa: S311 - variety, not secrecy
        lengths = rng.choice((_CLOSING if half else _BARS)[form.beats])
        # what rises in its first bar falls in its second
        upward = (rng.random() < 0.7) != bool(half)
        start = float(bar * form.beats)
        for length in lengths:
            onset = _swung(start, division)
            if onset >= form.body:
                break
            strong = start % 2 == 0 or start % form.beats == 0
            allowed = [p for p in scale if p % 12 in form.chord_at(onset).classes] if strong else scale
            pitch = _step(allowed or scale, pitch, centre, upward, rng)
            end = min(_swung(start + length, division), form.body)
            notes.append((onset, end - onset, pitch))
            start += length
    home = [p for p in scale if p % 12 == tonic]
    return [*notes, (float(form.body), form.tail, _nearest(home, pitch))]


def _swung(beat: float, division: int) -> float:
    """Halves of a beat fall on the third triplet where the groove counts in three."""
    whole = int(beat)
    return beat if division != 3 or beat == whole else whole + 2 / 3


def _nearest(pitches: Sequence[int], to: int) -> int:
    return min(pitches, key=lambda p: (abs(p - to), p))


def _step(allowed: Sequence[int], pitch: int, centre: int, upward: bool, rng: random.Random) -> int:
    """The next pitch: mostly the nearest one onwards, at times held, back, or a skip; turned about near the edge."""
    if abs(pitch - centre) >= _REACH - 2:
        upward = pitch < centre
    if rng.random() < 0.25:
        upward = not upward
    onward = [p for p in allowed if (p > pitch if upward else p < pitch)]
    onward.sort(key=lambda p: abs(p - pitch))
    if not onward:
        return _nearest(allowed, pitch)
    return onward[min(1 if rng.random() < 0.18 else 0, len(onward) - 1)]
