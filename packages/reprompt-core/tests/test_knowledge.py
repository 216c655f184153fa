"""The shipped knowledge: complete, within its schema, faithful to the evidence, and with vectors that belong to it."""

import csv
import random
import re
from collections import Counter
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from reprompt_core.encoder import Encoder, Vectors
from reprompt_core.errors import KnowledgeError
from reprompt_core.knowledge import KINDS, Knowledge, correspondences, load_concepts, load_correspondences, loader
from reprompt_core.knowledge.concepts import COLUMNS, TEXTURES, read_concepts
from reprompt_core.types import TASTES

EVIDENCE = Path(__file__).parents[4] / "shared" / "data" / "crossmodal_evidence.csv"
CONCEPTS = load_concepts()
EDIBLE = [c for c in CONCEPTS if c.kind in {"food", "drink"}]
GENRES = {c.name: c for c in CONCEPTS if c.kind == "genre"}
INSTRUMENTS = {c.name: c for c in CONCEPTS if c.kind == "instrument"}


@cache
def captions() -> list[dict[str, str]]:
    with (resources.files("reprompt_core.knowledge") / "captions.csv").open(encoding="utf-8") as f:
        return list(csv.DictReader(f))


# -- concepts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "least"),
    [("foods", 650), ("scenes", 150), ("moods", 120), ("sensations", 60), ("instruments", 120), ("genres", 150)],
)
def test_there_are_enough_concepts(table: str, least: int) -> None:
    assert sum(c.kind in KINDS[table] for c in CONCEPTS) >= least


def test_there_are_1200_concepts_of_every_kind() -> None:
    assert len(CONCEPTS) >= 1200
    assert {c.kind for c in CONCEPTS} == {k for kinds in KINDS.values() for k in kinds}


def test_every_concept_is_named_in_english_and_spanish_and_described() -> None:
    assert not [c.name for c in CONCEPTS if not (c.name or c.aliases_en)]
    assert not [c.name for c in CONCEPTS if not c.aliases_es]
    assert not [c.name for c in CONCEPTS if len(c.about.split()) < 3]


def test_names_are_unique_per_kind() -> None:
    counts = Counter((c.kind, c.name.casefold()) for c in CONCEPTS)
    assert not [key for key, n in counts.items() if n > 1]


def test_everything_edible_has_a_taste() -> None:
    assert not [c.name for c in EDIBLE if max(c.tastes.values(), default=0) < 0.2]


def test_foods_have_tastes_of_their_own() -> None:
    """A copied row would share its whole taste vector; two may by chance (2 pairs of 2,773 do), three may not."""
    counts = Counter(tuple(c.tastes.get(t, 0) for t in TASTES) for c in EDIBLE)
    assert max(counts.values()) <= 2
    assert sum(n > 1 for n in counts.values()) <= 5


def test_what_foods_have_is_known_as_a_sensation() -> None:
    """Textures, temperatures and colours vote through the concept of the same name."""
    known = {(c.kind, c.name) for c in CONCEPTS}
    assert all(1 <= len(c.textures) <= 3 for c in EDIBLE)
    assert {t for c in EDIBLE for t in c.textures} == TEXTURES
    for kind, values in {
        "texture": TEXTURES,
        "temperature": {c.temperature for c in EDIBLE},
        "colour": {c.colour for c in EDIBLE},
    }.items():
        assert not [v for v in values if v and (kind, v) not in known]


def test_genres_that_scenes_name_exist() -> None:
    assert not [(c.name, g) for c in CONCEPTS for g in c.genres if g not in GENRES]


def test_instruments_that_genres_name_exist_and_have_a_part_to_play() -> None:
    for genre in GENRES.values():
        assert genre.style is not None
        assert genre.style.lead, genre.name
        for name in (*genre.style.lead, *genre.style.accompaniment):
            assert name in INSTRUMENTS, (genre.name, name)
            sound = INSTRUMENTS[name].sound
            assert sound is not None
            assert sound.roles, (genre.name, name)


