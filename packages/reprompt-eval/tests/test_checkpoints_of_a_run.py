"""Two checkpoints in one plan: two sets of scores from the same audio, and a report that tells them apart."""

import json
import shutil
from pathlib import Path

import pytest
from experiments import make_audio, make_checkpoint, make_plan, run_plan
from reprompt_eval.clap import ClapScorer, TextWarning
from reprompt_eval.errors import CheckpointError, OptionError
from reprompt_eval.kept import read_rows
from reprompt_eval.plan import read_plan
from reprompt_eval.report import write_report
from reprompt_eval.scores import read_scores

pytestmark = pytest.mark.xdist_group("experiment")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return make_checkpoint(folder / "music", seed=1), make_checkpoint(folder / "general", seed=2)


def _stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


def test_two_checkpoints_give_two_sets_of_scores_and_the_report_says_both(
    tmp_path: Path, two: tuple[Path, Path]
) -> None:
    audio = make_audio(tmp_path / "audio")
    (audio / "rain-rules-5.wav").write_text("no audio")
    primary = {"arm": "rules", "checkpoint": "general"}
    # the words of the prompts are few tokens even letter by letter; what the rules write is more than 77
    plan = make_plan(tmp_path, generator=str(audio), checkpoints=[str(c) for c in two], primary=primary)
    folder = tmp_path / "run"
    told = run_plan(plan, folder)
    assert {"scores, music", "scores, general"} <= {step for step, *_ in told}
    scores = read_scores(folder / "scores.parquet")
    assert scores.checkpoints == ("music", "general")
    cells = {c: scores.cells(arm="rules", text="own", checkpoint=c) for c in scores.checkpoints}
    assert all(cells[c]["ramen"].keys() == {"3", "5"} for c in cells)
    assert all(cells[c]["rain"].keys() == {"3"} for c in cells)
    # each is what that checkpoint says of this file and these words, nothing shared but the audio
    for checkpoint, path in zip(("music", "general"), two, strict=True):
        expected = ClapScorer.load(path).score(["a bowl of spicy ramen"], [audio / "ramen-rules-3.wav"])
        assert cells[checkpoint]["ramen"]["3"] == pytest.approx(float(expected[0, 0]), abs=1e-6)
    assert cells["music"]["ramen"]["3"] != pytest.approx(cells["general"]["ramen"]["3"], abs=1e-4)
    # the file that is no audio: each of its rows, by each checkpoint, with the reason
    bad = [row for row in scores.left_out if (row.prompt_id, row.arm, row.seed) == ("rain", "rules", "5")]
    assert {row.checkpoint for row in bad} == {"music", "general"}
    assert all("cannot be read as audio" in row.reason for row in bad)
    long = [row for row in scores.left_out if row.text == "refined" and row not in bad]
    assert long
    assert all("over the 77 tokens that CLAP reads" in row.reason for row in long)

    # asked again, each reads what it kept of the seven files that are audio
    first, kept = (folder / "scores.parquet").read_bytes(), _stamps(folder / "embeddings")
    assert len(kept) == 2 * 7
    run_plan(plan, folder)
    assert (folder / "scores.parquet").read_bytes() == first
    assert _stamps(folder / "embeddings") == kept

    page = write_report(folder).read_text("utf-8")
    for part in ("by music", "by general", "All arms and checkpoints", "cannot be read as audio"):
        assert part in page, part
    assert "One checkpoint scored" not in page
    assert json.loads((folder / "versions.json").read_text())["audio made by"] == "folder audio"


def test_long_texts_are_left_out_unless_the_plan_has_them_split(tmp_path: Path, two: tuple[Path, Path]) -> None:
    audio = make_audio(tmp_path / "audio", seeds=(3,))
    plan = make_plan(tmp_path, generator=str(audio), checkpoints=[str(two[0])], seeds=[3], split_texts=True)
    with pytest.warns(TextWarning, match="was split into"):
        run_plan(plan, tmp_path / "run")
    scores = read_scores(tmp_path / "run" / "scores.parquet")
    assert not scores.left_out
    refined = scores.cells(arm="rules", text="refined", checkpoint="music")
    (words,) = [r["prompts"]["rules"] for r in read_rows(tmp_path / "run" / "prompts.jsonl") if r["id"] == "ramen"]
    with pytest.warns(TextWarning):
        expected = ClapScorer.load(two[0]).score([words], [audio / "ramen-rules-3.wav"], split=True)
    assert refined["ramen"]["3"] == pytest.approx(float(expected[0, 0]), abs=1e-6)
    with pytest.raises(OptionError, match="split_texts must be true or false, not 'yes'"):
        read_plan(make_plan(tmp_path, split_texts="yes"))


def test_checkpoints_of_one_name_are_refused_before_the_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, checkpoints=["a/clap.pt", "b/clap.pt"])
    with pytest.raises(OptionError, match=r"two checkpoints are called clap\.pt"):
        read_plan(plan)


def test_weights_that_do_not_fit_end_the_scoring_and_leave_the_audio(tmp_path: Path, two: tuple[Path, Path]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(two[0], broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    plan = make_plan(tmp_path, generator=str(make_audio(tmp_path / "audio")), checkpoints=[str(broken)])
    with pytest.raises(CheckpointError, match="broken"):
        run_plan(plan, tmp_path / "run")
    assert len(list((tmp_path / "run" / "audio").glob("*.wav"))) == 8
    assert not (tmp_path / "run" / "scores.parquet").exists()
