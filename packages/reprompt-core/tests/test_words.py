"""Checking the words, cutting them into tokens and clauses, guessing their language, making them plain."""

import pytest
from reprompt_core import PromptError
from reprompt_core.words import MAX_CHARACTERS, Words, fold, plain


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param(" \t\r\n\u3000\u00a0", "empty", id="blank"),
        pytest.param("... !?! -- ¿¡", "empty", id="punctuation"),
        pytest.param("🎸🎹", "empty", id="emoji"),
        pytest.param("\u200b\u200d", "empty", id="invisible"),
        pytest.param("a" * (MAX_CHARACTERS + 1), "2,001 characters", id="long"),
        pytest.param("piano\0drums", "NUL", id="nul"),
        pytest.param("piano \ud83c", "surrogate", id="high-surrogate"),
        pytest.param("\udfff piano", "surrogate", id="low-surrogate"),
        pytest.param(b"piano", "bytes", id="bytes"),
        pytest.param(None, "NoneType", id="none"),
        pytest.param(["piano"], "list", id="list"),
    ],
)
def test_words_that_cannot_be_used_are_refused_with_the_reason(words: object, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Words.check(words)


def test_the_longest_words_pass_and_the_space_around_them_does_not_count() -> None:
    assert Words.check(f"  {'a' * MAX_CHARACTERS}\n").text == "a" * MAX_CHARACTERS


@pytest.mark.parametrize("words", ["7", "夜", "🎸 jazz", "  é  "])
def test_one_letter_or_digit_is_enough(words: str) -> None:
    assert Words.check(words).text == words.strip()


def test_tokens_are_folded_and_keep_their_place() -> None:
    words = Words.check("Café del MAR, ﬁne brass")
    assert [t.text for t in words.tokens] == ["cafe", "del", "mar", "fine", "brass"]
    assert [words.text[t.start : t.end] for t in words.tokens] == ["Café", "del", "MAR", "ﬁne", "brass"]


def test_a_sharp_or_flat_is_a_token_of_its_own() -> None:
    assert [t.text for t in Words.check("C♯ or C# or B♭").tokens] == [
        "c",
        "#",
        "or",
        "c",
        "#",
        "or",
        "b",
        "b",
    ]


@pytest.mark.parametrize(
    ("words", "clauses"),
    [
        ("sad piano, no drums. slow", {"sad": 0, "piano": 0, "no": 1, "drums": 1, "slow": 2}),
        ("wait... what", {"wait": 0, "what": 1}),
        ("slow - then fast", {"slow": 0, "then": 1, "fast": 1}),
        ("lo-fi beat", {"lo": 0, "fi": 0, "beat": 0}),
        ("rain\nsnow", {"rain": 0, "snow": 1}),
        ("calm—loud", {"calm": 0, "loud": 1}),
        ("«noche» clara", {"noche": 1, "clara": 2}),
    ],
)
def test_punctuation_begins_a_clause_and_a_hyphen_within_a_word_does_not(words: str, clauses: dict[str, int]) -> None:
    assert {t.text: t.clause for t in Words.check(words).tokens} == clauses


def test_addresses_and_tags_give_no_tokens() -> None:
    words = Words.check("see https://sad.example/piano?x=1 or www.drums.example <img alt=guitar> here")
    assert [t.text for t in words.tokens] == ["see", "or", "here"]


def test_fold_compares_without_case_accents_and_compatibility_forms() -> None:
    assert fold("ÁRBOL") == fold("arbol") == "arbol"
    assert fold("ＪＡＺＺ") == "jazz"


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("an old man walking home in the rain", "en"),
        ("sad piano, no drums", "en"),
        ("una noche de verano en la playa", "es"),
        ("¿qué suena en el mar?", "es"),
        ("une soirée d'hiver dans les rues de Paris", "fr"),
        ("ein Spaziergang im Wald mit der Familie", "de"),
        ("uma noite de verão com meu amigo e não muito", "pt"),
        ("夜のラーメン屋", "ja"),
        ("ramen neon", "und"),
    ],
)
def test_the_language_is_guessed(words: str, language: str) -> None:
    assert Words.check(words).language == language


@pytest.mark.parametrize("words", ["C# minor, slow", "E minor, no drums", "mañana piñata"])
def test_note_names_and_spanish_letters_mislead_nobody(words: str) -> None:
    assert Words.check(words).language in ({"es"} if "ñ" in words else {"en", "und"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<b>soft</b> piano <script>", "soft piano", id="tags"),
        pytest.param("like https://a.example/b?c=d and WWW.x.example now", "like and now", id="addresses"),
        pytest.param("a\x07b\tc\r\nd\u2028e\u2029f\x85g", "a b c d e f g", id="control"),
        pytest.param("rain 🎸 on ☂ tin 👩‍👩‍👧 🇪🇸", "rain on tin", id="emoji"),
        pytest.param("left\u202eright\u200b\ufeff", "leftright", id="direction"),
        pytest.param("red\ue000 \ud800blue", "red blue", id="private-and-surrogates"),
        pytest.param("  día   añil,  naïve: 夜  ", "día añil, naïve: 夜", id="letters-stay"),
        pytest.param("<b>🎸</b>\n", "", id="nothing-left"),
    ],
)
def test_plain_is_one_line_of_text(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    "text",
    ["ht\u200btps://evil.example/x now", "w\u00adww.evil.example now", "https:\u2060//evil.example now"],
)
def test_invisible_characters_do_not_carry_an_address_through(text: str) -> None:
    assert plain(text) == "now"


@pytest.mark.parametrize("text", ["love ❤️ it", "love ☂︎ it", "love #️⃣🏽 it".replace("#", "")])
def test_the_selectors_that_follow_an_emoji_go_with_it(text: str) -> None:
    assert plain(text) == "love it"


@pytest.mark.parametrize("text", ["a 🎸 <b>c</b> https://d.example ❤️", "1️⃣ two", "ht\u200btp://e.example y"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(plain(text)) == plain(text)
