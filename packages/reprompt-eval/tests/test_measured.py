"""How the measures without a checkpoint are taken of a run, kept in its folder, and shown in its report."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge
from reprompt_eval import measuring
from reprompt_eval.errors import RunFolderError
from reprompt_eval.measured import measures_section, read_measures
from reprompt_eval.measures import DEFINITIONS, SoundMeasures
from reprompt_eval.measuring import measure_run
from reprompt_eval.report import write_report
from sounds import RATE, tune, write

pytestmark = pytest.mark.xdist_group("librosa")

PLAN: dict[str, Any] = {"tempo_bpm": 120, "register": "mid", "articulation": "mixed", "harmony": "mixed"}
WORDS = {"rain": "slow rain", "tea": "a cup of tea", "storm": "a storm at night"}


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, threads=1)


@pytest.fixture(scope="module")
def knowledge(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Knowledge:
    return Knowledge.load(encoder, cache_dir=tmp_path_factory.mktemp("cache"))


def _sound(**changes: float) -> SoundMeasures:
    given = {"tempo_bpm": 120.0, "register": 60.0, "roughness": 0.1, "detachment": 0.2, "loudness_range": 3.0}
    return SoundMeasures(**{**given, **changes})


def _of(found: list[dict[str, Any]], name: str, note: str = "") -> dict[str, Any]:
    (row,) = [row for row in found if row["measure"] == name and note in row.get("note", "")]
    return row


# -- of a run ----------------------------------------------------------------------------------------------------


def test_a_bad_file_fails_by_itself_with_its_reason(tmp_path: Path, encoder: Encoder, knowledge: Knowledge) -> None:
    cut = write(tmp_path / "cut.wav", tune(2))
    cut.write_bytes(cut.read_bytes()[:9_000])
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    paths = {
        ("rain", "raw", 0): write(tmp_path / "good.wav", tune(2)),
        ("rain", "rules", 0): write(tmp_path / "quiet.wav", 1.5e-4 / 0.4 * tune(5), subtype="FLOAT"),
        ("rain", "rules", 1): cut,
        ("tea", "raw", 0): write(tmp_path / "silent.wav", 0 * tune(2)),
        ("tea", "raw", 1): write(tmp_path / "short.wav", tune(0.1)),
        ("tea", "rules", 0): text,
        ("tea", "rules", 1): tmp_path / "none.wav",
        ("storm", "raw", 0): write(tmp_path / "nan.wav", np.full(RATE, np.nan), subtype="FLOAT"),
        ("storm", "rules", 0): write(tmp_path / "good-8.wav", np.repeat(tune(2)[:, None], 8, 1)),
        ("storm", "rules", 1): write(tmp_path / "loud.wav", np.clip(9 * tune(2), -1, 1)),
    }
    rows = [{"id": id, "words": w, "prompts": {"raw": w, "rules": "piano"}} for id, w in WORDS.items()]
    told: list[tuple[int, int]] = []
    found = measure_run(
        rows, paths, ["raw", "rules"], encoder=encoder, knowledge=knowledge, progress=lambda *n: told.append(n)
    )
    assert told == [(i, 10) for i in range(1, 11)]
    assert found["warned"] == [{"file": "loud.wav", "reason": "clipped"}]
    reasons = {item["file"]: item["reason"] for item in found["left_out"]}
    said = {
        "cut.wav": "cut off", "silent.wav": "silent", "short.wav": "at least 0.5 s", "text.wav": "cannot be read as",
        "none.wav": "is not there", "nan.wav": "not finite",
    }  # fmt: skip
    assert reasons.keys() == said.keys()
    assert all(said[name] in why for name, why in reasons.items())
    registers = {r["arm"]: r["n"] for r in found["measures"] if r["measure"] == "register"}
    assert registers == {"raw": 1, "rules": 2}
    json.dumps(found, allow_nan=False)
    assert found["definitions"] == DEFINITIONS


def test_texts_of_arms_are_measured_prompt_by_prompt(encoder: Encoder, knowledge: Knowledge) -> None:
    rows = [{"id": id, "words": w, "prompts": {"raw": w, "rules": "piano teapot"}} for id, w in WORDS.items()]
    found = measure_run(
        rows, {}, ["raw", "rules"], encoder=encoder, knowledge=knowledge, progress=lambda *_: None
    )["measures"]  # fmt: skip
    by = {(r["measure"], r["arm"]): r for r in found}
    assert by["meaning_kept", "raw"]["mean"] == pytest.approx(1, abs=1e-5)
    assert by["meaning_kept", "rules"]["mean"] < 0.6
    half = by["music_share", "rules"]
    assert (half["n"], half["mean"], half["low"], half["high"]) == (3, 0.5, 0.5, 0.5)
    assert by["mattr", "rules"]["mean"] == pytest.approx(2 / 6)
    assert by["distinct_2", "rules"]["mean"] == pytest.approx(1 / 3)
    assert by["distinct_2", "rules"]["low"] is None  # of all prompts together
    assert (by["register", "raw"]["n"], by["register", "raw"]["mean"]) == (0, None)
    rows = [
        {"id": "a", "words": "rain", "prompts": {"raw": "..."}},
        {"id": "b", "words": "tea", "prompts": {"raw": ""}},
    ]
    empty = measure_run(rows, {}, ["raw"], encoder=encoder, knowledge=knowledge, progress=lambda *_: None)
    assert _of(empty["measures"], "mattr")["mean"] is None
    json.dumps(empty, allow_nan=False)


def test_seeds_are_averaged_within_the_prompt_first() -> None:
    """Prompt a: 60 and 62 in two takes; b: 63; c: 65. Means 61, 63, 65: 63 +- t(.975, 2) x 2 / sqrt(3)."""
    values = {("a", 0): 60.0, ("a", 1): 62.0, ("b", 0): 63.0, ("c", 0): 65.0, ("c", 1): math.nan}
    sounds = {(p, "raw", seed): _sound(register=v) for (p, seed), v in values.items()}
    row = _of(measuring._of_sounds("raw", sounds, {}), "register")
    assert (row["n"], row["mean"]) == (3, pytest.approx(63))
    half = 4.30265273 * 2 / math.sqrt(3)
    assert (row["low"], row["high"]) == (pytest.approx(63 - half), pytest.approx(63 + half))


def test_the_share_of_tempos_that_agree_with_the_plan() -> None:
    """Of a both takes agree, of b one of two, of c none: 1, 1/2, 0."""
    tempos = {("a", 0): 120.0, ("a", 1): 60.0, ("b", 0): 124.0, ("b", 1): 150.0, ("c", 0): 100.0}
    sounds = {(p, "rules", seed): _sound(tempo_bpm=v) for (p, seed), v in tempos.items()}
    plans = {(p, "rules"): PLAN for p in "abc"}
    share = _of(measuring._of_sounds("rules", sounds, plans), "tempo", "agrees with the plan")
    assert (share["n"], share["mean"], share["low"], share["high"]) == (3, pytest.approx(0.5), 0.0, 1.0)
    raw = {(p, "raw", s): sound for (p, _, s), sound in sounds.items()}
    assert not [r for r in measuring._of_sounds("raw", raw, {(p, "raw"): PLAN for p in "abc"}) if "note" in r]
    assert not [r for r in measuring._of_sounds("rules", sounds, {}) if "note" in r]


def test_how_sounds_follow_plans_is_spearmans_rank_correlation() -> None:
    levels = ["low", "mid", "high"] * 4
    # ranks of levels, with ties: 2.5 6.5 10.5; every sound in order but that the last of each level changes place
    measured = [40, 60, 80, 41, 61, 81, 42, 62, 82, 63, 83, 43]
    plans = {(f"p{i}", "rules"): {**PLAN, "register": level} for i, level in enumerate(levels)}
    sounds = {(f"p{i}", "rules", 0): _sound(register=v) for i, v in enumerate(measured)}
    row = _of(measuring._of_sounds("rules", sounds, plans), "register", "planned register")
    ranks = np.argsort(np.argsort(measured)) + 1
    tied = [{"low": 2.5, "mid": 6.5, "high": 10.5}[level] for level in levels]
    rho = float(np.corrcoef(tied, ranks)[0, 1])
    assert (row["n"], row["mean"]) == (12, pytest.approx(rho))
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / 9)
    assert row["low"] == pytest.approx(math.tanh(math.atanh(rho) - half))
    assert row["high"] == pytest.approx(math.tanh(math.atanh(rho) + half))

    # one file in which nothing can be heard is left out, and the others are still told
    plans["p12", "rules"] = {**PLAN, "register": "low"}
    sounds["p12", "rules", 0] = _sound(register=math.nan)
    with_one = _of(measuring._of_sounds("rules", sounds, plans), "register", "planned register")
    assert with_one == row


def test_too_few_prompts_or_one_level_are_no_correlation() -> None:
    for levels, n in ((["low", "high"] * 4, 8), (["low"] * 12, 12), (["low", "unheard of"] * 9, 9)):
        plans = {(f"p{i}", "rules"): {**PLAN, "register": level} for i, level in enumerate(levels)}
        sounds = {(f"p{i}", "rules", 0): _sound(register=40.0 + i) for i in range(len(levels))}
        row = _of(measuring._of_sounds("rules", sounds, plans), "register", "planned register")
        assert (row["n"], row["mean"], row["low"], row["high"]) == (n, None, None, None)


# -- in the folder and in the report -----------------------------------------------------------------------------


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _shown(page: str) -> tuple[str, list[str]]:
    parser = _Text()
    parser.feed(page)
    text = " ".join(" ".join(parser.parts).split())
    # figures are set with minus signs and spaces that do not break
    return text.replace("\u2212", "-").replace("\u00a0", " ").replace("\u202f", " "), parser.tags


def _row(**changes: Any) -> dict[str, Any]:
    return {"measure": "meaning_kept", "arm": "rules", "n": 20, "mean": 0.512, "low": 0.4, "high": 0.6, **changes}


def _kept(path: Path, *rows: Any, **more: Any) -> Path:
    given = {"measures": list(rows), "definitions": {"meaning_kept": "Cosine."}, "left_out": [], **more}
    path.write_text(json.dumps(given), "utf-8")
    return path


def test_no_figure_is_shown_without_its_n_and_interval(tmp_path: Path) -> None:
    path = _kept(
        tmp_path / "measures.json",
        _row(),
        _row(measure="mattr", arm="raw", mean=0.9, low=None, high=None),
        _row(
            measure="register", note="rank correlation with the planned register", n=3, mean=None, low=None, high=None
        ),
        _row(measure="roughness", n=1, mean=0.25, low=None, high=None),
        left_out=[{"file": "a-raw-0.wav", "reason": "it is <b>silent</b>"}],
    )
    shown, tags = _shown(str(measures_section(read_measures(path))))
    assert "meaning kept rules 0.51 (0.40 to 0.60) 20" in shown
    assert "variety of words (MATTR) raw 0.90 (no interval: of all prompts together) 20" in shown
    assert "register: rank correlation with the planned register rules too few to say 3" in shown
    assert "roughness rules 0.25 (no interval: of one prompt) 1" in shown
    assert "meaning kept : Cosine." in shown
    assert "1 file left out a-raw-0.wav: it is <b>silent</b>" in shown
    assert tags.count("b") == 1  # of the definition: the reason is text
    assert measures_section(None) is None


def test_a_run_without_scores_is_reported_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"neither scores\.parquet nor scores\.csv"):
        write_report(tmp_path)
    _kept(tmp_path / "measures.json", _row(), left_out=[{"file": "x", "reason": "silent"}, {"file": "y"}])
    words = {"id": "p1", "words": "lluvia <i>lenta</i>", "prompts": {"raw": "lluvia lenta", "rules": "Slow piano"}}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(words))
    (tmp_path / "plan.toml").write_text('title = "Rain & tea"')
    shown, tags = _shown(write_report(tmp_path).read_text("utf-8"))
    assert "was not measured: no CLAP checkpoint scored the audio" in shown
    for part in (
        "Rain & tea",
        "lluvia <i>lenta</i> raw The words as they are.",
        "rules Slow piano",
        "0.51 (0.40 to 0.60)",
        "2 files left out",
    ):
        assert part in shown, part
    assert "None of them says how well the music fits the words" in shown
    assert "i" not in tags


def test_without_scores_every_arm_can_be_heard_and_none_is_called_best(tmp_path: Path) -> None:
    _kept(tmp_path / "measures.json", _row(), warned=[{"file": "p03-raw-7.wav", "reason": "clipped"}])
    (tmp_path / "audio").mkdir()
    prompts: list[dict[str, Any]] = []
    manifest: list[dict[str, Any]] = []
    for i in range(23):
        id, words = f"p{i:02}", f"words number {i}"
        prompts.append({"id": id, "words": words, "prompts": {"raw": words, "rules": f"Slow piano {i}"}})
        if i == 2:
            prompts[-1]["_unwritten"] = {"llm": "The language model wrote no prompt that can be used: it refused."}
        for seed in (7, 9):
            for arm in ("raw", "rules"):
                piece = {"prompt_id": id, "arm": arm, "seed": seed}
                if (i, arm, seed) == (0, "rules", 7) or (i, arm) == (1, "rules"):
                    manifest.append({**piece, "error": f"out of memory {seed}"})
                    continue
                name = f"audio/{id}-{arm}-{seed}.wav"
                write(tmp_path / name, tune(0.3, seed=i, rate=22_050), rate=22_050)
                manifest.append({**piece, "path": name, "made_by": "musicgen" if i % 2 else "preview"})
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, manifest)))
    vote = {"id": "v", "words": "w", "order": "ab", "choice": "b", "preferred": "rewritten"}
    (tmp_path / "votes.jsonl").write_text(json.dumps(vote))
    page = write_report(tmp_path).read_text("utf-8")
    shown, tags = _shown(page)
    assert "What listeners preferred" in shown  # people can judge what no model did
    assert tags.count("audio") == 2 * 20 - 1  # of the first 20 prompts, but for the one that has none
    assert page.count("data:audio/mpeg;base64,") == 39
    assert len(page) < 400_000
    assert "No audio: none was made: out of memory 7." in shown  # of prompt 1, which has no take of rules
    (first,) = re.findall(r"<article.*?p00.*?</article>", page, re.S)
    assert first.count("Seed 9.") == 2  # of the seed that both arms have
    assert "rules Slow piano 22" in shown  # those without a card, in a table
    assert "The first 20 of 23 prompts, in the order of the plan" in shown
    assert "llm The language model wrote no prompt that can be used: it refused." in shown
    assert "The language model wrote 22 of the 23 prompts of llm." in shown
    assert "The audio was made by several models: preview (47), musicgen (42)." in shown
    assert "1 piece of audio is clipped, and used." in shown
    assert "1 file with a warning p03-raw-7.wav: clipped" in shown
    for word in ("Worst", "best prompts", "Gained", "Lost most"):
        assert word not in shown


def test_measures_stand_beside_scores(tmp_path: Path) -> None:
    scores = [f"p{i},{arm},own,0.{(i * k) % 37 + 10}" for i in range(12) for arm, k in (("raw", 7), ("rules", 11))]
    (tmp_path / "scores.csv").write_text("\n".join(["prompt_id,arm,text,score", *scores]))
    _kept(tmp_path / "measures.json", _row())
    shown, _ = _shown(write_report(tmp_path).read_text("utf-8"))
    assert "Measures without a checkpoint" in shown
    assert "0.51 (0.40 to 0.60)" in shown
    assert "no CLAP checkpoint scored" not in shown


@pytest.mark.parametrize(
    "content",
    [
        "", "no json", "[]", "{}", '{"measures": 3, "definitions": {}}', '{"measures": [3], "definitions": {}}',
        json.dumps({"measures": [_row()]}),
        json.dumps({"measures": [_row()], "definitions": 3}),
        json.dumps({"measures": [_row(mean="high")], "definitions": {}}),
        json.dumps({"measures": [_row(mean=math.nan)], "definitions": {}}),
        json.dumps({"measures": [_row(high=math.inf)], "definitions": {}}),
        json.dumps({"measures": [_row(n="20")], "definitions": {}}),
        json.dumps({"measures": [_row(measure=3)], "definitions": {}}),
        json.dumps({"measures": [{"measure": "x", "arm": "raw", "n": 3}], "definitions": {}}),
        json.dumps({"measures": [_row()], "definitions": {}}).replace("0.512", "1" + "0" * 400),
        json.dumps({"measures": [_row()], "definitions": {}, "left_out": ["a.wav"]}),
        json.dumps({"measures": [_row()], "definitions": {}, "left_out": 3}),
        "[" * 100_000,
        "\udcff",
    ],
)  # fmt: skip
def test_a_file_of_measures_that_cannot_be_used_says_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "measures.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFolderError, match=r"measures\.json is not what `reprompt-eval run` writes"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_file_of_measures_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "measures.json").open("wb") as f:
        f.truncate(9 << 20)
    with pytest.raises(RunFolderError, match="over 8 megabytes"):
        read_measures(tmp_path / "measures.json")
    assert read_measures(tmp_path / "none.json") is None
