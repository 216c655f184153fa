"""From votes to a plan: the person's words win, what is left out stays out, and every choice has its reasons."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from reprompt_core import Reprompt
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge
from reprompt_core.planning import Planner, seed_of
from reprompt_core.senses import Reader
from reprompt_core.types import MusicPlan, Reason, Senses, Stated
from reprompt_core.words import Words

Say = Callable[..., Reprompt]
Plan = Callable[..., tuple[MusicPlan, tuple[Reason, ...]]]

MODES = {"major", "minor", "dorian", "mixolydian", "phrygian", "lydian", "pentatonic"}
KEY = re.compile(r"[A-G][#b]?")
SCENES = [
    "I'm at the food court about to eat a bowl of spicy ramen. It's noisy and the neon signs are bright.",
    "a calm evening by the sea",
    "something sweet",
    "a bitter espresso at dawn",
    "furious, eating a sweet cake",
    "una noche de verano en la playa con helado de limón",
    "lo-fi hip hop for studying, rainy night",
    "I miss my brother tonight.",
    "hello",
    "jazz",
]


@pytest.fixture(scope="module")
def plan(knowledge: Knowledge, encoder: Encoder) -> Plan:
    """A plan for what words sense and what is stated, without captions."""
    reader, planner = Reader(knowledge, encoder), Planner(knowledge)
    sensed: dict[str, Senses] = {}

    def make(
        text: str, stated: Stated | None = None, *, extra: tuple[Reason, ...] = ()
    ) -> tuple[MusicPlan, tuple[Reason, ...]]:
        words = Words.check(text)
        senses = sensed.setdefault(text, reader.read(words).senses)
        votes = [*planner.votes(senses), *extra]
        return planner.plan(senses=senses, stated=stated or Stated(), captions=(), votes=votes, seed=seed_of(words))

    return make


# -- the person's words win --------------------------------------------------------------------------------------

SWEET, FURIOUS = (
    "something sweet",
    "I feel furious",
)  # high, slow, soft, legato, consonant; fast, loud, minor, dissonant


@pytest.mark.parametrize(
    ("words", "said", "expected"),
    [
        (SWEET, {"tempo_bpm": 173}, {"tempo_bpm": 173}),
        (SWEET, {"key": "F#", "mode": "minor"}, {"key": "F#", "mode": "minor"}),
        (SWEET, {"mode": "phrygian"}, {"mode": "phrygian"}),
        (SWEET, {"register": "low"}, {"register": "low"}),
        (SWEET, {"articulation": "staccato"}, {"articulation": "staccato"}),
        (SWEET, {"dynamics": "loud"}, {"dynamics": "loud"}),
        (SWEET, {"harmony": "dissonant"}, {"harmony": "dissonant"}),
        (SWEET, {"genres": ("heavy metal",)}, {"genre": "heavy metal"}),
        (SWEET, {"instruments": (("trumpet", "trumpet"),)}, {"lead": "trumpet"}),
        (FURIOUS, {"tempo_bpm": 48}, {"tempo_bpm": 48}),
        (FURIOUS, {"mode": "major"}, {"mode": "major"}),
        (FURIOUS, {"dynamics": "soft"}, {"dynamics": "soft"}),
        (FURIOUS, {"harmony": "consonant"}, {"harmony": "consonant"}),
        (FURIOUS, {"genres": ("ambient",)}, {"genre": "ambient"}),
        (FURIOUS, {"instruments": (("music box", "music box"),)}, {"lead": "music box"}),
    ],
)
def test_what_is_stated_beats_every_vote(
    plan: Plan, words: str, said: dict[str, object], expected: dict[str, object]
) -> None:
    before, _ = plan(words)
    assert any(getattr(before, k) != v for k, v in expected.items())  # unasked it is otherwise
    against = tuple(
        Reason(p, v, 9.0, "a heavy vote against", status="confirmed")
        for p, v in {"tempo": "moderate", "mode": "dorian", "register": "mid", "articulation": "mixed"}.items()
    ) + tuple(
        Reason(p, v, 9.0, "a heavy vote against", status="confirmed")
        for p, v in {"dynamics": "moderate", "harmony": "mixed", "genre": "bossa nova", "lead": "sitar"}.items()
    )
    made, reasons = plan(words, Stated(**said), extra=against)  # type: ignore[arg-type]
    assert {k: getattr(made, k) for k in expected} == expected
    assert [r for r in reasons if r.status == "stated"]


@pytest.mark.parametrize(("pace", "words"), [("slow", FURIOUS), ("fast", SWEET)])
def test_a_stated_pace_beats_the_votes(plan: Plan, pace: str, words: str) -> None:
    for genre in ("", "techno", "ambient", "jazz"):
        bpm = plan(words, Stated(pace=pace, genres=(genre,) if genre else ()))[0].tempo_bpm
        assert bpm <= 95 if pace == "slow" else bpm >= 118


def test_all_stated_instruments_and_timbres_are_played(plan: Plan) -> None:
    names = ("trumpet", "tuba", "banjo", "sitar", "theremin")
    made, _ = plan(SWEET, Stated(instruments=tuple((n, n) for n in names), timbres=("gritty", "hazy", "deep")))
    assert {made.lead, *made.accompaniment} >= set(names)
    assert made.timbres == ("gritty", "hazy", "deep")


@pytest.mark.parametrize("words", ["something sweet", "furious, eating a sweet cake", "a calm evening by the sea"])
def test_a_genre_stated_without_tempo_keeps_its_range(plan: Plan, knowledge: Knowledge, words: str) -> None:
    outside = []
    for name, genre in knowledge.genres.items():
        assert genre.style is not None
        bpm = plan(words, Stated(genres=(name,)))[0].tempo_bpm
        if not genre.style.tempo[0] <= bpm <= genre.style.tempo[1]:
            outside.append((name, bpm, genre.style.tempo))
    assert not outside


def test_the_pace_of_the_senses_moves_a_stated_genre_within_its_range(plan: Plan) -> None:
    jazz = Stated(genres=("jazz",))
    assert plan("a calm sleepy evening", jazz)[0].tempo_bpm < 120 < plan(FURIOUS, jazz)[0].tempo_bpm


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("techno in C Major with a sad cello", {"genre": "techno", "key": "C", "mode": "major", "lead": "cello"}),
        ("slow piano in la menor", {"key": "A", "mode": "minor", "lead": "piano"}),
        ("loud rock for a sweet cake", {"genre": "rock", "dynamics": "loud"}),
        ("beatless ambient", {"genre": "ambient"}),
        ("calm cake, dissonant staccato violin", {"harmony": "dissonant", "articulation": "staccato"}),
    ],
)
def test_words_are_planned_as_said(say: Say, words: str, expected: dict[str, str]) -> None:
    made = say(words).plan
    assert {k: getattr(made, k) for k in expected} == expected


# -- what is left out --------------------------------------------------------------------------------------------

LEFT_OUT = {
    "drums": r"drums?|kick|snares?|hi-?hats?|cymbals?|toms?|backbeats?|breakbeats?|808s?|brush(es|ed)|beats?",
    "percussion": r"percussi\w+|drums?|drumming|kick|snares?|hi-?hats?|cymbals?|congas?|bongos?|shakers?|hand-?claps?"
    r"|tambourine|maracas|cowbell|timpani|claves?|cajón|tabla|djembe|castanets?",
    "guitar": r"\S*guitars?",
    "guitars": r"\S*guitars?",
    "piano": r"pianos?",
    "brass": r"brass\w*|trumpets?|trombones?|tubas?|horns?|flugelhorns?|cornets?",
    "synths": r"synth\w*|supersaw\w*",
    "strings": r"strings?|violins?|violas?|cellos?|fiddles?",
    "woodwinds": r"woodwinds?|flutes?|clarinets?|oboes?|bassoons?|saxophones?|recorders?",
    "saxophone": r"saxophones?",
    "keyboards": r"keyboards?|pianos?|organs?|rhodes|synth\w*|harpsichord|clavinet|celesta",
    "violin": r"violins?",
}
FITTING = {
    "drums": ("funk", "techno", "samba", "hard rock", "jazz"),
    "percussion": ("salsa", "phonk", "bolero", "samba", "contemporary classical", "Indian classical", "son cubano"),
    "guitar": ("flamenco", "grunge", "bossa nova", "country"),
    "guitars": ("punk rock", "fado", "surf rock"),
    "piano": ("ragtime", "jazz ballad", "salsa", "neoclassical"),
    "brass": ("ska", "mariachi", "big band", "funk"),
    "synths": ("synthwave", "techno", "trance", "electropop"),
    "strings": ("tango", "bluegrass", "baroque", "huapango", "film score"),
    "woodwinds": ("Dixieland", "klezmer", "classical"),
    "saxophone": ("jazz", "smooth jazz", "ska"),
    "keyboards": ("reggae", "house", "progressive rock", "gospel"),
    "violin": ("tango", "bluegrass", "Celtic folk"),
}


def played(answer: Reprompt) -> list[str]:
    return [answer.plan.lead, *answer.plan.accompaniment]


@pytest.mark.parametrize("form", ["{genre} without {left_out}", "{genre}, sunny evening, leave out the {left_out}"])
@pytest.mark.parametrize(
    ("left_out", "genre"), [(x, g) for x, genres in FITTING.items() for g in genres], ids=lambda v: v
)
def test_what_is_left_out_is_neither_planned_nor_written(say: Say, form: str, left_out: str, genre: str) -> None:
    pattern = re.compile(rf"\b({LEFT_OUT[left_out]})\b", re.IGNORECASE)
    answer = say(form.format(genre=genre, left_out=left_out))
    written = answer.prompt.replace(genre, "").replace(genre.capitalize(), "")
    assert not [name for name in played(answer) if pattern.search(name)]
    assert not pattern.search(written), answer.prompt
    assert answer.plan.exclude == (left_out,)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("brass", "a brass band in the town square, but no brass"),
        ("percussion", "carnival samba parade, no percussion"),
        ("woodwind", "a forest at dawn, no woodwinds"),
        ("bowed strings", "a ballroom waltz, no strings"),
        ("keyboards", "a church at night, no keyboards"),
        ("voice", "a cathedral at night, gospel, no vocals"),
    ],
)
def test_no_instrument_of_a_left_out_family_plays(say: Say, knowledge: Knowledge, family: str, words: str) -> None:
    sounds = [knowledge.instruments[n].sound for n in played(say(words)) if n in knowledge.instruments]
    assert sounds
    assert family not in {s.family for s in sounds if s}


@pytest.mark.parametrize(
    ("words", "genre"),
    [
        ("no techno, a warehouse party at night", "techno"),
        ("a smoky jazz club, but no jazz", "jazz"),
        ("anything but house, at the beach club", "house"),
        ("sin tango, en una milonga de Buenos Aires", "tango"),
    ],
)
def test_a_left_out_genre_is_not_chosen(say: Say, words: str, genre: str) -> None:
    answer = say(words)
    assert genre not in answer.plan.genre.split()
    assert not re.search(rf"\b{genre}\b", answer.prompt, re.IGNORECASE)


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("jazz ballad, no drums, guitar or bass", {"drum", "guitar", "bass"}),
        ("samba sin guitarra, batería ni flauta", {"guitar", "drum", "flute"}),
        ("rock music with neither piano nor organ", {"piano", "organ"}),
        ("a tango, get rid of the piano", {"piano"}),
    ],
)
def test_lists_are_left_out_whole(say: Say, words: str, gone: set[str]) -> None:
    answer = say(words)
    assert not {w for w in gone if re.search(rf"\b{w}s?\b", answer.prompt, re.IGNORECASE)}


def test_without_a_lead_of_its_own_a_genre_still_has_one(plan: Plan, knowledge: Knowledge) -> None:
    for name in ("techno", "bluegrass", "jazz"):
        style = knowledge.genres[name].style
        assert style is not None
        made, _ = plan(SWEET, Stated(genres=(name,), exclude=style.lead, exclude_texts=style.lead))
        assert made.lead in knowledge.instruments
        assert made.lead not in style.lead


# -- determinism and validity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", SCENES)
def test_the_same_words_give_the_same_plan(plan: Plan, words: str) -> None:
    assert plan(words) == plan(words)


def test_spaces_case_and_marks_do_not_change_the_seed() -> None:
    assert seed_of(Words.check("A bowl of RAMEN!")) == seed_of(Words.check("  a bowl  of ramen"))
    assert seed_of(Words.check("a bowl of ramen")) != seed_of(Words.check("a bowl of udon"))


def test_like_words_get_music_of_their_own(plan: Plan) -> None:
    made = [plan(f"a calm evening by the sea number {n}")[0] for n in range(12)]
    assert len({replace(m, exclude=()) for m in made}) >= 6


@pytest.mark.parametrize("words", SCENES)
def test_a_plan_is_valid(plan: Plan, knowledge: Knowledge, words: str) -> None:
    made, _ = plan(words)
    assert made.genre in knowledge.genres
    assert made.mode in MODES
    assert made.key is not None
    assert KEY.fullmatch(made.key)
    assert 30 <= made.tempo_bpm <= 260
    assert made.register in {"low", "mid", "high"}
    assert made.articulation in {"legato", "mixed", "staccato"}
    assert made.dynamics in {"soft", "moderate", "loud"}
    assert made.harmony in {"consonant", "mixed", "dissonant"}
    instruments = (made.lead, *made.accompaniment)
    assert set(instruments) <= set(knowledge.instruments)
    assert len(set(instruments)) == len(instruments) >= 2
    assert len(made.timbres) == 2
    assert made.rhythm
    assert made.moods
    assert made.exclude == ()


# -- reasons -----------------------------------------------------------------------------------------------------


def chosen(made: MusicPlan) -> dict[str, set[str]]:
    """The parameters of a plan with the values of a reason that speaks for them."""
    pace = {"slow"} if made.tempo_bpm <= 92 else {"fast"} if made.tempo_bpm >= 118 else {"moderate"}
    return {
        "genre": {made.genre},
        "tempo": {f"{made.tempo_bpm} BPM", *pace},
        "key": {made.key or ""},
        "mode": {made.mode, "minor" if made.mode in {"minor", "dorian", "phrygian"} else "major"},
        "register": {made.register},
        "articulation": {made.articulation},
        "dynamics": {made.dynamics},
        "harmony": {made.harmony},
        "rhythm": {made.rhythm, "regular"},
        "lead": {made.lead},
        "accompaniment": set(made.accompaniment),
        "timbre": set(made.timbres),
    }


@pytest.mark.parametrize("words", SCENES)
def test_every_choice_has_a_reason(plan: Plan, words: str) -> None:
    made, reasons = plan(words)
    given: dict[str, set[str]] = {}
    for r in reasons:
        if "outvoted" not in r.because:
            given.setdefault("lead" if r.parameter == "instrument" else r.parameter, set()).add(r.value)
    without = {p for p, values in chosen(made).items() if not values & given.get(p, set())}
    without |= {i for i in made.accompaniment if i not in given.get("accompaniment", set())}
    without |= {t for t in made.timbres if t not in given.get("timbre", set())}
    assert not without


@pytest.mark.parametrize("words", [*SCENES, "something salty", "sad, with spicy ramen"])
def test_outvoted_evidence_is_marked_and_nothing_else(plan: Plan, words: str) -> None:
    made, reasons = plan(words)
    values = chosen(made)
    for r in reasons:
        if r.parameter in values and r.parameter != "rhythm":
            assert ("outvoted" in r.because) == (r.value not in values[r.parameter]), r


@pytest.mark.parametrize(
    ("words", "stated", "parameter", "value"),
    [
        ("furious, eating a sweet cake", Stated(), "dynamics", "soft"),
        ("furious, eating a sweet cake", Stated(), "harmony", "consonant"),
        (SWEET, Stated(register="low"), "register", "high"),
        (SWEET, Stated(tempo_bpm=170), "tempo", "slow"),
        (SWEET, Stated(mode="minor", harmony="dissonant"), "harmony", "consonant"),
        (SWEET, Stated(instruments=(("trumpet", "trumpet"),)), "lead", "piano"),
        (SWEET, Stated(instruments=(("trumpet", "trumpet"),)), "avoid", "brass"),
        ("something salty", Stated(), "articulation", "mixed"),
    ],
)
def test_evidence_that_lost_is_still_shown(plan: Plan, words: str, stated: Stated, parameter: str, value: str) -> None:
    lost = [r for r in plan(words, stated)[1] if (r.parameter, r.value) == (parameter, value)]
    assert lost
    assert all("outvoted" in r.because and r.source and r.status != "default" for r in lost)


@pytest.mark.parametrize("words", SCENES)
def test_reasons_are_honest(plan: Plan, knowledge: Knowledge, words: str) -> None:
    """Evidence names a source that the correspondences hold; strongest first within each parameter."""
    _, reasons = plan(words)
    known = {(c.parameter, c.value, c.source, c.doi, c.status) for c in knowledge.correspondences}
    for r in reasons:
        assert r.weight > 0
        assert r.because
        if r.status in {"confirmed", "recalled"}:
            assert (r.parameter, r.value, r.source, r.doi, r.status) in known
        else:
            assert not r.doi
    parameters = [r.parameter for r in reasons]
    assert parameters == sorted(parameters, key=parameters.index)  # each parameter in one run
    for parameter in set(parameters):
        weights = [r.weight for r in reasons if r.parameter == parameter]
        assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize(
    "words",
    ["a calm evening by the sea", "jazz", "under the lemon tree", "hello", "I feel furious", "techno, no drums"],
)
def test_no_food_no_reasons_from_tastes(plan: Plan, words: str) -> None:
    _, reasons = plan(words)
    assert not [r for r in reasons if re.match(r"(sweet|salty|sour|bitter|umami|spicy) \d", r.because)]


def test_food_gives_reasons_from_tastes(plan: Plan) -> None:
    _, reasons = plan("a bowl of ramen")
    tastes = {r.because.split()[0] for r in reasons if re.match(r"\w+ 0\.\d+ \(.*ramen\)", r.because)}
    assert tastes == {"salty", "umami"}


# -- feeling over food -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "furious, eating a sweet cake",
        "I feel furious eating honey",
        "furiosa, comiendo un helado",
        "a furious song while I eat chocolate ice cream",
    ],
)
def test_a_stated_fury_outranks_sweetness(say: Say, words: str) -> None:
    answer = say(words)
    assert answer.plan.moods[0] == "furious"
    assert answer.plan.tempo_bpm >= 118
    assert answer.plan.dynamics == "loud"
    assert answer.plan.harmony == "dissonant"
    assert answer.plan.mode in {"minor", "dorian", "phrygian"}
    assert answer.tastes["sweet"] > 0.5


def test_a_stated_sadness_outranks_heat_and_calm_outranks_sourness(say: Say) -> None:
    sad, calm = say("sad, with very spicy tacos").plan, say("calm, with a sour lemon").plan
    assert sad.tempo_bpm <= 92
    assert sad.mode in {"minor", "dorian", "phrygian"}
    assert calm.tempo_bpm <= 92
    assert calm.harmony == "consonant"
    assert calm.dynamics == "soft"


def test_habits_are_not_claimed_where_they_are_not(plan: Plan, knowledge: Knowledge) -> None:
    """A stated mood is the person's; a rhythm or an instrument that stands in for one left out is no genre's habit."""
    _, reasons = plan("heartbroken in the rain")
    assert [(r.value, r.status) for r in reasons if r.parameter == "moods"] == [("heartbroken", "stated")]
    for words in ("dark techno without drums or bass", "rock, no guitar", "funk, no percussion"):
        music, reasons = plan(words)
        style = knowledge.genres[music.genre].style
        assert style is not None
        for r in reasons:
            if r.because.startswith("usual for") and r.parameter in {"rhythm", "lead", "accompaniment"}:
                assert r.value in {*style.lead, *style.accompaniment} or style.rhythm in r.value
