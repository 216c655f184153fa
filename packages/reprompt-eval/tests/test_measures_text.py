"""The measures of prompts: known answers, counted by hand."""

import math
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge
from reprompt_eval.measures import DEFINITIONS, TextMeasures, distinct, mattr, measure_texts

NUMBERED = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]  # a hundred words, no two alike


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, threads=1)


@pytest.fixture(scope="module")
def knowledge(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    return Knowledge.load(encoder, cache_dir=tmp_path_factory.mktemp("cache"))


def _measured(encoder: Encoder, knowledge: Knowledge, words: str, prompt: str) -> TextMeasures:
    (found,) = measure_texts([words], [prompt], encoder=encoder, knowledge=knowledge)
    return found


# -- meaning kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["a bowl of spicy ramen under neon signs", "tarta de limón en una terraza junto al mar", "ramen"]
)
def test_the_same_text_keeps_all_of_its_meaning(encoder: Encoder, knowledge: Knowledge, text: str) -> None:
    assert _measured(encoder, knowledge, text, text).meaning_kept == pytest.approx(1, abs=1e-5)


def test_meaning_kept_is_the_cosine_of_the_two_texts(encoder: Encoder, knowledge: Knowledge) -> None:
    words, prompt = "slow rain on a tin roof", "soft piano like slow rain"
    (a, b), _ = encoder.encode([words, prompt])
    expected = float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
    assert _measured(encoder, knowledge, words, prompt).meaning_kept == pytest.approx(expected, abs=1e-4)
    assert _measured(encoder, knowledge, prompt, words).meaning_kept == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "nearer", "farther"),
    [
        ("a sad slow song about rain", "a mournful ballad, rain falling, slow", "a cheerful polka for a wedding"),
        ("lemon cake by the sea", "lemon cake on a beach", "distorted guitars and blast beats"),
        # the encoder learned little Spanish: only what is nearly the same is told to be near
        ("música triste y lenta con piano", "música muy triste y lenta, piano", "a cheerful polka for a wedding"),
    ],
)
def test_a_paraphrase_keeps_more_than_another_text(
    encoder: Encoder, knowledge: Knowledge, words: str, nearer: str, farther: str
) -> None:
    kept, lost = measure_texts([words, words], [nearer, farther], encoder=encoder, knowledge=knowledge)
    assert kept.meaning_kept > lost.meaning_kept + 0.2
    assert -1 <= lost.meaning_kept < 0.5


def test_each_prompt_is_held_against_its_own_words(encoder: Encoder, knowledge: Knowledge) -> None:
    words = ["a storm at night", "children in a park", "a cup of tea"]
    together = measure_texts(words, words[::-1], encoder=encoder, knowledge=knowledge)
    alone = [_measured(encoder, knowledge, a, b) for a, b in zip(words, words[::-1], strict=True)]
    assert [m.meaning_kept for m in together] == pytest.approx([m.meaning_kept for m in alone], abs=1e-4)
    assert together[1].meaning_kept == pytest.approx(1, abs=1e-5)
    assert max(together[0].meaning_kept, together[2].meaning_kept) < 0.7


def test_as_many_prompts_as_words_are_needed(encoder: Encoder, knowledge: Knowledge) -> None:
    with pytest.raises(ValueError):
        measure_texts(["a", "b"], ["a"], encoder=encoder, knowledge=knowledge)
    assert measure_texts([], [], encoder=encoder, knowledge=knowledge) == []


# -- music's share -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "words", "share"),
    [
        ("piano", 1, 1),
        ("teapot", 1, 0),
        ("piano and teapot", 3, 1 / 2),  # "and" is a function word
        ("a warm piano with a teapot, a ladder", 8, 2 / 4),  # warm piano | teapot ladder
        ("The PIANO; the Drums!", 4, 1),
        ("drums drums teapot", 3, 2 / 3),  # each time it is said
        ("it's the piano", 3, 1),  # "it's" is "it is"
        ("it’s the piano", 3, 1),
        ("teapot 4/4 120", 1, 0),  # numbers are no words
        ("piano después", 2, 1),  # the list of function words has no accents
        ("the of and", 3, 0),
    ],
)
def test_musics_share_of_a_prompt(
    encoder: Encoder, knowledge: Knowledge, prompt: str, words: int, share: float
) -> None:
    found = _measured(encoder, knowledge, "tea", prompt)
    assert found.words == words
    assert found.music_share == pytest.approx(share)


