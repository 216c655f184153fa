"""Which genres may be chosen unasked, and how well each fits a pace, a feeling, and the habits that are wanted."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .knowledge import Knowledge
from .knowledge.correspondences import PARAMETERS
from .types import Senses

__all__ = ["MINOR_LIKE", "MODERATE_BPM", "GenreChoices", "target_bpm"]

SLOW_BPM, MODERATE_BPM, FAST_BPM = 72, 104, 144  # design defaults for the three paces
MINOR_LIKE = frozenset({"minor", "dorian", "phrygian"})
# Genres named after places or foods, heard mostly sung or only at one time of the year, or for one instrument: only
# when asked for.
_ON_REQUEST = frozenset(
    "Delta blues|Chicago blues|Motown soul|UK garage|Hawaiian|salsa|Christmas music|K-pop|J-pop|gospel|qawwali|"
    "children's music|circus music|noise music|elevator music|sea shanty|Balkan brass|French house|Italo disco|"
    "Britpop|Latin pop|baile funk|Mongolian folk|Turkish folk|Bollywood|enka|march|grime|drill|emo|pop|"
    "solo guitar|solo violin|solo cello|solo harp|solo flute|solo saxophone".split("|")
)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A genre that may be chosen, with what is played in it."""

    name: str
    lead: frozenset[str]
    played: frozenset[str]
    lead_families: frozenset[str]


class GenreChoices:
    """All genres that may be chosen unasked, with their habits as arrays [genres]."""

    def __init__(self, knowledge: Knowledge) -> None:
        genres = [c for c in knowledge.genres.values() if c.style and c.name not in _ON_REQUEST]
        styles = [c.style for c in genres if c.style]
        self.genres = [
            _Choice(
                c.name,
                frozenset(s.lead),
                frozenset((*s.lead, *s.accompaniment)),
                frozenset(sound.family for n in s.lead if (sound := knowledge.instruments[n].sound)),
            )
            for c, s in zip(genres, styles, strict=True)
        ]
        self._index = {g.name: i for i, g in enumerate(self.genres)}
        self._leading = _rows_by(g.lead for g in self.genres)
        self._playing = _rows_by(g.played for g in self.genres)
        self._led_by = _rows_by(g.lead_families for g in self.genres)
        self._low, self._high = np.array([s.tempo for s in styles], float).T
        self._valence = np.array([c.valence or 0.0 for c in genres])
        self._arousal = np.array([c.arousal or 0.0 for c in genres])
        self._habits = {
            "articulation": [s.articulation for s in styles],
            "dynamics": [s.dynamics for s in styles],
            "mode": ["minor" if s.mode in MINOR_LIKE else "major" for s in styles],
        }
        # (parameter, value) -> +1 where the genre has it, -1 where it has the opposite, 0 where it has neither
        self._agrees = {
            (p, value): np.array([0 if h in {"mixed", "moderate"} else 1 if h == value else -1 for h in habits], float)
            for p, habits in self._habits.items()
            for value in PARAMETERS[p] or ()
        }

    def suit(
        self, totals: Mapping[str, float], *, leads: Mapping[str, float], avoid: Collection[str]
    ) -> npt.NDArray[np.float64]:
        """How much votes [genres] for genres, instruments (0..1 each) and families to avoid speak for each genre."""
        scores = np.full(len(self.genres), -0.24)  # what nobody votes for stands back
        for name, weight in totals.items():
            if name in self._index:
                scores[self._index[name]] = 1.6 * weight
        for weight, rows_of in ((0.2, self._playing), (0.15, self._leading)):
            shares: dict[int, float] = {}
            for name, share in leads.items():
                shares |= {row: max(share, shares.get(row, 0.0)) for row in rows_of.get(name, ())}
            scores[list(shares)] += weight * np.array(list(shares.values()))
        for family in avoid:
            scores[self._led_by.get(family, [])] -= 0.2
        return scores

    def fit(self, *, pace: float, senses: Senses, wanted: dict[str, tuple[str, float]]) -> npt.NDArray[np.float64]:
        """How well each genre [genres] fits the pace, the feeling, and the (value, strength) wanted of its habits."""
        target = target_bpm(pace)
        off = np.clip(np.maximum(self._low - target, target - self._high) / 20, 0, 3)  # of 20 BPM out of range
        valence, arousal = self._valence - senses.emotion.valence, self._arousal - senses.emotion.arousal
        scores = -0.5 * off * (0.4 + 0.6 * abs(pace)) - 0.35 * np.sqrt(0.7 * valence**2 + arousal**2)
        for parameter, (value, strength) in wanted.items():
            if (parameter, value) in self._agrees:
                scores += 0.25 * min(strength, 1.0) * self._agrees[parameter, value]
        return scores


def _rows_by(groups: Iterable[Collection[str]]) -> dict[str, list[int]]:
    """For each name the rows of the groups that hold it."""
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        for name in group:
            rows.setdefault(name, []).append(row)
    return rows


def target_bpm(pace: float) -> float:
    """The tempo that a pace from -1 (slow) to 1 (fast) asks for, in BPM."""
    return MODERATE_BPM + pace * ((MODERATE_BPM - SLOW_BPM) if pace < 0 else (FAST_BPM - MODERATE_BPM))