def test_instruments_sound() -> None:
    for c in INSTRUMENTS.values():
        assert c.sound is not None
        assert c.sound.program is None or 0 <= c.sound.program <= 127, c.name
        assert c.sound.register in {"low", "mid", "high"}, c.name
        assert set(c.sound.roles) <= {"lead", "chords", "bass", "pad", "rhythm"}, c.name


def test_genre_habits_are_sane() -> None:
    for c in GENRES.values():
        assert c.style is not None
        low, high = c.style.tempo
        assert 40 <= low < high <= 260, c.name
        assert high / low <= 3, c.name
        assert c.style.articulation in {"legato", "mixed", "staccato"}, c.name
        assert c.style.dynamics in {"soft", "moderate", "loud"}, c.name
        assert c.style.rhythm, c.name


@pytest.mark.parametrize(
    ("genre", "bpm"),
    [
        ("house", 124),
        ("techno", 130),
        ("trance", 138),
        ("dubstep", 140),
        ("drum and bass", 174),
        ("boom bap", 90),
        ("lo-fi hip hop", 80),
        ("disco", 118),
        ("ambient", 70),
        ("punk rock", 180),
    ],
)
def test_genres_are_played_at_their_usual_tempo(genre: str, bpm: int) -> None:
    style = GENRES[genre].style
    assert style is not None
    assert style.tempo[0] <= bpm <= style.tempo[1]


# -- schema ------------------------------------------------------------------------------------------------------


def shipped_row(table: str) -> dict[str, str]:
    with (resources.files("reprompt_core.knowledge") / f"{table}.csv").open(encoding="utf-8") as f:
        return next(csv.DictReader(f))


def write_rows(path: Path, header: tuple[str, ...], *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([header, *rows])
    return path


@pytest.mark.parametrize("table", KINDS)
def test_a_sound_row_is_read(table: str, tmp_path: Path) -> None:
    row = shipped_row(table)
    path = write_rows(tmp_path / f"{table}.csv", COLUMNS[table], list(row.values()))
    assert [c.name for c in read_concepts(path, table)] == [row["name"]]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("foods", "name", ""),
        ("foods", "kind", "place"),
        ("foods", "sweet", "1.2"),
        ("foods", "sweet", "-.1"),
        ("foods", "sweet", "nan"),
        ("foods", "sweet", "much"),
        ("foods", "textures", "juicy|wobbly"),
        ("foods", "temperature", "tepid"),
        ("foods", "temperature", "warm|hot"),
        ("foods", "colour", "mauve"),
        ("foods", "aroma", "stinky"),
        ("scenes", "valence", "-1.1"),
        ("scenes", "energy", "-.1"),
        ("scenes", "timbres", "orange"),
        ("moods", "family", "hangry"),
        ("sensations", "attribute", "tasty"),
        ("instruments", "program", "x"),
        ("instruments", "program", "128"),
        ("instruments", "register", "middling"),
        ("instruments", "roles", "lead|soloist"),
        ("genres", "tempo_min", "slow"),
        ("genres", "tempo_max", "20"),
        ("genres", "mode", "locrian"),
        ("genres", "groove", "wobble"),
        ("genres", "articulation", "bouncy"),
        ("genres", "dynamics", "ear-splitting"),
        ("genres", "timbres", "loudish"),
    ],
)
def test_a_broken_cell_is_named(table: str, column: str, value: str, tmp_path: Path) -> None:
    row = shipped_row(table)
    good, bad = list(row.values()), list((row | {column: value}).values())
    path = write_rows(tmp_path / f"{table}.csv", COLUMNS[table], good, bad)
    with pytest.raises(KnowledgeError, match=rf"{table}\.csv:3\b"):
        read_concepts(path, table)


