"""An experiment from its plan to its report: run, taken up again, refused."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from experiments import make_audio, make_plan, run_plan
from reprompt_eval import experiment
from reprompt_eval.errors import EvalError, OptionError, RunFolderError
from reprompt_eval.experiment import Experiment
from reprompt_eval.plan import read_plan
from reprompt_eval.report import write_report
from reprompt_eval.run_folder import read_run_folder
from reprompt_eval.scores import read_scores
from sounds import tune

pytestmark = pytest.mark.xdist_group("librosa")

PROMPTS = (
    "id,words,kind\nramen,a bowl of spicy ramen,dish\nrain,slow rain and no drums,scene\nlemon,lemon at noon,dish\n"
)


def _plan(folder: Path, **changes: Any) -> Path:
    (folder / "prompts.csv").write_text(PROMPTS)
    given: dict[str, Any] = {
        "title": "A test", "prompts": "prompts.csv", "arms": ["raw", "rules"], "seeds": [3, 5], "seconds": 1,
        "generator": "preview", "strata": ["kind"], **changes,
    }  # fmt: skip
    path = folder / "plan.toml"
    path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in given.items() if v is not None))
    return path


def _run(plan: Path, folder: Path) -> list[tuple[str, int, int]]:
    told: list[tuple[str, int, int]] = []
    asyncio.run(Experiment(read_plan(plan), folder, progress=lambda *step: told.append(step)).run())
    return told


def test_previews_make_a_whole_run_and_only_what_is_missing_is_made_again(tmp_path: Path) -> None:
    plan, folder = _plan(tmp_path), tmp_path / "run"
    told = _run(plan, folder)
    assert ("audio", 12, 12) in told
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert {(r["arm"], r["seed"]) for r in rows} == {("raw", 3), ("raw", 5), ("rules", 3), ("rules", 5)}
    for row in rows:
        assert soundfile.info(folder / row["path"]).duration == pytest.approx(1, abs=0.01)
    assert {r["made_by"] for r in rows} == {"reprompt-preview"}
    same_seed = {r["prompt_id"]: r["sha256"] for r in rows if r["arm"] == "raw" and r["seed"] == 3}
    assert all(r["sha256"] != same_seed[r["prompt_id"]] for r in rows if r["arm"] == "rules")
    measures = json.loads((folder / "measures.json").read_text())
    kept = {(m["measure"], m["arm"]): m for m in measures["measures"]}
    assert kept["meaning_kept", "raw"]["mean"] == pytest.approx(1, abs=1e-4)
    assert kept["meaning_kept", "rules"]["mean"] < 0.9
    assert all(m["n"] in {3, 0} for m in measures["measures"])
    page = write_report(folder).read_text()
    assert "no CLAP checkpoint scored the audio" in page
    assert "slow rain and no drums" in page

    lost = folder / rows[4]["path"]
    content = lost.read_bytes()
    lost.write_bytes(content[:99])  # of a copy that was cut off
    with (folder / "manifest.jsonl").open("a") as f:
        f.write('{"prompt_id": "ra')  # of a kill
    again = _run(plan, folder)
    assert [step for step in again if step[0] == "audio"][:1] == [("audio", 11, 12)]
    assert lost.read_bytes() == content
    assert read_run_folder(folder).scores is None


def test_an_interrupted_run_does_not_go_on_measuring(tmp_path: Path) -> None:
    plan, told = make_plan(tmp_path, generator=str(make_audio(tmp_path / "audio"))), list[tuple[str, int, int]]()

    async def interrupted() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def progress(step: str, done: int, total: int) -> None:
            told.append((step, done, total))
            if step == "measures" and done == 1:
                loop.call_soon_threadsafe(task.cancel)

        await Experiment(read_plan(plan), tmp_path / "run", progress=progress).run()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())  # whose end waits for its threads
    assert ("measures", 1, 8) in told
    assert ("measures", 8, 8) not in told
    assert not (tmp_path / "run" / "measures.json").exists()
    run_plan(plan, tmp_path / "run")
    assert (tmp_path / "run" / "measures.json").exists()


def test_a_checkpoint_gives_all_cells_and_the_shuffled_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from reprompt_eval import clap

    class Scorer:
        """Vectors by content: what is tested is which text is held against which audio."""

        def embed_files(self, paths: list[Path]) -> Any:
            for path in paths:
                yield clap.Embedding(_unit(str(path.name.split("-")[0])), 1, 2.0)

        def embed_texts(self, texts: list[str], *, split: bool) -> Any:
            return np.stack([_unit(text) for text in texts])

    def _unit(text: str) -> Any:
        vector = np.random.default_rng(abs(hash(text)) % 2**32).standard_normal(512)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    audio = tmp_path / "audio"
    audio.mkdir()
    for prompt in ("ramen", "rain", "lemon"):
        for arm in ("raw", "rules"):
            for seed in (3, 5):
                if (prompt, arm, seed) != ("lemon", "rules", 5):
                    soundfile.write(audio / f"{prompt}-{arm}-{seed}.wav", tune(2, seed=seed), 48_000)
    monkeypatch.setattr(clap.ClapScorer, "load", lambda *_, **__: Scorer())
    plan = _plan(tmp_path, generator=str(audio), checkpoints=["music.pt"])
    _run(plan, tmp_path / "run")
    scores = read_scores(tmp_path / "run" / "scores.parquet")
    cells = {(s.arm, s.text, s.text_of) for s in scores.rows if s.prompt_id == "ramen"}
    assert {
        ("raw", "own", ""),
        ("rules", "own", ""),
        ("raw", "refined", "rules"),
        ("rules", "refined", "rules"),
    } < cells
    assert all(s.text_of not in {"", s.prompt_id} for s in scores.rows if s.text == "shuffled")
    assert len(scores.left_out) == 3
    assert "There is no lemon-rules-5" in scores.left_out[0].reason


def test_the_shuffled_control_gives_each_prompt_another_and_always_the_same() -> None:
    ids = [f"p{i}" for i in range(7)]
    turned = experiment._shuffled(ids)
    assert sorted(turned.values()) == ids
    assert all(a != b for a, b in turned.items())
    assert experiment._shuffled(ids[::-1]) == turned


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": ["rules"]}, "must hold 'raw'"),
        ({"arms": ["raw", "magic"]}, "arm 'magic' is unknown"),
        ({"seeds": 0}, "seeds must be"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seconds": 301}, "seconds must be from 1 to 300"),
        ({"bound": "small"}, "bound must be a number"),
        ({"bound": -1}, "bound must be a number"),
        ({"promts": "x.csv"}, "'promts' is no part of a plan"),
        ({"prompts": None}, "prompts must name a CSV"),
        ({"prompts": "none.csv"}, "none.csv"),
    ],
)
def test_a_plan_that_cannot_be_used_says_why(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((OptionError, RunFolderError), match=said):
        read_plan(_plan(tmp_path, **changes))


def test_prompts_need_an_id_each_and_words(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    for text in (
        "id,words\na,x\na,y\n",
        "id,words\na,x\n../b,y\n",
        "id,words\na,x\nb, \n",
        "id,words\na,x\n",
        "id\na\nb\n",
    ):
        (tmp_path / "prompts.csv").write_text(text)
        with pytest.raises(RunFolderError):
            read_plan(plan)


def test_a_folder_of_another_plan_and_an_unknown_generator_are_refused(tmp_path: Path) -> None:
    plan, folder = _plan(tmp_path), tmp_path / "run"
    Experiment(read_plan(plan), folder)
    _plan(tmp_path, seconds=3)
    with pytest.raises(RunFolderError, match="another plan"):
        Experiment(read_plan(plan), folder)
    with pytest.raises(EvalError, match="is none of auto, preview"):
        _run(_plan(tmp_path, generator="nowhere"), tmp_path / "other")
