"""The arms of a language model: what it did not write is not taken for its own, and nothing is lost when it is gone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import make_plan, manifest_of, run_plan
from reprompt_core.testing import ModelReply, ModelRequest, ModelServer, says
from reprompt_eval.answer import answer
from reprompt_eval.cli import app
from reprompt_eval.errors import EvalError, OptionError, RunFolderError
from reprompt_eval.kept import read_rows
from reprompt_eval.paired import Sampling
from reprompt_eval.scores import read_scores
from reprompt_eval.statistics import analyse
from typer.testing import CliRunner

pytestmark = pytest.mark.xdist_group("experiment")
TABLE = "id,words\nramen,a bowl of spicy ramen\nrain,slow rain and no drums\nlemon,lemon at noon\n"
ARMS = ["raw", "rules", "append", "llm", "llm-without-captions"]
QUICK = Sampling(resamples=199)


def brief_of(request: ModelRequest) -> dict[str, Any]:
    """What the model was told of the words."""
    return json.loads(request.body["messages"][1]["content"].removeprefix("<brief>\n").removesuffix("\n</brief>"))


def good(request: ModelRequest) -> ModelReply:
    """The rules' plan, and a prompt of music words for it."""
    plan = brief_of(request)["rules_plan"]
    players = " and ".join([plan["lead"], *plan["accompaniment"]])
    said = (
        f"{' and '.join(plan['moods'])} {plan['genre']} at {plan['tempo_bpm']} BPM in a {plan['mode']} key, {players}."
    )
    return says(json.dumps(plan | {"prompt": said}))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A server that answers well, and settings that name it; nothing it said before is remembered."""
    with ModelServer() as server:
        server.obeys(good)
        for name, value in {"BASE_URL": server.url, "MODEL": "fake-1", "CACHE_SIZE": "0"}.items():
            monkeypatch.setenv(f"REPROMPT_LLM_{name}", value)
        yield server


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_rows(folder / "prompts.jsonl")}


def test_what_the_model_did_not_write_is_left_out_counted_and_named(
    tmp_path: Path, server: ModelServer, tiny_clap: Path
) -> None:
    server.obeys(lambda request: says("Buy lemons!") if "lemon" in request.sent else good(request))
    plan = make_plan(tmp_path, table=TABLE, arms=ARMS, seeds=[3], checkpoints=[str(tiny_clap)])
    folder = tmp_path / "run"
    done = CliRunner().invoke(app, ["run", str(plan), "-o", str(folder)])
    assert done.exit_code == 0, done.output
    for arm in ("llm", "llm-without-captions"):
        said = f"The language model wrote 2 of the 3 prompts of {arm}. For 1 (lemon) its answer could not be used."
        assert said in done.stderr
    # captions are told in one arm and not in the other, and the arms' texts are the model's
    captions = [len(brief_of(r)["captions"]) for r in server.requests if "<brief>" in r.sent]
    assert 0 in captions
    assert max(captions) > 0
    rows = rows_of(folder)
    assert rows["lemon"]["prompts"].keys() == {"raw", "rules", "append"}
    assert rows["lemon"]["_unwritten"].keys() == {"llm", "llm-without-captions"}
    assert "failed checks (schema)" in rows["lemon"]["_unwritten"]["llm"]
    assert rows["ramen"]["prompts"]["llm"] != rows["ramen"]["prompts"]["rules"]
    assert {w["model"] for row in rows.values() for w in row["_written_by"].values()} == {"fake-1"}
    assert "fake-1 at 127.0.0.1" in json.loads((folder / "versions.json").read_text())["prompts of the llm arms by"]
    # no audio of them, and no score: neither as audio nor as text
    errors = {(r["prompt_id"], r["arm"]) for r in manifest_of(folder) if "error" in r}
    assert errors == {("lemon", "llm"), ("lemon", "llm-without-captions")}
    scores = read_scores(folder / "scores.parquet")
    assert not [s for s in scores.rows if s.prompt_id == "lemon" and "llm" in s.arm + s.text_of]
    lost = [row for row in scores.left_out if "wrote no prompt that can be used" in row.reason]
    # own, shuffled and refined on the audio of either arm, and two refined texts on raw audio
    assert len(lost) == 2 * 3 + 2
    analysis = analyse(scores, arm="llm", sampling=QUICK)
    assert {c.arm: c.paired.n for c in analysis.comparisons} == {
        "llm": 2, "rules": 3, "append": 3, "llm-without-captions": 2,
    }  # fmt: skip
    told = " ".join(answer(analysis).further)
    for arm in ("llm", "llm-without-captions"):
        assert f"1 prompt not in the comparison of 'raw' and '{arm}': no score of {arm} (1)." in told
    assert "The language model wrote 2 of the 3 prompts of llm." in (folder / "report.html").read_text("utf-8")
    # asked again: the first answer counts, and the table is the same
    asked, before = len(server.requests), (folder / "scores.parquet").read_bytes()
    manifest = (folder / "manifest.jsonl").read_bytes()
    run_plan(plan, folder)
    assert len(server.requests) == asked
    assert (folder / "scores.parquet").read_bytes() == before
    assert (folder / "manifest.jsonl").read_bytes() == manifest


def test_a_server_that_goes_away_ends_the_run_and_nothing_is_lost_or_mixed_up(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = make_plan(tmp_path, table=TABLE, arms=["raw", "llm"], seeds=[3]), tmp_path / "run"
    server.obeys(lambda request: good(request) if "ramen" in request.sent else ModelReply(b"{}", status=401))
    with pytest.raises(EvalError, match=r"could not be asked for rain \(arm llm\): .*401; check REPROMPT_LLM_API_KEY"):
        run_plan(plan, folder)
    kept = rows_of(folder)
    assert {id: set(row["prompts"]) for id, row in kept.items()} == {"ramen": {"raw", "llm"}, "rain": {"raw"}}
    assert not list((folder / "audio").iterdir())  # nothing is made of half the prompts

    server.obeys(good)
    monkeypatch.setenv("REPROMPT_LLM_MODEL", "fake-2")
    with pytest.raises(RunFolderError, match="prompts of the model 'fake-1', and REPROMPT_LLM_MODEL is 'fake-2'"):
        run_plan(plan, folder)
    assert server.requests == []
    monkeypatch.setenv("REPROMPT_LLM_MODEL", "fake-1")
    run_plan(plan, folder)
    assert [brief_of(r)["words"] for r in server.requests] == ["slow rain and no drums", "lemon at noon"]
    rows = rows_of(folder)
    assert list(rows) == ["ramen", "rain", "lemon"]
    assert rows["ramen"] == kept["ramen"]
    assert len(manifest_of(folder)) == 6
    for name in ("MODEL", "BASE_URL"):  # all is written: no model is needed any more
        monkeypatch.delenv(f"REPROMPT_LLM_{name}")
    run_plan(plan, folder)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (ModelReply(b"{}", status=404), "404; check REPROMPT_LLM_MODEL"),
        (ModelReply(b"<html>hello</html>"), "no chat completion"),
        (ModelReply(says("{}").body, delay_s=2), "REPROMPT_LLM_TIMEOUT_S|no answer within"),
    ],
)
def test_a_server_that_gives_no_answer_is_no_fault_of_the_model(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch, reply: ModelReply, said: str
) -> None:
    monkeypatch.setenv("REPROMPT_LLM_TIMEOUT_S", "0.5")
    server.answers(reply)
    with pytest.raises(EvalError, match=said):
        run_plan(make_plan(tmp_path, arms=["raw", "llm"], seeds=[3]), tmp_path / "run")
    assert not any("_unwritten" in row for row in rows_of(tmp_path / "run").values())


@pytest.mark.parametrize("refusal", [says(None, refusal="I will not."), says("{}", finish="length"), says("noise")])
def test_a_primary_arm_without_a_prompt_ends_the_run_before_its_audio(
    tmp_path: Path, server: ModelServer, refusal: ModelReply
) -> None:
    server.answers(refusal)
    plan = make_plan(tmp_path, arms=["raw", "llm", "rules"], seeds=[3])
    with pytest.raises(EvalError, match="wrote none of the 2 prompts of the arm llm, which the answer is about"):
        run_plan(plan, tmp_path / "run")
    assert not list((tmp_path / "run" / "audio").iterdir())


def test_without_a_model_the_plan_is_refused_and_says_what_to_set(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, arms=["raw", "llm"])
    with pytest.raises(OptionError, match="llm must be written by a language model: set REPROMPT_LLM_MODEL"):
        run_plan(plan, tmp_path / "run")
    done = CliRunner().invoke(app, ["run", str(plan), "--check"])
    assert done.exit_code == 2
    assert "no language model is configured: set REPROMPT_LLM_MODEL" in done.stderr