@pytest.mark.parametrize("change", [-1, +1])
def test_a_row_of_the_wrong_length_is_named(change: int, tmp_path: Path) -> None:
    good = list(shipped_row("foods").values())
    path = write_rows(tmp_path / "foods.csv", COLUMNS["foods"], good, good[:-1] if change < 0 else [*good, "citrus"])
    with pytest.raises(KnowledgeError, match=r"foods\.csv:3\b"):
        read_concepts(path, "foods")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "moods.csv", COLUMNS["moods"][::-1])
    with pytest.raises(KnowledgeError, match=r"moods\.csv.*columns"):
        read_concepts(path, "moods")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("parameter", "colour"),
        ("value", "highest"),
        ("status", "rumoured"),
        ("weight", "0"),
        ("weight", "1.5"),
        ("weight", "much"),
    ],
)
def test_a_broken_correspondence_is_named(
    column: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = shipped_row("correspondences")
    write_rows(tmp_path / "correspondences.csv", tuple(row), list(row.values()), list((row | {column: value}).values()))
    monkeypatch.setattr(correspondences.resources, "files", lambda _: tmp_path)
    with pytest.raises(KnowledgeError, match=r"correspondences\.csv:3\b"):
        load_correspondences.__wrapped__()


# -- correspondences ---------------------------------------------------------------------------------------------

# evidence that maps nothing to a musical parameter: (attribute or "*", parameter or "*")
NOT_A_MAPPING = {
    ("*", "decoding"),
    ("*", "causal"),
    ("*", "review"),
    ("*", "stimuli"),
    ("*", "model"),
    ("*", "audio features"),
    ("*", "culture"),
    ("*", "cue ranking"),
    ("*", "driver"),
    ("umami", "other parameters"),  # "no evidence found"
    ("crunchy/crispy", "own bite sound"),  # "not music"
    ("hot", "tempo"),  # "NOT shown slow"
    ("aroma", "*"),  # acts through emotion
    ("LLM as survey", "*"),
}
ATTRIBUTES = {
    "creamy/smooth": ["creamy"],
    "smooth/soft": ["smooth", "soft"],
    "crunchy/crispy": ["crunchy"],
    "hot/warm": ["hot"],
    "fear (terror vs anxiety)": ["fear"],
    "light, saturated, yellow": ["light-yellow"],
    "dark, desaturated, blue": ["dark-blue"],
    "dark, red, saturated": ["dark-red"],
    "yellow / red / dark blue": ["light-yellow", "dark-red", "dark-blue"],
}
_TIMBRE = ("timbre", "lead", "avoid")
_ALL = ("register", "tempo", "mode", "harmony", "articulation", "dynamics", *_TIMBRE)
OURS = {
    "pitch": ("register",),
    "pitch (drink)": ("register",),
    "note length": ("articulation",),
    "loudness": ("dynamics",),
    "level (older cue lists)": ("dynamics",),
    "timbre": _TIMBRE,
    "roughness/sharpness": ("timbre",),
    "roughness": ("timbre",),
    "decay": ("articulation", "timbre"),
    "emotion": ("emotion", "valence", "arousal"),
    "mode/valence": ("mode", "valence", "arousal"),
    "tempo/rhythm": ("tempo",),
    "pitch/tempo/timbre": ("register", "tempo", "timbre"),
    "pitch/mode": ("register", "mode"),
    "pitch, tempo": ("register", "tempo"),
    "tempo+mode": ("tempo", "mode"),
    "mode/tempo": ("mode", "tempo", "harmony"),
    "mode/tempo/harmony": ("mode", "tempo", "harmony"),
    "mode/tempo/contour": ("mode", "tempo", "contour"),
    "timbre/loudness": ("timbre", "dynamics"),
    "loudness/timbre": ("dynamics", "timbre"),
    "parameters": _ALL,
    "musical mapping": _ALL,
    "any": ("harmony", "dynamics"),
}
SAME = {
    "higher": "high",
    "lower": "low",
    "faster": "fast",
    "louder": "loud",
    "rises": "loud",
    "short": "staccato",
    "dissonance": "dissonant",
}


def evidence() -> list[dict[str, str]]:
    if not EVIDENCE.is_file():
        return []
    with EVIDENCE.open(encoding="utf-8", newline="") as f:
        return [
            r
            for r in csv.DictReader(f)
            if not {(r["attribute"], r["parameter"]), ("*", r["parameter"]), (r["attribute"], "*")} & NOT_A_MAPPING
        ]


needs_evidence = pytest.mark.skipif(not EVIDENCE.is_file(), reason=f"{EVIDENCE} is not part of this checkout")


def same_source(source: str, doi: str, row: dict[str, str]) -> bool:
    if row["doi"] or not row["source"]:
        return (doi, bool(source)) == (row["doi"], bool(row["source"]))
    return bool(source) and (source.startswith(row["source"]) or row["source"].startswith(source))


@needs_evidence
@pytest.mark.parametrize("row", evidence(), ids=lambda r: f"{r['attribute']}: {r['parameter']}, {r['source'][:24]}")
def test_every_finding_is_represented(row: dict[str, str]) -> None:
    parameters = OURS.get(row["parameter"], (row["parameter"],))
    said = {SAME.get(w, w) for w in re.findall(r"[a-z]+", row["finding"])}
    values = {(p, v) for p in parameters for v in correspondences.PARAMETERS[p] or () if v in said}
    if row["parameter"] == "decay":
        values = set()  # "long decay" is no value of ours; both sides are marked as a conflict
    for attribute in ATTRIBUTES.get(row["attribute"], [row["attribute"]]):
        found = [
            c
            for c in load_correspondences()
            if c.attribute == attribute and c.parameter in parameters and same_source(c.source, c.doi, row)
        ]
        assert found, f"{attribute}: nothing of {row['source']}"
        assert not values - {(c.parameter, c.value) for c in found}
        assert row["status"] in {c.status for c in found}
        if "disagrees" in row["finding"]:
            assert any(c.conflict for c in found)


@needs_evidence
def test_no_source_is_made_up() -> None:
    with EVIDENCE.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    for c in load_correspondences():
        if c.status != "default":
            assert any(same_source(c.source, c.doi, r) for r in rows), c


def test_disagreeing_findings_are_marked_on_both_sides() -> None:
    sides: dict[tuple[str, str], dict[str, list[str]]] = {}
    for c in load_correspondences():
        if correspondences.PARAMETERS[c.parameter] and c.status != "default":
            sides.setdefault((c.attribute, c.parameter), {}).setdefault(c.value, []).append(c.conflict)
    disagreeing = {k: v for k, v in sides.items() if len(v) > 1}
    assert {("salty", "articulation"), ("fear", "dynamics")} <= set(disagreeing)
    for key, values in disagreeing.items():
        assert all(any(marks) for marks in values.values()), key


def test_bitter_brass_against_woodwind_is_marked() -> None:
    leads = {c.value: c.conflict for c in load_correspondences() if (c.attribute, c.parameter) == ("bitter", "lead")}
    assert set(leads) == {"trombone", "bass clarinet"}
    assert all(leads.values())


def test_a_default_never_looks_like_evidence() -> None:
    found = load_correspondences()
    assert not [c for c in found if c.status == "default" and (c.source or c.doi or c.conflict)]
    assert not [c for c in found if c.status == "confirmed" and not c.source]
    assert max(c.weight for c in found if c.status == "recalled") <= 0.4


def test_correspondences_name_known_things() -> None:
    attributes = {c.attribute for c in CONCEPTS if c.attribute} | {c.family for c in CONCEPTS if c.kind == "mood"}
    families = {c.sound.family for c in INSTRUMENTS.values() if c.sound}
    for c in load_correspondences():
        assert c.attribute in attributes, c
        assert c.parameter != "lead" or c.value in INSTRUMENTS, c
        assert c.parameter != "avoid" or c.value in families, c


# -- captions ----------------------------------------------------------------------------------------------------


def test_there_are_enough_captions(knowledge: Knowledge) -> None:
    genres = {r["genre"] for r in captions()}
    assert len(captions()) >= 800
    assert len(genres) >= 120
    assert genres <= set(GENRES)
    assert len({i for c in knowledge.captions for i in knowledge.music_in(c)[1]}) >= 90


def test_captions_have_a_fair_length() -> None:
    assert not [r["text"] for r in captions() if not 18 <= len(r["text"].split()) <= 60]


def test_no_two_captions_share_six_words() -> None:
    first: dict[tuple[str, ...], int] = {}
    shared: list[str] = []
    for number, row in enumerate(captions()):
        words = re.findall(r"[\w#']+", row["text"].lower())
        for run in zip(*(words[i:] for i in range(6)), strict=False):
            if first.setdefault(run, number) != number:
                shared.append(" ".join(run))
    assert not shared


UNSINGABLE = re.compile(
    r"\b(vocal(s|ist|ists)?|voices?|sing(s|ing|ers?)?|sung|choirs?|lyrics?|rap(s|pers?|ping)?|chant(s|ing|ed)?|humming"
    r"|recordings?|recorded|(low|poor|bad|high)[- ](audio )?quality|fidelity|noisy|amateur(ish)?)\b",
    re.IGNORECASE,
)


def test_captions_name_neither_singing_nor_the_recording() -> None:
    assert not [(r["text"], m[0]) for r in captions() if (m := UNSINGABLE.search(r["text"]))]


def test_captions_name_their_own_genre(knowledge: Knowledge) -> None:
    """98 % do; the others describe a sort of it that is a genre of its own."""
    found = [r["genre"] in knowledge.music_in(r["text"])[0] for r in captions()]
    assert sum(found) >= 0.95 * len(found)


# -- vectors -----------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_texts(knowledge: Knowledge, encoder: Encoder) -> None:
    """Shipped from fp32, recomputed with the int8 bundle: over all texts the least cosine measured is .9825."""
    rng = random.Random(40)
    concepts = rng.sample(range(len(knowledge.concepts)), 40)
    some = rng.sample(range(len(knowledge.captions)), 20)
    texts = [loader.concept_text(knowledge.concepts[i]) for i in concepts] + [knowledge.captions[i] for i in some]
    shipped = np.concatenate([knowledge.concept_vectors[concepts], knowledge.caption_vectors[some]])
    again, _ = encoder.encode(texts)
    cosines = (again * shipped).sum(axis=1)
    assert cosines.min() >= 0.975
    assert cosines.mean() >= 0.985


def test_vectors_are_one_a_text_and_of_unit_length(knowledge: Knowledge) -> None:
    assert len(knowledge.concept_vectors) == len(knowledge.concepts)
    assert len(knowledge.caption_vectors) == len(knowledge.captions)
    for vectors in (knowledge.concept_vectors, knowledge.caption_vectors):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


class Counting:
    """Stands in for an encoder: every text lies on the first axis, and the texts asked for are counted."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.asked = 0

    def encode(self, texts: list[str]) -> tuple[Vectors, list[str]]:
        self.asked += len(texts)
        return np.eye(1, 384, dtype=np.float32).repeat(len(texts), axis=0), []


def load(encoder: Counting, cache_dir: Path) -> Knowledge:
    return Knowledge.load(encoder, cache_dir=cache_dir)  # type: ignore[arg-type]


def test_shipped_vectors_serve_their_encoder_without_encoding(encoder: Encoder, tmp_path: Path) -> None:
    same = Counting(encoder.fingerprint)
    assert len(load(same, tmp_path).concepts) == len(CONCEPTS)
    assert same.asked == 0
    assert not list(tmp_path.iterdir())


def test_another_encoder_gets_vectors_of_its_own_once(knowledge: Knowledge, tmp_path: Path) -> None:
    other = Counting("another")
    first = load(other, tmp_path)
    assert other.asked == len(first.concepts) + len(first.captions)
    assert (first.concept_vectors[:, 0] == 1).all()
    assert first.version != knowledge.version
    load(other, tmp_path)
    assert other.asked == len(first.concepts) + len(first.captions)


def test_shipped_vectors_do_not_serve_other_texts(
    encoder: Encoder, knowledge: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = [knowledge.captions[1], knowledge.captions[0], *knowledge.captions[2:]]
    monkeypatch.setattr(loader, "load_caption_texts", lambda: swapped)
    same = Counting(encoder.fingerprint)
    changed = load(same, tmp_path)
    assert same.asked > 0
    assert (changed.caption_vectors[:, 0] == 1).all()
    assert changed.version != knowledge.version


def test_texts_hash_tells_texts_and_their_order_apart() -> None:
    hashes = [loader.texts_hash(*t) for t in ((["a"], ["b"]), (["b"], ["a"]), (["a", "b"], []), (["ab"], [""]))]
    assert len(set(hashes)) == len(hashes)
    assert all(len(a) == len(b) == 64 for a, b in pairwise(hashes))
