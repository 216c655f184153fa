"""From a MusicPlan to notes: a symusic Score with one track for each part, named after the part."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..types import MusicPlan
from .band import Band, Player, assemble, groove_of
from .harmony import Chord, Form, lay_out, voicing
from .melody import melody
from .patterns import PERCUSSION, SNARE, Groove

if TYPE_CHECKING:
    from symusic.core import ScoreTick, TrackTick

    from ..knowledge import Knowledge

__all__ = ["TICKS", "compose"]

TICKS = 480  # to the beat: cells of a fourth and of a third are whole

_VELOCITY = {"soft": 45, "moderate": 75, "loud": 110}
_STRENGTH = {"X": 1.15, "x": 1.0, "a": 0.7, "o": 0.6}  # of the velocity
_HELD = {"staccato": 0.35, "mixed": 0.7, "legato": 1.04}  # of the slot until the next note
_STRUCK = _HELD | {"legato": 0.88}  # bass and struck chords: what is not let go is not heard to come again
_CHORD_CENTRE = {"low": 46, "mid": 60, "high": 74}
_BASS_CENTRE = {"low": 33, "mid": 38, "high": 44}
_BASS_STRENGTH = {"low": 1.0, "mid": 0.85, "high": 0.7}  # high music stands on a light bass
_DRUM_SECONDS = 0.7  # a stroke rings by itself; the note only has to let it
_CRASH = 49


@dataclass(frozen=True, slots=True)
class _Note:
    """Times in beats."""

    start: float
    length: float
    pitch: int
    strength: float


def compose(plan: MusicPlan, *, seconds: float, seed: int, knowledge: "Knowledge") -> "ScoreTick":
    """The music of a plan: tracks `lead`, `chords`, `bass`, `pad` and `drums`, those that it has.

    The Score lasts `seconds`: its last chord is held to the end, or struck once where the plan is staccato. The same
    plan, seconds and seed give the same notes.
    """
    from symusic.core import ScoreTick, TempoTick

    name, groove = groove_of(plan, knowledge)
    band = assemble(plan, knowledge)
    form = lay_out(plan, beats=groove.beats, seconds=seconds, seed=seed)
    score = ScoreTick(TICKS)
    score.tempos.append(TempoTick(0, qpm=float(plan.tempo_bpm)))
    beating = band.kit or bool(band.percussion)
    if not beating and name != "free":
        groove = replace(groove, chords=_on_beats(groove, "xo"), bass=_on_beats(groove, "rr5r"))
    parts: list[tuple[str, Player | None, list[_Note]]] = []
    if band.lead:
        low = 12 if band.lead.sound.roles[0] == "bass" else 0  # a bass that leads stays a bass
        parts.append(("lead", band.lead, _lead(plan, form, groove, seed, lower=low)))
    parts.append(
        ("chords", band.chords, _chords(plan, form, groove, held=band.chords.sustains and (beating or name == "free")))
    )
    bass = list(_bass(plan, form, groove))
    if band.bass:
        parts.append(("bass", band.bass, bass))
    else:
        parts[-1][2].extend(bass)  # the chords player's low hand
    parts += [("pad", pad, _pad(plan, form, i)) for i, pad in enumerate(band.pads)]
    if beating:
        parts.append(("drums", None, _drums(plan, form, groove, band, seed)))
    for part, player, notes in parts:
        score.tracks.append(_track(part, player, notes, plan))
    return score


def _track(part: str, player: Player | None, notes: list[_Note], plan: MusicPlan) -> "TrackTick":
    from symusic.core import NoteTick, TrackTick

    program = player.sound.program if player else 0
    track = TrackTick(part, program or 0, player is None)
    for note in sorted(notes, key=lambda n: (n.start, n.pitch)):
        velocity = min(127, round(_VELOCITY[plan.dynamics] * note.strength))
        length = max(1, round(note.length * TICKS))
        track.notes.append(NoteTick(round(note.start * TICKS), length, note.pitch, velocity))
    return track


def _cells(pattern: str, groove: Groove, form: Form) -> Iterator[tuple[int, float, float, str]]:
    """(bar, start, slot until the next stroke, character) of every stroke before the final chord."""
    strokes = [(i / groove.division, c) for i, c in enumerate(pattern) if c != "."]
    ends = [start for start, _ in strokes[1:]] + [float(groove.beats)]
    for bar in range(form.bars):
        for (start, char), end in zip(strokes, ends, strict=True):
            onset = bar * groove.beats + start
            if onset < form.body:
                yield bar, onset, min(end - start, form.body - onset), char


def _final(plan: MusicPlan, form: Form) -> float:
    """How long the final chord is held, in beats."""
    return min(1.0, form.tail) if plan.articulation == "staccato" else form.tail


def _lead(plan: MusicPlan, form: Form, groove: Groove, seed: int, *, lower: int) -> list[_Note]:
    *line, (start, _, pitch) = melody(plan, form, division=groove.division, seed=seed)
    held = _HELD[plan.articulation]
    notes = [_Note(s, slot * held, p - lower, 1.15 if s % groove.beats == 0 else 1.0) for s, slot, p in line]
    if plan.harmony == "dissonant":  # the chords lie below: what rubs must rub where the ear is
        notes += [_Note(n.start, n.length, n.pitch - 1, 1.0) for n in notes if n.start == int(n.start)]
    return [*notes, _Note(start, _final(plan, form), pitch - lower, 1.0)]


def _chords(plan: MusicPlan, form: Form, groove: Groove, *, held: bool) -> list[_Note]:
    """The groove's chords; instruments that hold notes play each chord once or twice a bar, unless staccato."""
    centre = _CHORD_CENTRE[plan.register]
    pattern = groove.chords
    if held and plan.articulation != "staccato":
        pattern = _every(groove, 2 if groove.beats == 4 else 3)
    lengths = _HELD if held else _STRUCK
    louder = 1.15 if plan.harmony == "dissonant" else 1.0
    notes: list[_Note] = []
    broken = 0
    for bar, start, slot, char in _cells(pattern, groove, form):
        pitches = voicing(form.chords[bar], centre)
        if char == "a":
            # up and down; a close chord's neighbours sound together, else its seconds would never be heard
            order = [*pitches, *pitches[-2:0:-1]]
            first = order[broken % len(order)]
            pitches = [first, first + 1] if form.chords[bar].close else [first]
            broken += 1
        notes += [_Note(start, slot * lengths[plan.articulation], p, louder * _STRENGTH[char]) for p in pitches]
    last = voicing(form.chords[-1], centre)
    return notes + [_Note(form.body, _final(plan, form), p, 1.0) for p in last]


