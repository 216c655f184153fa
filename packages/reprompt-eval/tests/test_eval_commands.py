"""`reprompt-eval run` and `doctor` as people use them: what they say, what they refuse, what they take up again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from experiments import IDS, make_audio, make_plan, manifest_of
from reprompt_eval.cli import app
from reprompt_eval.plan import read_plan
from typer.testing import CliRunner

pytestmark = pytest.mark.xdist_group("experiment")
COMMAND = (sys.executable, "-m", "reprompt_eval")


def _invoke(*args: str | Path) -> Result:
    """In this process: what is imported once need not be again."""
    return CliRunner().invoke(app, list(map(str, args)))


# -- doctor ------------------------------------------------------------------------------------------------------


def test_doctor_says_what_is_there_and_how_to_get_the_rest_and_loads_nothing(tmp_path: Path) -> None:
    """The hub's address is a socket of ours: whoever downloaded anything would call there."""
    (tmp_path / "630k-audioset-best.pt").write_bytes(bytes(3_000_000))
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(0.1)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))} | {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}", "HF_HOME": str(tmp_path / "home"),
        }  # fmt: skip
        done = subprocess.run(
            [*COMMAND, "doctor", tmp_path], capture_output=True, text=True, timeout=120, env=env, check=False
        )
        with pytest.raises(TimeoutError):
            hub.accept()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "630k-audioset-best.pt  there (3 MB)" in lines
    wanted = "missing: download it from https://huggingface.co/lukewys/laion_clap"
    assert f"music_audioset_epoch_15_esc_90.14.pt  {wanted}" in lines  # whole, where it is no terminal, too
    assert f"630k-audioset-fusion-best.pt  {wanted}" in lines
    assert any(line.startswith("roberta-base tokenizer  missing: ") for line in lines)
    assert any(line.startswith("laion_clap  ") and "missing" not in line for line in lines)
    assert [p.name for p in tmp_path.glob("*.pt")] == ["630k-audioset-best.pt"]


def test_doctor_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = _invoke("doctor", tmp_path / "none")
    assert done.exit_code == 2
    assert "is no folder that is there" in done.stderr
    assert done.stdout == ""


# -- plans that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"promts": "x.csv"}, 2, "'promts' is no part of a plan (arms, bound, checkpoints,"),
        ({"prompts": "none.csv"}, 2, "none.csv cannot be read: there is no such file"),
        ({"prompts": None}, 2, "prompts must name a CSV file with the columns id and words"),
        ({"arms": ["raw", "magic"]}, 2, "arm 'magic' is unknown: raw, rules, append, llm, llm-without-captions"),
        ({"seeds": []}, 2, "seeds must be a number above 0, or a list of whole numbers, each once, not []"),
        ({"seeds": 0}, 2, "seeds must be a number above 0"),
        ({"strata": ["taste"]}, 2, "strata: the prompts have no column 'taste' ("),
        ({"primary": {"arm": "llm"}}, 2, "primary.arm is 'llm'; it must be one of rules"),
        ({"primary": {"arm": "raw"}}, 2, "primary.arm is 'raw'; it must be one of rules"),
        ({"primary": {"checkpoint": "x.pt"}}, 2, "primary.checkpoint is 'x.pt'; it must be one of none there"),
        ({"primary": {"model": "x"}}, 2, "primary.model is no part of a plan (arm, checkpoint)"),
        ({"primary": "rules"}, 2, "primary must be a table"),
        ({"checkpoints": ["none.pt"]}, 1, "/none.pt. `reprompt-eval doctor` says how to get"),
        ({"generator": "nowhere"}, 2, "generator 'nowhere' is none of auto, preview, musicgen, runpod"),
        ({"table": "id,words,prompts\na,x,y\nb,x,y\n"}, 2, "a column cannot be called 'prompts'"),
        ({"table": "id,words,_plans\na,x,y\nb,x,y\n"}, 2, "a column cannot be called '_plans'"),
        ({"table": f"id,words\n{'a' * 200},x\nb,x\n"}, 2, "line 2: the id has over 150 bytes"),
    ],
)  # fmt: skip
def test_a_plan_that_is_wrong_is_refused_in_one_line_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Any], code: int, said: str
) -> None:
    plan = make_plan(tmp_path, **changes)
    done = _invoke("run", plan, "-o", tmp_path / "run")
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("reprompt-eval: ")
    assert said in line
    assert not list((tmp_path / "run").rglob("*.wav"))
    if "generator" not in changes:  # which is looked for when the audio is to be made
        assert not (tmp_path / "run").exists()
        assert _invoke("run", plan, "--check").exit_code == code


@pytest.mark.parametrize("content", [b"arms = [", b"\xff\xfe"])
def test_a_plan_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.toml").write_bytes(content)
    for path, said in ((tmp_path / "plan.toml", "plan.toml is not TOML"), (tmp_path / "none.toml", "cannot be read")):
        done = _invoke("run", path)
        assert done.exit_code == 2
        assert said in done.stderr


