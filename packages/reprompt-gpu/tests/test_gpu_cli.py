"""The command `reprompt-gpu`, as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from reprompt_gpu.cli import app
from tiny import tiny_model, tiny_tokenizer

COMMAND = str(Path(sys.executable).parent / "reprompt-gpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_model(seed=3).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120)


def test_takes_are_written_at_the_right_loudness(folder: Path, tmp_path: Path) -> None:
    done = call(
        "generate", "slow strings", "-o", str(tmp_path / "out.wav"), "--model", str(folder), "--take", "2",
        "--seconds", "2", "--quantize", "int8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    paths = [tmp_path / "out-1.wav", tmp_path / "out-2.wav"]
    assert done.stdout.split() == [str(p) for p in paths]
    assert "licence" in done.stderr
    for path in paths:
        samples, rate = soundfile.read(path)
        assert len(samples) == 2 * rate
        assert 0.05 < abs(samples).max() < 0.9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", " ", "-o", "x.wav"), "prompt is empty"),
        (("generate", "jazz", "-o", "x.wav", "--seconds", "0"), "seconds is 0"),
        (("generate", "jazz", "-o", "x.wav", "--guidance", "nan"), "guidance is nan"),
        (("generate", "jazz", "-o", "x.doc"), "must end in"),
        (("generate", "jazz", "-o", "nowhere/x.wav"), "no folder nowhere"),
        (("generate", "jazz", "-o", "x.wav", "--model", "/"), "config.json"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        app(arguments)
    done = capsys.readouterr()
    assert left.value.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""


def test_the_benchmark_runs(tmp_path: Path) -> None:
    done = call("benchmark", "--tiny", "--device", "cpu", "--json", str(tmp_path / "b.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert {"float32, one request", "int8, 8 requests", "int8, first audio of a stream"} <= {
        row[0].removeprefix("tiny, cpu: ") for row in rows
    }
    assert "transformers" in done.stdout
