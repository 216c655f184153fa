"""The command as people run it: real processes, their streams, their exit codes."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from reprompt_eval.cli import app
from typer.testing import CliRunner

Done = subprocess.CompletedProcess[str]
ROWS = "".join(
    f"p{i},raw,own,music,0.{i}\np{i},rules,own,music,0.{i * 7 % 40:02}\np{i},rules,refined,music,0.{i * 3 % 50 + 10}\n"
    for i in range(10, 34)
)
SCORES = f"prompt_id,arm,text,checkpoint,score\n{ROWS}p99,raw,own,music,\n"


def call(*args: str | Path) -> Done:
    command = [sys.executable, "-m", "reprompt_eval", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    path.write_text(SCORES, "utf-8")
    return path


def test_stats_as_a_table_and_as_json(scores: Path) -> None:
    options = ("--bound", ".05", "--resamples", "999")
    table = call("stats", scores, *options)
    data = CliRunner().invoke(app, ["stats", str(scores), *options, "--json", "--mixed"])
    assert (table.returncode, data.exit_code) == (0, 0)
    assert table.stderr == data.stderr == ""
    answer = json.loads(data.stdout)
    written = " ".join(table.stdout.split())
    assert answer["answer"] in written
    for line in answer["further"]:
        assert line in written
    for part in ("paired t-test", "Wilcoxon", "mixed model", "equivalence", "n = 24", "left out: line 74 (prompt p99",
                 "999 resamples", "refined text, raw audio not measured"):  # fmt: skip
        assert part in written, part
    assert answer["comparisons"][0]["paired"]["n"] == 24
    assert "two things" not in written  # only where it was asked for
    (both,) = answer["two_things"]
    assert both["label"].startswith("This changes two things at once")
    assert both["d_ci"]["low"] < both["d"] < both["d_ci"]["high"]


def test_errors_are_one_clear_line(tmp_path: Path, scores: Path) -> None:
    (tmp_path / "bad.csv").write_text("prompt_id,arm\n1,raw\n", "utf-8")
    (tmp_path / "votes.jsonl").write_text("\x1b[31mred\n", "utf-8")
    calls = {
        ("stats", tmp_path / "none.csv"): "no such file",
        ("stats", tmp_path / "bad.csv"): "no column text and score",
        ("stats", scores, "--bound", "-1"): "must be above 0",
        ("stats", scores, "--strata", "taste,kind"): "no column 'taste' for a stratum",
        ("stats", scores, "--arm", "llm"): "no arm 'llm'",
        ("votes", tmp_path / "votes.jsonl"): "no vote that can be used",
        ("report", tmp_path): "neither scores.parquet nor scores.csv",
        ("report", tmp_path / "none"): "not there",
    }  # fmt: skip
    for command, says in calls.items():  # in this process: what is imported once need not be again
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == 2, done.output
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("reprompt-eval: ")
        assert says in line
        assert "\x1b" not in line
    done = call(*next(iter(calls)))
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == f"reprompt-eval: {tmp_path / 'none.csv'} cannot be read: there is no such file."


def test_votes_and_report(tmp_path: Path, scores: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    good = [{"id": str(i), "words": "lemon \x1b[31mcake", "order": "ab", "choice": "b", "preferred": "rewritten"}
            for i in range(12)]  # fmt: skip
    votes.write_text("\n".join([*map(json.dumps, good), "{"]), "utf-8")
    run = tmp_path / "run"
    run.mkdir()
    (run / "scores.csv").write_bytes(scores.read_bytes())
    told, written = CliRunner().invoke(app, ["votes", str(votes)]), call("report", run)
    assert told.exit_code == 0
    assert "Listeners preferred the rewritten: 100 %" in told.stdout
    assert "\x1b" not in told.stdout
    assert told.stderr.strip() == "votes.jsonl, line 13 left out: not JSON"
    assert written.returncode == 0, written.stderr
    assert written.stdout.strip() == str(run / "report.html")
    assert "</html>" in (run / "report.html").read_text("utf-8")


def test_help_and_version_load_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['reprompt-eval', '--help']\n" \
        "try:\n    from reprompt_eval.cli import main; main()\nexcept SystemExit: pass\n" \
        "heavy = {'torch', 'scipy', 'statsmodels', 'pandas', 'pyarrow', 'laion_clap', 'transformers', 'numpy'}\n" \
        "print(sorted(heavy & set(sys.modules)))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    for command in ("stats", "report", "votes"):
        assert command in done.stdout
    assert call("--version").stdout.strip() == f"reprompt-eval {version('reprompt-eval')}"