def test_check_says_what_can_be_found_and_does_nothing(tmp_path: Path) -> None:
    done = _invoke("run", make_plan(tmp_path, sd=0.1), "--check", "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "A test: 2 prompts x 2 arms (raw, rules) x 2 seeds of 1 s, made by preview" in done.stderr
    assert "expected standard deviation 0.1" in done.stderr
    assert "no CLAP checkpoint: how well the music fits the words is not measured (reprompt-eval doctor)" in done.stderr
    assert not (tmp_path / "run").exists()


# -- runs --------------------------------------------------------------------------------------------------------


def test_a_run_without_a_checkpoint_says_so_and_its_folder_is_of_its_plan_alone(tmp_path: Path) -> None:
    deep = tmp_path / ("a folder with a long name " * 4).strip() / "run"  # over 100 characters: told in one line
    audio = make_audio(tmp_path / "audio")
    plan = make_plan(tmp_path, generator=str(audio))
    done = _invoke("run", plan, "-o", deep)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{deep / 'report.html'}\n"
    assert "no CLAP checkpoint: how well the music fits the words is not measured" in done.stderr
    assert "audio  8 of 8" in done.stderr
    assert "no CLAP checkpoint scored the audio" in (deep / "report.html").read_text("utf-8")
    before = {p: p.read_bytes() for p in deep.rglob("*") if p.is_file()}
    other = _invoke("run", make_plan(tmp_path, generator=str(audio), seeds=[3]), "-o", deep)
    assert other.exit_code == 2
    assert "holds the run of another plan: give another folder with --output" in other.stderr
    words = _invoke("run", make_plan(tmp_path, generator=str(audio), table="id,words\nramen,soup\nrain,mist\n"),
                    "-o", deep)  # fmt: skip
    assert words.exit_code == 2
    assert "prompt ramen had other words; give another folder" in words.stderr
    assert {p: p.read_bytes() for p in deep.rglob("*") if p.is_file()} == before


def test_a_run_that_was_interrupted_goes_on_and_makes_nothing_again(tmp_path: Path) -> None:
    """Ctrl-C in a process of its own, in the middle of its audio; then the same command."""
    plan, folder = make_plan(tmp_path, seeds=9), tmp_path / "run"
    command = [*COMMAND, "run", str(plan), "-o", str(folder)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            give_up = time.monotonic() + 90
            while time.monotonic() < give_up and process.poll() is None:
                manifest = folder / "manifest.jsonl"
                if manifest.is_file() and manifest.read_bytes().count(b"\n") >= 4:
                    break
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        finally:
            process.kill()
            process.wait()
    told = (tmp_path / "log").read_text()
    assert code == 130, told
    assert f"interrupted: what is made is kept in {folder}; the same command goes on with it" in told
    assert "Traceback" not in told
    first = {row["path"]: row["sha256"] for row in manifest_of(folder)}
    assert 4 <= len(first) < len(IDS) * 2 * 9
    assert not (folder / "report.html").exists()
    stamps = {path: (folder / path).stat().st_mtime_ns for path in first}

    done = _invoke("run", plan, "-o", folder)
    assert done.exit_code == 0, done.output
    rows = manifest_of(folder)
    assert len(rows) == len({(r["prompt_id"], r["arm"], r["seed"]) for r in rows}) == 36
    assert not [r for r in rows if "error" in r]
    assert {path: (folder / path).stat().st_mtime_ns for path in first} == stamps
    assert f"audio  {len(first)} of 36" in done.stderr
    measures = json.loads((folder / "measures.json").read_text())
    assert measures["left_out"] == []
    assert done.stdout == f"{folder / 'report.html'}\n"


# -- where files are looked for ----------------------------------------------------------------------------------


def test_files_are_looked_for_from_the_plan_and_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere, study = tmp_path / "home", tmp_path / "elsewhere", tmp_path / "study"
    for folder in (home, elsewhere, study):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    for path in (study / "music.pt", home / "general.pt", elsewhere / "here.pt", study / "both.pt"):
        path.write_bytes(b"weights")
    (elsewhere / "both.pt").write_bytes(b"other weights")
    (elsewhere / "lost.pt").write_bytes(b"weights")
    make_audio(study / "takes")
    (study / "preview").mkdir()
    read = read_plan(
        make_plan(
            study, checkpoints=["music.pt", "~/general.pt", "laion/clap"], tokenizer="takes", generator="takes",
            checkpoints_if_there=["both.pt", "here.pt", "nowhere.pt"],
        )
    )  # fmt: skip
    assert read.checkpoints == (
        str(study / "music.pt"), str(home / "general.pt"), "laion/clap", str(study / "both.pt"), "here.pt",
    )  # fmt: skip
    assert read.absent == ("nowhere.pt",)
    assert (read.generator, read.tokenizer) == (str(study / "takes"), str(study / "takes"))
    assert read_plan(make_plan(study)).generator == "preview"  # a folder of that name is none
    # what lies in the folder of the command alone is not taken unless it may be missing
    done = _invoke("run", make_plan(study, checkpoints=["lost.pt"]), "--check")
    assert done.exit_code == 1
    assert f"There is no checkpoint {study / 'lost.pt'}." in done.stderr
    done = _invoke("run", make_plan(study, checkpoints=["~nobody-of-that-name/x.pt"]), "--check")
    assert done.exit_code == 2
    assert "there is no such home folder" in done.stderr


def test_a_checkpoint_that_may_be_missing_is_said_to_be(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, checkpoints_if_there=["clap-of-a-test.pt"])
    done = _invoke("run", plan, "--check")
    assert done.exit_code == 0
    assert "no CLAP checkpoint (clap-of-a-test.pt: not there): how well the music fits the words" in done.stderr
    (tmp_path / "clap-of-a-test.pt").write_bytes(b"weights")
    done = _invoke("run", plan, "--check")
    assert "scored by clap-of-a-test.pt" in done.stderr
    assert "no CLAP checkpoint" not in done.stderr
