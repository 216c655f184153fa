"""Captions that speak of the recording or of voices are told from those that only sound so."""

import ast
import csv
from pathlib import Path

import pytest
from reprompt_core.corpora.flags import Flag, flags_of

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data" / "musiccaps.csv"

with (DATA / "flags.csv").open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))


def label(row: dict[str, str]) -> Flag:
    """The flags that a person gave the sentence."""
    return Flag(int(row["quality"]) * Flag.QUALITY | int(row["vocals"]) * Flag.VOCALS)


@pytest.fixture(scope="module")
def music_caps() -> list[tuple[str, list[str]]]:
    if not SHARED.exists():
        pytest.skip("MusicCaps is not here: shared/data/musiccaps.csv is not part of the repository")
    with SHARED.open(encoding="utf-8", newline="") as file:
        return [(row["caption"], ast.literal_eval(row["aspect_list"])) for row in csv.DictReader(file)]


# -- labelled sentences ------------------------------------------------------------------------------------------


def test_the_sentences_are_many_and_different() -> None:
    assert len({row["text"] for row in ROWS}) == len(ROWS) >= 260
    assert sum(row["set"] == "held" for row in ROWS) == 100


@pytest.mark.parametrize("row", [r for r in ROWS if r["set"] == "dev"], ids=lambda r: r["text"][:50])
def test_every_dev_sentence_is_labelled_right(row: dict[str, str]) -> None:
    assert flags_of(row["text"]) == label(row)


@pytest.mark.parametrize("flag", list(Flag))
def test_held_out_sentences_are_labelled_well(flag: Flag) -> None:
    held = [row for row in ROWS if row["set"] == "held"]
    wanted = {row["text"] for row in held if flag in label(row)}
    found = {row["text"] for row in held if flag in flags_of(row["text"])}
    precision, recall = len(wanted & found) / len(found), len(wanted & found) / len(wanted)
    assert min(precision, recall) >= 0.95, f"{flag.name}: {precision=:.3f}, {recall=:.3f}; {wanted ^ found}"


# -- tags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "flag"),
    [
        (["low quality", "banjo"], Flag.QUALITY),
        (["banjo", "noisy"], Flag.QUALITY),
        (["mono"], Flag.QUALITY),
        (["noisy snare", "muffled kick"], Flag(0)),
        (["mono synth"], Flag(0)),
        (["male vocal", "noisy"], Flag.QUALITY | Flag.VOCALS),
        (["no voices", "instrumental"], Flag(0)),
        (["no drums", "female voice"], Flag.VOCALS),
    ],
)
def test_each_tag_is_read_by_itself(tags: list[str], flag: Flag) -> None:
    assert flags_of("A banjo plays.", tags) == flag


def test_a_tag_does_not_lend_its_words_to_the_next() -> None:
    assert flags_of("A violin", ["singing"]) == Flag.VOCALS
    assert flags_of("no", ["vocals"]) == Flag.VOCALS


@pytest.mark.parametrize("text", ["", "...", "日本の音楽", "NO VOCALS", "Sin VOZ", "🎹"])
def test_nothing_said_is_nothing_flagged(text: str) -> None:
    assert flags_of(text) == Flag(0)


@pytest.mark.parametrize("text", ["LOW QUALITY", "low‑quality", "Grabación de MALA CALIDAD"])
def test_capitals_and_compatibility_forms_do_not_matter(text: str) -> None:
    assert flags_of(text) == Flag.QUALITY


# -- MusicCaps ---------------------------------------------------------------------------------------------------


def test_the_share_of_flagged_captions_is_what_a_reader_finds(music_caps: list[tuple[str, list[str]]]) -> None:
    flags = [flags_of(caption, tags) for caption, tags in music_caps]
    # read by hand, 100 random rows (captions and aspects): 36 speak of the recording, 43 of voices, 69 of either;
    # each band is the Wilson interval at 99 % of what was read
    for flag, low, high in ((Flag.QUALITY, 0.25, 0.49), (Flag.VOCALS, 0.31, 0.56), (None, 0.56, 0.79)):
        share = sum(bool(f) if flag is None else flag in f for f in flags) / len(flags)
        assert low <= share <= high, f"{flag.name if flag else 'either'}: {share:.3f}"


@pytest.mark.parametrize("aspect", ["low quality", "noisy", "amateur recording"])
def test_aspects_of_the_recording_are_flagged(music_caps: list[tuple[str, list[str]]], aspect: str) -> None:
    rows = [tags for _, tags in music_caps if aspect in tags]
    assert len(rows) > 100
    assert [tags for tags in rows if Flag.QUALITY not in flags_of("", tags)] == []
