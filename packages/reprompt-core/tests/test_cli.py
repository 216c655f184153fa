"""The command as people run it: real processes, their streams, their exit codes."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from reprompt_core import Reprompt, Settings, embedded

Say = Callable[..., Reprompt]
Done = subprocess.CompletedProcess[bytes]

REPROMPT = str(Path(sys.executable).parent / "reprompt")
WORDS = "a bowl of ramen under neon signs"
TOO_LONG = "x" * 2001
KEYS = {
    "words", "prompt", "mode", "refiner", "language", "tastes", "emotion", "mentions", "descriptors", "captions",
    "plan", "reasons", "warnings", "timings_ms", "trace",
}  # fmt: skip
NOTHING_WORKS = {  # with these nothing can be started: who answers all the same has started nothing
    "REPROMPT_ENCODER": "/nonexistent",
    "REPROMPT_DATABASE_URL": "postgresql://127.0.0.1:1/x",
}


@pytest.fixture(scope="module", autouse=True)
def server(environment: None) -> None:
    """The embedded server, held by the tests so that no command has to start it."""
    embedded.start(Settings().data_dir)


def clean(**extra: str) -> dict[str, str]:
    """The environment without what tells rich how to write."""
    told = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "PYTHONIOENCODING"}
    return {k: v for k, v in os.environ.items() if k not in told} | {"TERM": "xterm-256color"} | extra


def call(*args: str | bytes, stdin: bytes = b"", **env: str) -> Done:
    return subprocess.run([REPROMPT, *args], input=stdin, env=clean(**env), capture_output=True, timeout=90)


def call_all(calls: Sequence[tuple[Any, ...]], stdins: Sequence[bytes] = (), **env: str) -> list[Done]:
    """Several commands, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        given = [*stdins, *[b""] * (len(calls) - len(stdins))]
        return list(pool.map(lambda c, i: call(*c, stdin=i, **env), calls, given))


def lines_of(stream: bytes) -> list[str]:
    return stream.decode().splitlines()


def assert_one_clear_line(stderr: bytes) -> None:
    (line,) = lines_of(stderr)
    assert line.startswith("reprompt: ")
    assert len(line) > 20