def _bass(plan: MusicPlan, form: Form, groove: Groove) -> Iterator[_Note]:
    centre, strength = _BASS_CENTRE[plan.register], _BASS_STRENGTH[plan.register]
    for bar, start, slot, char in _cells(groove.bass, groove, form):
        chord, following = form.chords[bar], form.chords[min(bar + 1, form.bars)]
        pitch = _bass_pitch(char, chord, following, centre)
        yield _Note(start, slot * _STRUCK[plan.articulation], pitch, strength * (1.0 if start == int(start) else 0.7))
    yield _Note(form.body, _final(plan, form), _bass_pitch("r", form.chords[-1], form.chords[-1], centre), strength)


def _bass_pitch(char: str, chord: Chord, following: Chord, centre: int) -> int:
    root = centre - 6 + (chord.root - centre + 6) % 12
    if char == "n":  # from a step below or above to the next root
        target = centre - 6 + (following.root - centre + 6) % 12
        return target + (1 if target < root else -1)
    third = chord.tones[1] if 3 <= chord.tones[1] <= 5 else 7
    return root + {"r": 0, "5": 7, "8": 12, "3": third}[char]


def _on_beats(groove: Groove, strokes: str) -> str:
    """A stroke on every beat, these in turn: without drums the others keep the pulse, and keep it plain."""
    return "".join(strokes[i % len(strokes)] + "." * (groove.division - 1) for i in range(groove.beats))


