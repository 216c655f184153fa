"""The reasons of a plan: the votes that gave each value, the researched ones that lost, and what was left to habit."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .genres import MINOR_LIKE
from .knowledge import Knowledge
from .knowledge.correspondences import PARAMETERS
from .types import MusicPlan, Reason

__all__ = ["reasons_for"]


def reasons_for(votes: Sequence[Reason], plan: MusicPlan, genre: str, knowledge: Knowledge) -> tuple[Reason, ...]:
    """For each parameter the votes for its value, then the researched votes that lost; the genre's own habits last."""
    style = knowledge.genres[genre].style
    assert style is not None
    pace = "slow" if plan.tempo_bpm <= 92 else "fast" if plan.tempo_bpm >= 118 else "moderate"
    values: dict[str, set[str]] = {
        "genre": {plan.genre},
        "tempo": {pace, f"{plan.tempo_bpm} BPM"},
        "key": {plan.key or ""},
        "mode": {plan.mode} | ({"minor"} if plan.mode in MINOR_LIKE else {"major"}),
        "register": {plan.register},
        "articulation": {plan.articulation},
        "dynamics": {plan.dynamics},
        "harmony": {plan.harmony},
        "rhythm": {"regular"} if plan.rhythm.startswith("regular") or "steady" in plan.rhythm else set(),
        "lead": {plan.lead},
        "accompaniment": set(plan.accompaniment),
        "instrument": {plan.lead, *plan.accompaniment},
        "timbre": set(plan.timbres),
        "exclude": set(plan.exclude),
    }
    played = [c for name in (plan.lead, *plan.accompaniment) if (c := knowledge.instruments.get(name))]
    families = {c.sound.family for c in played if c.sound}
    kept: dict[tuple[str, str, str], Reason] = {}
    for vote in votes:
        wanted = values.get(vote.parameter)
        if vote.parameter == "lead" and vote.value in plan.accompaniment:
            vote = replace(vote, parameter="accompaniment")
        elif wanted is not None and vote.value not in wanted and vote.status != "stated":
            if vote.status not in {"confirmed", "recalled"} or vote.weight < 0.05:
                continue
            vote = replace(vote, because=f"{vote.because}; outvoted")
        elif vote.parameter == "avoid" and vote.value in families:
            vote = replace(vote, because=f"{vote.because}; outvoted")
        elif vote.parameter not in values and vote.status not in {"confirmed", "recalled"}:
            continue
        if vote.weight > 0:
            kept.setdefault((vote.parameter, vote.value, vote.because + vote.source), vote)
    voted = {v.parameter for v in kept.values() if v.value in values.get(v.parameter, ())}
    reasoned = {(v.parameter, v.value) for v in kept.values()} | {("lead", n) for _, n in _instruments(kept.values())}
    reasoned |= {("accompaniment", n) for _, n in _instruments(kept.values())}
    if "genre" not in voted:
        kept["genre", genre, "fit"] = Reason("genre", genre, 0.1, "fits the pace and the feeling best")
    for mood in plan.moods:
        kept["moods", mood, "fit"] = Reason("moods", mood, 0.1, "near the valence and arousal of the whole")
    for parameter, value in (
        ("tempo", f"{plan.tempo_bpm} BPM"),
        ("mode", plan.mode),
        ("register", plan.register),
        ("articulation", plan.articulation),
        ("dynamics", plan.dynamics),
        ("harmony", plan.harmony),
        ("rhythm", plan.rhythm),
        ("lead", plan.lead),
        *(("accompaniment", name) for name in plan.accompaniment),
        *(("timbre", timbre) for timbre in plan.timbres),
    ):
        if parameter == "tempo" and not any(v.status == "stated" and v.parameter == "tempo" for v in kept.values()):
            because = f"what the pace asks for, near the {style.tempo[0]}-{style.tempo[1]} BPM of {genre}"
            kept[parameter, value, "genre"] = Reason(parameter, value, 0.1, because)
        elif (parameter, value) not in reasoned and parameter not in {"tempo", "rhythm"}:
            because = f"usual for {genre}" if parameter not in {"register", "harmony"} else "nothing asks for another"
            kept[parameter, value, "genre"] = Reason(parameter, value, 0.1, because)
        elif parameter == "rhythm":
            kept[parameter, value, "genre"] = Reason(parameter, value, 0.1, f"usual for {genre}")
    if plan.key and "key" not in voted:
        kept["key", plan.key, "seed"] = Reason("key", plan.key, 0.05, "any key would do; drawn from the words")
    order = {p: i for i, p in enumerate(("genre", "moods", "tempo", "key", "mode", *PARAMETERS))}
    return tuple(sorted(kept.values(), key=lambda r: (order.get(r.parameter, 99), r.parameter, -r.weight, r.value)))


def _instruments(reasons: Iterable[Reason]) -> list[tuple[str, str]]:
    return [(r.parameter, r.value) for r in reasons if r.parameter == "instrument"]