class Talk:
    """A running `reprompt --lines`, spoken to line by line; killed at the end whatever happened."""

    def __init__(self, *args: str, **env: str) -> None:
        pipe = subprocess.PIPE
        command = [REPROMPT, "--lines", *args]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=clean(**env), bufsize=0)

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line)

    def hear(self, seconds: float = 30) -> str:
        """The next line of stdout; fails when it does not come in time."""
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], seconds)[0], "no answer while stdin stays open"
        return self.process.stdout.readline().decode()

    def end(self, seconds: float = 30) -> tuple[int, str, str]:
        """(exit code, what was left on stdout, stderr) after stdin was closed."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out.decode(), err.decode()


# -- one prompt --------------------------------------------------------------------------------------------------


def test_words_give_the_prompt_alone(say: Say) -> None:
    expected = f"{say(WORDS).prompt}\n".encode()
    calls = [(WORDS,), ("-",), (), ("--mode", "append", "rain")]
    said = call_all(calls, [b"", WORDS.encode(), f"\n {WORDS}\r\n".encode()])
    appended = f"{say('rain', mode='append').prompt}\n".encode()
    for args, done, out in zip(calls, said, [*[expected] * 3, appended], strict=True):
        assert (done.returncode, done.stdout, done.stderr) == (0, out, b""), args


def test_json_is_the_whole_answer_and_off_gives_the_words(say: Say) -> None:
    # a byte order mark, as some editors write it, is no part of the words
    whole, off = call_all([("--json", WORDS), ("--mode", "off")], [b"", b"\xef\xbb\xbfrain\nand snow\n"])
    answer = json.loads(whole.stdout)
    assert whole.returncode == 0
    assert set(answer) == KEYS
    expected = say(WORDS).to_dict()
    assert {k: v for k, v in answer.items() if k != "timings_ms"} == {
        k: v for k, v in expected.items() if k != "timings_ms"
    }
    assert (off.returncode, off.stdout) == (0, b"rain\nand snow\n")


def test_a_warning_goes_to_stderr() -> None:
    done = call("Un dîner aux chandelles sous la pluie avec ma sœur")
    assert done.returncode == 0
    assert len(lines_of(done.stdout)) == 1
    assert done.stderr.startswith(b"warning: ")
    assert b"'fr'" in done.stderr


def test_why_shows_the_sources_on_stderr_only(say: Say) -> None:
    done = call("--why", WORDS, COLUMNS="300")
    answer = say(WORDS)
    assert (done.returncode, done.stdout.decode()) == (0, f"{answer.prompt}\n")
    told = done.stderr.decode()
    dois = {r.doi for r in answer.reasons if r.doi}
    assert dois
    assert not [doi for doi in dois if f"doi:{doi}" not in told]
    assert not [r.parameter for r in answer.reasons if r.parameter not in told]


def test_bad_words_exit_2_with_one_line_and_start_nothing() -> None:
    cases: list[tuple[tuple[Any, ...], bytes, str]] = [
        ((" \n ",), b"", "empty"),
        ((TOO_LONG,), b"", "2,001 characters"),
        ((b"rain \xff",), b"", "encoding"),
        ((), b"", "empty"),
        ((), b"rain\0snow", "NUL"),
        (("--json",), b"rain \xff\xfe", "UTF-8"),
        ((), b"x" + "é".encode() * (1 << 20), "2,000"),  # longer than is read at once
    ]
    for (args, stdin, told), done in zip(
        cases, call_all([c[0] for c in cases], [c[1] for c in cases], **NOTHING_WORKS), strict=True
    ):
        assert (done.returncode, done.stdout) == (2, b""), (args, stdin[:20], done.stderr)
        assert_one_clear_line(done.stderr)
        assert told in done.stderr.decode(), (args, stdin[:20])


def test_bad_usage_exits_2_and_version_is_told() -> None:
    cases = [
        (("rain", "--bogus"), "--bogus"),
        (("--mode", "louder", "rain"), "louder"),
        (("rain", "snow"), "snow"),  # forgotten quotes
        (("--lines", "--audio", "x.wav"), "--lines"),
        (("rain", "--audio", "x.wav", "--seconds", "0"), "--seconds"),
    ]
    *bad, told = call_all([*(c[0] for c in cases), ("--version",)], **NOTHING_WORKS)
    for (args, names), done in zip(cases, bad, strict=True):
        assert (done.returncode, done.stdout) == (2, b""), (args, done.stderr)
        assert names in done.stderr.decode(), args
        assert b"Traceback" not in done.stderr
    assert (told.returncode, told.stdout.decode().strip()) == (0, f"reprompt-core {version('reprompt-core')}")


# -- many lines --------------------------------------------------------------------------------------------------

LINES = f"rain\n\nsad piano\r\n   \n{TOO_LONG}\nNUL\0\n".encode() + b"\xff\xfe\nuna cena tranquila"  # no line end
GOOD = {1: "rain", 3: "sad piano", 8: "una cena tranquila"}


def test_lines_are_answered_in_order_with_errors_in_place(say: Say) -> None:
    plain, as_json = call_all([("--lines",), ("--lines", "--json", "--mode", "off")], [LINES, LINES])
    assert plain.returncode == as_json.returncode == 2
    expected = [say(GOOD[n]).prompt if n in GOOD else "" for n in range(1, 9)]
    assert plain.stdout.decode().split("\n") == [*expected, ""]
    for done in (plain, as_json):
        told = lines_of(done.stderr)
        assert [line.split(":")[0] for line in told] == [f"line {n}" for n in range(1, 9) if n not in GOOD]
        assert all(len(line.split(":", 1)[1]) > 15 for line in told)
    answers = [json.loads(line) for line in as_json.stdout.decode().split("\n")[:-1]]
    assert len(answers) == 8
    for n, answer in enumerate(answers, 1):
        if n in GOOD:
            assert set(answer) == KEYS
            assert answer["words"] == answer["prompt"] == GOOD[n]
        else:
            assert set(answer) == {"error", "line"}
            assert answer["line"] == n
            assert f"line {n}: {answer['error']}" in lines_of(as_json.stderr)


def test_a_line_is_answered_at_once_while_stdin_stays_open(say: Say) -> None:
    with Talk() as talk:
        for words in ("rain", "sad piano"):
            talk.say(f"{words}\n".encode())
            assert talk.hear() == f"{say(words).prompt}\n"
        talk.say(b"\n")
        assert talk.hear() == "\n"
        assert talk.process.poll() is None
        code, rest, told = talk.end()
    assert (code, rest) == (2, "")
    assert told.startswith("line 3: ")


def test_lines_give_the_words_back_as_they_were_said() -> None:
    said = ["rain", "soft\u2028rain", "soft\x85rain"]  # line ends for Unicode, not for whoever reads by "\n"
    done = call("--lines", "--json", stdin=b"\xef\xbb\xbf" + "\n".join(said).encode())
    answers = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert [a["words"] for a in answers] == said


def test_ctrl_c_ends_lines_at_once() -> None:
    with Talk() as talk:
        talk.say(b"rain\n")
        talk.hear()
        time.sleep(0.5)  # until it waits for the next line
        talk.process.send_signal(signal.SIGINT)  # stdin stays open, as on a terminal
        try:
            code = talk.process.wait(8)
        except subprocess.TimeoutExpired:
            pytest.fail("still running 8 s after Ctrl-C")
        assert code != 0
        _, _, told = talk.end()
    assert "Traceback" not in told


def test_a_reader_who_leaves_is_no_accident() -> None:
    commands = [f"'{REPROMPT}' '{WORDS}' | head -0", f"echo rain | '{REPROMPT}' --lines | head -0"]
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(
                lambda c: subprocess.run(["bash", "-c", c], capture_output=True, env=clean(), timeout=60), commands
            )
        )
    assert [(d.stdout, d.stderr) for d in done] == [(b"", b"")] * 2
    read, write = os.pipe()
    os.close(read)  # gone before anything was written
    doctor = subprocess.run([REPROMPT, "doctor"], stdout=write, stderr=subprocess.PIPE, env=clean(), timeout=60)
    os.close(write)
    assert (doctor.returncode, doctor.stderr) == (1, b"")


# -- on a terminal -----------------------------------------------------------------------------------------------


def on_terminal(*args: str) -> tuple[str, str]:
    """(stdout, what a terminal of 160 columns showed of stderr, without its colours)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    process = subprocess.Popen(
        [REPROMPT, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=clean()
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 1 << 16)
        except OSError:  # Linux, once the other side was closed
            break
    os.close(master)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    return out.decode(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_shows_before_and_after(say: Say) -> None:
    answer = say(WORDS)
    out, shown = on_terminal(WORDS)
    assert out == f"{answer.prompt}\n"
    assert re.search(r"─ before ─.*?│ " + re.escape(WORDS), shown, re.DOTALL)
    after = shown[shown.index("─ after ─") :]
    boxed = " ".join(line.strip("│ \r") for line in after.split("\n")[1:] if line.startswith("│"))
    assert boxed == answer.prompt
    assert "ramen" in after[after.index("heard") :]
    assert "umami 0.80" in after
    # a pipe gets none of it: test_words_give_the_prompt_alone


# -- looking after it --------------------------------------------------------------------------------------------


def test_doctor_tells_what_is_there() -> None:
    good, broken = call("doctor"), call("doctor", REPROMPT_ENCODER="/nonexistent/bundle")
    told = good.stdout.decode()
    assert (good.returncode, good.stderr) == (0, b"")
    assert "all-MiniLM-L6-v2" in told
    assert "PostgreSQL 18" in told
    assert "pgvector" in told
    assert version("reprompt-core") in told
    assert broken.returncode == 1
    assert "/nonexistent/bundle" in broken.stdout.decode()
    assert "REPROMPT_ENCODER" in broken.stdout.decode()
    assert "PostgreSQL 18" in broken.stdout.decode()  # the rest is told all the same
    assert b"Traceback" not in broken.stderr


def test_an_unusable_database_is_named_without_its_password() -> None:
    url, bad = "postgresql://u:secretpw@127.0.0.1:1/x", "postgresql://u:secretpw@127.0.0.1:port/x"
    calls = [(url, (WORDS,)), (url, ("--lines",)), (url, ("doctor",)), (bad, (WORDS,))]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda c: call(*c[1], stdin=b"rain\n", REPROMPT_DATABASE_URL=c[0]), calls))
    for (url, args), d in zip(calls, done, strict=True):
        told = (d.stdout + d.stderr).decode()
        assert d.returncode == 1, (url, args, told)
        assert "REPROMPT_DATABASE_URL" in told, (url, args)
        assert "secretpw" not in told, (url, args)
        if args != ("doctor",):
            assert d.stdout == b""
            assert_one_clear_line(d.stderr)