def _every(groove: Groove, beats: int) -> str:
    cells = beats * groove.division
    return "".join("x" if i % cells == 0 else "." for i in range(groove.beats * groove.division))


def _pad(plan: MusicPlan, form: Form, index: int) -> list[_Note]:
    """Two held notes of each chord, a third apart from those of the other pad; on every beat where staccato."""
    centre = _CHORD_CENTRE[plan.register] + (5 if index else -3)
    step = 1 if plan.articulation == "staccato" else form.beats
    notes: list[_Note] = []
    for beat in range(0, form.body, step):
        pitches = voicing(form.chord_at(beat), centre)[index : index + 2]
        length = min(step, form.body - beat) * _HELD[plan.articulation]
        notes += [_Note(beat, length, p, 0.85) for p in pitches]
    last = voicing(form.chords[-1], centre)[index : index + 2]
    return notes + [_Note(form.body, _final(plan, form), p, 0.85) for p in last]


def _drums(plan: MusicPlan, form: Form, groove: Groove, band: Band, seed: int) -> list[_Note]:
    """The kit's groove with a fill at the end of every fourth bar, and the hand percussion; one stroke to end."""
    ring = _DRUM_SECONDS * plan.tempo_bpm / 60
    notes: list[_Note] = []
    if band.kit:
        level = 1.0 if band.drummer else 0.7  # drums that nobody named stay behind the others
        for key, pattern in groove.drums.items():
            notes += [
                _Note(start, ring, key, level * _STRENGTH[char])
                for bar, start, _, char in _cells(pattern, groove, form)
                if not (key == SNARE and _fills(bar, start, form))
            ]
        if SNARE in groove.drums:
            notes += _fill(form, groove, ring, level, seed)
        notes.append(_Note(form.body, ring, min(groove.drums), level))
        if plan.dynamics == "loud":
            notes += [_Note(beat, 3 * ring, _CRASH, level) for beat in (0, form.body)]
    for name in band.percussion:
        for key, pattern in PERCUSSION[name].items():
            strokes = _on_eighths(pattern, groove)
            notes += [_Note(s, ring, key, _STRENGTH[c]) for _, s, _, c in _cells(strokes, groove, form)]
    return notes


def _on_eighths(pattern: str, groove: Groove) -> str:
    """A pattern of two cells to the beat on the groove's own cells; the second falls on the last triplet in three."""
    cells = ["."] * (groove.beats * groove.division)
    for i, char in enumerate(pattern[: 2 * groove.beats]):
        cells[i // 2 * groove.division + 2 * (i % 2)] = char
    return "".join(cells)


def _fills(bar: int, start: float, form: Form) -> bool:
    """Whether a stroke gives way to the fill: the last beat of every fourth bar."""
    return bar % 4 == 3 and start >= (bar + 1) * form.beats - 1


def _fill(form: Form, groove: Groove, ring: float, level: float, seed: int) -> list[_Note]:
    rng = random.Random(f"fill {seed}")  # noqa: S311 - variety, not secrecy
    keys = rng.choice(((38, 38, 48, 45), (38, 48, 48, 43), (38, 38, 38, 38)))[: groove.division]
    strengths = (1.15, 0.7, 0.85, 0.85)
    return [
        _Note((bar + 1) * form.beats - 1 + i / groove.division, ring, key, level * strength)
        for bar in range(3, form.bars, 4)
        if (bar + 1) * form.beats <= form.body
        for i, (key, strength) in enumerate(zip(keys, strengths, strict=False))
    ]