def test_letters_in_two_parts_are_the_same_words(encoder: Encoder, knowledge: Knowledge) -> None:
    """Some keyboards and files write é as e and an accent."""
    text = "una canción después del café, con piano"
    apart = unicodedata.normalize("NFD", text)
    assert apart != text
    one, two = measure_texts([text, text], [text, apart], encoder=encoder, knowledge=knowledge)
    assert (one.words, one.music_share) == (two.words, two.music_share)
    assert one.words == 7
    assert mattr([apart]) == mattr([text]) == 1


@pytest.mark.parametrize("prompt", ["", "   ", "120 4/4 ...", "🎹🎶"])
def test_a_prompt_without_words_has_measures_that_are_numbers(
    encoder: Encoder, knowledge: Knowledge, prompt: str
) -> None:
    found = _measured(encoder, knowledge, "slow rain", prompt)
    assert (found.words, found.music_share) == (0, 0.0)
    assert -1 <= found.meaning_kept < 0.9


# -- variety -----------------------------------------------------------------------------------------------------


def test_few_words_have_the_plain_ratio_of_types_to_tokens() -> None:
    assert mattr(["a warm piano", "A warm harp"]) == pytest.approx(4 / 6)
    assert mattr(["piano"]) == 1
    assert mattr([" ".join(NUMBERED[:50])]) == 1
    assert mattr(["piano " * 50]) == pytest.approx(1 / 50)


def test_many_words_have_the_mean_of_windows_of_fifty() -> None:
    assert mattr([" ".join(NUMBERED)]) == 1
    assert mattr([" ".join(NUMBERED[:50] * 3)]) == 1  # the same word comes again only after 50
    # 51 words, two windows: the first has 50 kinds, the second, which ends with its own first word again, 49
    assert mattr([" ".join([*NUMBERED[:50], NUMBERED[1]])]) == pytest.approx((50 / 50 + 49 / 50) / 2)
    assert mattr(["piano " * 500]) == pytest.approx(1 / 50)


def test_texts_count_as_one_in_a_row() -> None:
    assert mattr(NUMBERED) == mattr([" ".join(NUMBERED)]) == 1
    assert mattr(["warm piano"] * 2) == pytest.approx(1 / 2)


def test_distinct_pairs_of_words() -> None:
    assert distinct(["a b c"]) == 1  # ab bc
    assert distinct(["a b a b"]) == pytest.approx(2 / 3)  # ab ba ab
    assert distinct(["a b", "A B", "b a"]) == pytest.approx(2 / 3)
    assert distinct(["a", "b", "a"]) != distinct(["a b a"])  # none crosses from one text to the next
    assert distinct(["a b a"], 1) == pytest.approx(2 / 3)
    assert distinct(["a b c a b c"], 3) == pytest.approx(3 / 4)  # abc bca cab abc


def test_pairs_in_spanish_keep_their_accents() -> None:
    assert distinct(["sí señor si señor"]) == 1  # "sí" is another word than "si"


@pytest.mark.parametrize("texts", [[], [""], ["", " ... 12 "]])
def test_no_words_have_no_variety(texts: list[str]) -> None:
    assert math.isnan(mattr(texts))
    assert math.isnan(distinct(texts))


def test_one_word_has_no_pairs() -> None:
    assert math.isnan(distinct(["piano"]))
    assert mattr(["piano"]) == 1


def test_every_measure_has_a_definition_and_none_is_called_quality() -> None:
    measured = {"meaning_kept", "music_share", "mattr", "distinct_2", "tempo", "register", "roughness", "detachment"}
    assert set(DEFINITIONS) == {*measured, "loudness_range"}
    assert all(text.endswith(".") and "quality" not in text.lower() for text in DEFINITIONS.values())