@pytest.fixture
def own_data() -> Iterator[Path]:
    """A data folder of one's own outside any home."""
    parent = Path(tempfile.mkdtemp(prefix="reprompt-cli-", dir="/tmp"))
    parent.chmod(0o755)
    yield parent / "data"
    embedded.stop(parent / "data")
    shutil.rmtree(parent, ignore_errors=True)


def test_database_stop_stops_it_under_a_running_command(own_data: Path) -> None:
    env = {"REPROMPT_DATA_DIR": str(own_data), "REPROMPT_DATABASE_TIMEOUT_S": "3"}
    nothing = call("database", "stop", **env)
    assert (nothing.returncode, nothing.stderr) == (0, b"No embedded database runs.\n")
    with Talk(**env) as talk:
        talk.say(b"rain\n")
        assert len(talk.hear(60)) > 20
        stopped = call("database", "stop", **env)
        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, b"", b"Stopped.\n")
        assert not (own_data / "postgres" / "postmaster.pid").exists()
        talk.say(b"rain\nsnow\nsun\n")
        code, rest, told = talk.end()
    assert (code, rest) == (1, "")
    assert "Traceback" not in told
    assert_one_clear_line(told.encode())


# -- sound -------------------------------------------------------------------------------------------------------


def test_audio_writes_a_preview_that_can_be_read(say: Say, tmp_path: Path) -> None:
    files = [tmp_path / f"out{suffix}" for suffix in (".wav", ".flac", ".ogg", ".mp3")]
    files[0].write_bytes(b"of before")  # is replaced
    done = call_all([(WORDS, "--audio", str(f), "--seconds", "2") for f in files])
    for file, d in zip(files, done, strict=True):
        assert (d.returncode, d.stdout.decode()) == (0, f"{say(WORDS).prompt}\n"), d.stderr
        assert file.name in d.stderr.decode().replace("\n", "")
        samples, rate = soundfile.read(file)
        assert (
            soundfile.info(file).format == {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}[file.suffix]
        )
        assert len(samples) / rate == pytest.approx(2, abs=0.1 if file.suffix == ".mp3" else 0.001)
        assert np.abs(samples).max() > 0.05
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_preview_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.wav").mkdir()
    places = ["out.xyz", "missing/out.wav", "file/out.wav", "folder.wav"]
    paths = [str(tmp_path / place) for place in places]
    if Path("/proc").is_dir():
        paths.append("/proc/out.wav")  # where root may not write either
    done = call_all([(WORDS, "--audio", path, "--seconds", "1") for path in paths])
    for path, d in zip(paths, done, strict=True):
        assert d.returncode in {1, 2}, (path, d.stderr)
        assert_one_clear_line(d.stderr)
        assert Path(path).name in d.stderr.decode(), path
        if path.endswith(("out.xyz", "missing/out.wav")):  # can be told beforehand
            assert d.stdout == b"", path
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.wav"]
    assert (tmp_path / "file").read_text() == "kept"
