"""The reasons of a plan: the votes that gave each value, the researched ones that lost, and what was left to habit."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from .genres import MINOR_LIKE
from .knowledge import Knowledge, MusicStyle
from .knowledge.correspondences import PARAMETERS
from .types import MusicPlan, Reason

__all__ = ["model_reasons", "reasons_for"]


def reasons_for(
    votes: Sequence[Reason], plan: MusicPlan, genre: str, knowledge: Knowledge, *, stated_moods: Collection[str] = ()
) -> tuple[Reason, ...]:
    """For each parameter the votes for its value, then the researched votes that lost; the genre's own habits last."""
    style = knowledge.genres[genre].style
    assert style is not None
    values = _values(plan)
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
    asked = {v.value for v in kept.values() if v.parameter == "instrument"}
    reasoned = {(v.parameter, v.value) for v in kept.values()}
    reasoned |= {(parameter, name) for parameter in ("lead", "accompaniment") for name in asked}
    for reason in _left_open(plan, genre, style, stated_moods):
        if (reason.parameter, reason.value) not in reasoned and reason.parameter not in _ONCE & voted:
            kept[reason.parameter, reason.value, "open"] = reason
    if plan.key and "key" not in voted:
        kept["key", plan.key, "seed"] = Reason("key", plan.key, 0.05, "any key would do; drawn from the words")
    order = {p: i for i, p in enumerate(("genre", "moods", "tempo", "key", "mode", *PARAMETERS))}
    return tuple(sorted(kept.values(), key=lambda r: (order.get(r.parameter, 99), r.parameter, -r.weight, r.value)))


def _values(plan: MusicPlan) -> dict[str, set[str]]:
    """For each parameter the values that a vote for the plan may have."""
    pace = "slow" if plan.tempo_bpm <= 92 else "fast" if plan.tempo_bpm >= 118 else "moderate"
    return {
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


def model_reasons(reasons: Sequence[Reason], rules: MusicPlan, plan: MusicPlan, *, model: str) -> tuple[Reason, ...]:
    """The reasons of a plan that a language model made of the rules plan.

    What it kept keeps its reasons; what it changed was its choice. Research that it did not follow stays, as outvoted.
    """
    values = _values(plan) | {"moods": set(plan.moods), "rhythm": {plan.rhythm}}
    before = _values(rules) | {"moods": set(rules.moods), "rhythm": {rules.rhythm}}
    kept: list[Reason] = []
    for r in reasons:
        holds = r.value in values.get(r.parameter, {r.value}) or values[r.parameter] == before[r.parameter]
        if holds or r.because.endswith("outvoted"):
            kept.append(r)
        elif r.status in {"confirmed", "recalled"}:
            kept.append(replace(r, because=f"{r.because}; outvoted"))
    told = [
        ("genre", [plan.genre]), ("moods", plan.moods), ("tempo", [f"{plan.tempo_bpm} BPM"]), ("key", [plan.key]),
        ("mode", [plan.mode]), ("register", [plan.register]), ("articulation", [plan.articulation]),
        ("dynamics", [plan.dynamics]), ("harmony", [plan.harmony]), ("rhythm", [plan.rhythm]), ("lead", [plan.lead]),
        ("accompaniment", plan.accompaniment), ("timbre", plan.timbres),
    ]  # fmt: skip
    chosen = [
        Reason(parameter, value, 1.0, f"the choice of the language model {model}", status="model")
        for parameter, these in told
        for value in these
        if value and value not in before[parameter]
    ]
    order = {parameter: i for i, (parameter, _) in enumerate(told)}
    return tuple(sorted([*chosen, *kept], key=lambda r: order.get(r.parameter, 99)))


_ONCE = frozenset({"genre"})
"""Parameters of which a vote says everything."""


def _left_open(plan: MusicPlan, genre: str, style: MusicStyle, stated_moods: Collection[str]) -> list[Reason]:
    """Why each value is what it is where no vote gave it: the genre's habit, or what was left."""

    def habit(parameter: str, value: str, usual: bool, otherwise: str) -> Reason:
        return Reason(parameter, value, 0.1, f"usual for {genre}" if usual else otherwise)

    tempo = f"what the pace asks for, near the {style.tempo[0]}-{style.tempo[1]} BPM of {genre}"
    left = "fits beside what is left out"
    found = [
        Reason("genre", genre, 0.1, "fits the pace and the feeling best"),
        Reason("tempo", f"{plan.tempo_bpm} BPM", 0.1, tempo),
        habit("mode", plan.mode, plan.mode == style.mode, "what votes for the mode come to"),
        Reason("register", plan.register, 0.1, "nothing asks for another"),
        habit("articulation", plan.articulation, plan.articulation == style.articulation, "nothing asks for another"),
        habit("dynamics", plan.dynamics, plan.dynamics == style.dynamics, "nothing asks for another"),
        Reason("harmony", plan.harmony, 0.1, "nothing asks for another"),
        habit("rhythm", plan.rhythm, style.rhythm in plan.rhythm, "stands in for the genre's own"),
        habit("lead", plan.lead, plan.lead in style.lead, left),
        *(habit("accompaniment", name, name in style.accompaniment, left) for name in plan.accompaniment),
        *(Reason("timbre", timbre, 0.1, f"usual for {genre}") for timbre in plan.timbres),
    ]
    for mood in plan.moods:
        if mood in stated_moods:
            found.append(Reason("moods", mood, 10.0, "the person's words", status="stated"))
        else:
            found.append(Reason("moods", mood, 0.1, "near the valence and arousal of the whole"))
    return found
