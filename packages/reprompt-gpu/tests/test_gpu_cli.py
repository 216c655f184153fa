"""The command `reprompt-gpu`, as a person runs it."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import soundfile
from reprompt_gpu import Job, benchmark, cli
from reprompt_gpu.audio import measure
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
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300)


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command, without a process: its imports take seconds."""
    with pytest.raises(SystemExit) as left:
        app(arguments)
    done = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, done.out, done.err


def test_takes_are_written_at_the_right_loudness(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(
        capsys, "generate", "slow strings", "-o", str(tmp_path / "out.wav"), "--model", str(folder), "--take", "2",
        "--seconds", "2", "--quantize", "int8",
    )  # fmt: skip
    assert code == 0, err
    paths = [tmp_path / "out-1.wav", tmp_path / "out-2.wav"]
    assert out.split() == [str(p) for p in paths]
    assert err.splitlines() == [
        f"The licence of the weights of {folder.name} is not known here: check it before you use what they generate."
    ]
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert len(samples) == 2 * rate
        loudness, peak = measure(samples.T, rate)
        assert loudness == pytest.approx(-14, abs=0.2)
        assert peak < -0.95


def test_on_a_terminal_it_shows_how_many_seconds_of_audio_are_there(folder: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [COMMAND, "generate", "slow strings", "-o", str(tmp_path / "a.wav"), "--model", str(folder)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([*command, "--seconds", "20"], stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    late = threading.Timer(300, process.kill)
    late.start()
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    code = process.wait()
    late.cancel()
    assert code == 0, shown
    seconds = [float(x) for x in re.findall(rb"([\d.]+) of 20.0 s of audio", shown)]
    assert len(seconds) > 3
    assert seconds == sorted(seconds)
    assert 0 < seconds[len(seconds) // 2] < 20


def test_an_interrupted_command_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(jobs: list[Job], _: int) -> None:
        while not jobs[0].ready:
            time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_wait", interrupted)
    command = [
        "reprompt-gpu",
        "generate",
        "jazz",
        "-o",
        f"{tmp_path}/a.wav",
        "--model",
        str(folder),
        "--seconds",
        "300",
    ]
    monkeypatch.setattr(sys, "argv", command)
    before = set(threading.enumerate())  # engines of other tests may be about to end
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 130
    assert not list(tmp_path.iterdir())
    assert not [t for t in threading.enumerate() if t not in before and t.name.startswith("reprompt-gpu")]
    assert "Traceback" not in capsys.readouterr().err


def test_the_version_is_told() -> None:
    done = call("--version")
    assert done.stdout.strip() == version("reprompt-gpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", " ", "-o", "x.wav"), "prompt is empty"),
        (("generate", "jazz", "-o", "x.wav", "--seconds", "0"), "seconds is 0"),
        (("generate", "jazz", "-o", "x.wav", "--guidance", "nan"), "guidance is nan"),
        (("generate", "jazz", "-o", "x.doc"), "must end in"),
        (("generate", "jazz", "-o", "nowhere/x.wav"), "no folder nowhere"),
        (("generate", "jazz", "-o", "x.wav", "--model", "/"), "config.json"),
        (("generate", "jazz", "-o", "x.wav", "--model", "no/such/folder"), "no folder no/such/folder"),
        (("generate", "jazz", "-o", "x.wav", "--model", "no/such/folder", "--quantize", "int2"), "quantize is 'int2'"),
        (("generate", "jazz", "-o", "x.wav", "--model", "no/such/folder", "--device", "tpu"), "'tpu' is unknown"),
        (("generate", "jazz", "-o", "x.wav", "--takes", "17"), "takes is 17"),
        (("generate", "jazz", "-o", "x.wav", "--top-k", "-1"), "top_k is -1"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(capsys, *arguments)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_what_happened_and_what_to_do_are_told_in_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "generate", "jazz", "-o", "x.wav", "--model", "someone/none", "--offline")
    assert code == 2
    happened, do = err.splitlines()
    assert happened.startswith("reprompt-gpu: someone/none is not a folder")
    assert "nothing may be downloaded" in happened
    assert do.startswith("Download it once without the offline setting")


def test_the_benchmark_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(benchmark._SHAPES, "tiny", (64, 1, 2))  # a layer less
    code, out, err = called(capsys, "benchmark", "--tiny", "--device", "cpu", "--json", str(tmp_path / "b.json"))
    assert code == 0, err
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    measured = {row[0].removeprefix("tiny, cpu: "): row for row in rows}
    assert {"float32, one request", "int8, 8 requests", "int8, first audio of a stream"} <= measured.keys()
    assert "transformers" in out
    assert float(measured["transformers, one request"][1].split()[0]) > 0
    for name in ("bfloat16", "float16", "int8", "int4"):
        _, figure, _, remark = measured[f"{name}, divergence from float32"]
        assert 0 < float(figure.removesuffix(" nats")) < 0.01
        assert "random weights" in remark


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "no/such/folder"), "no folder no/such/folder"),
        (("--device", "tpu"), "'tpu' is unknown"),
        (("--json", "nowhere/b.json"), "no folder nowhere"),
        (("--size", "huge"), "invalid choice: 'huge'"),
    ],
)
def test_a_benchmark_that_cannot_be_is_refused_before_it_measures(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        benchmark.main(list(arguments))
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_the_divergence_of_a_checkpoint_is_measured_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for speed in ("_on_cpu", "_read_speed", "_reference"):  # are measured above
        monkeypatch.setattr(benchmark, speed, lambda *_: 1.0)
    monkeypatch.setattr(benchmark, "_memory_grown", lambda *_: 0.0)
    benchmark.main(["--tiny", "--device", "cpu", "--model", str(folder)])
    lines = [x for x in capsys.readouterr().out.splitlines() if "divergence" in x]
    assert len(lines) == 4
    assert all(folder.name in line for line in lines)
