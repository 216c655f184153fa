"""Scales, progressions and chords of the plan's key, mode and harmony."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..types import MusicPlan

__all__ = ["SCALES", "Chord", "Form", "lay_out", "tonic_of", "voicing"]

_PARENT = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "pentatonic": (0, 2, 4, 5, 7, 9, 11),  # its chords; the melody keeps to five notes
}
SCALES = _PARENT | {"pentatonic": (0, 2, 4, 7, 9)}
"""Semitones above the tonic that a melody may use."""

# Degrees, one a bar, 0 the tonic. Each set shows what sets its mode apart: dorian IV, mixolydian VII, phrygian II, ...
_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (0, 3, 1, 4), (0, 2, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 6), (0, 3, 6, 2), (0, 5, 3, 6)),
    "dorian": ((0, 3, 0, 3), (0, 6, 3, 0), (0, 2, 3, 6), (0, 3, 6, 3)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 6, 0, 3), (0, 5, 6, 3)),
    "phrygian": ((0, 1, 0, 6), (0, 1, 2, 1), (0, 5, 1, 0), (0, 3, 1, 6)),
    "lydian": ((0, 1, 0, 1), (0, 1, 4, 0), (0, 1, 2, 4), (0, 4, 1, 1)),
    "pentatonic": ((0, 5, 0, 4), (0, 4, 5, 4), (0, 5, 3, 4), (0, 3, 0, 4)),
}
_CADENCE = {"major": 4, "minor": 6, "dorian": 6, "mixolydian": 6, "phrygian": 1, "lydian": 1, "pentatonic": 4}
_LETTERS = "AABACABA"  # of phrases of two bars: returns often enough to be remembered, with something new between
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True, slots=True)
class Chord:
    """A root (pitch class) and what sounds above it (semitones, 0 first)."""

    root: int
    tones: tuple[int, ...]
    close: bool = False  # sounds as written, no inversion: its seconds must stay seconds

    @property
    def classes(self) -> frozenset[int]:
        """Its pitch classes."""
        return frozenset((self.root + t) % 12 for t in self.tones)


@dataclass(frozen=True, slots=True)
class Form:
    """Where the piece stands when: its bars, then the final chord. All times in beats."""

    beats: int  # in a bar
    body: int  # the final chord falls on this beat
    tail: float  # from there to the end of the sound
    letters: str  # one for each bar: which phrase it belongs to
    chords: tuple[Chord, ...]  # one for each bar, the final one last

    @property
    def bars(self) -> int:
        """Bars before the final chord; the last may be cut short."""
        return len(self.chords) - 1

    def chord_at(self, beat: float) -> Chord:
        """The chord that sounds at a beat."""
        return self.chords[-1] if beat >= self.body else self.chords[int(beat // self.beats)]


def tonic_of(key: str | None, seed: int) -> int:
    """The pitch class of a key such as C, C#, Db; a key left open is drawn from the seed."""
    if not key:
        return random.Random(f"key {seed}").choice((0, 2, 4, 5, 7, 9))  # noqa: S311 - variety, not secrecy
    return (_STEPS[key[0].upper()] + sum({"#": 1, "♯": 1, "b": -1, "♭": -1}.get(c, 0) for c in key[1:])) % 12


def lay_out(plan: MusicPlan, *, beats: int, seconds: float, seed: int) -> Form:
    """The form that fills `seconds`: phrases of two bars over two progressions, a cadence, and time to ring out."""
    rng = random.Random(f"form {seed}")  # noqa: S311 - variety, not secrecy
    beat = 60 / plan.tempo_bpm
    ring = min(max(2 * beat, 1.2), 0.4 * seconds)
    body = int((seconds - ring) / beat)
    if body >= 2 * beats:
        body -= body % (beats if beats == 3 else 2)  # end on a strong beat
    bars = -(-body // beats)
    tonic = tonic_of(plan.key, seed)
    first, second = rng.sample(_PROGRESSIONS[plan.mode], 2)
    letters = "".join(_LETTERS[bar // 2 % len(_LETTERS)] for bar in range(bars))
    degrees = [(first if letter == "A" else second)[bar % 4] for bar, letter in enumerate(letters)]
    if bars > 1:
        degrees[-1] = _CADENCE[plan.mode]
    colours = [rng.choice(("seventh", "plain", "fourth", "ninth")) for _ in range(4)]
    chords = [_chord(plan, tonic, d, colours[i % 4]) for i, d in enumerate(degrees)]
    return Form(beats, body, seconds / beat - body, letters, (*chords, _chord(plan, tonic, 0, "plain")))


def _chord(plan: MusicPlan, tonic: int, degree: int, colour: str) -> Chord:
    scale = _PARENT[plan.mode]

    def above(steps: int) -> int:
        octave, step = divmod(degree + steps, 7)
        return scale[step] + 12 * octave - scale[degree]

    root = (tonic + scale[degree]) % 12
    if plan.harmony == "dissonant":
        return Chord(root, (0, 1, 6, 7), close=True)  # two minor seconds, a tritone apart
    triad = (0, above(2), above(4))
    if plan.harmony == "mixed":
        coloured = {"seventh": (*triad, above(6)), "fourth": (0, above(3), above(4)), "ninth": (*triad, above(8))}
        return Chord(root, coloured.get(colour, triad))
    return Chord(root, triad)


def voicing(chord: Chord, centre: int) -> list[int]:
    """The chord's pitches about `centre`, ascending, so that neighbouring chords lie near one another."""
    if chord.close:
        base = _nearest(chord.root, centre - 3)
        return [base + t for t in chord.tones]
    return sorted(_nearest(pitch_class, centre) for pitch_class in chord.classes)


def _nearest(pitch_class: int, centre: int) -> int:
    """The pitch of this class from 6 below to 5 above the centre."""
    return centre - 6 + (pitch_class - centre + 6) % 12


def scale_pitches(plan: MusicPlan, tonic: int, low: int, high: int) -> Sequence[int]:
    """The pitches of the plan's scale from `low` to `high`."""
    classes = {(tonic + s) % 12 for s in SCALES[plan.mode]}
    return [p for p in range(low, high + 1) if p % 12 in classes]
