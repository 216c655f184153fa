"""CLAP over whole files against laion_clap file by file, and memory over many files. Run with `make bench`.

Random weights at the true shape: what is measured is time, never quality. laion_clap takes one window of a longer file
at random: as many windows are as many readings of the file. It is also given each window as a file of its own.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import soundfile
import torch
from report import report
from reprompt_eval.checkpoints import Amodel, make_laion
from reprompt_eval.clap import ClapScorer, _Laion
from reprompt_eval.windows import RATE, read_sound, windows_of

FILES = 1_000


def tune(seconds: float, seed: int) -> np.ndarray:
    """[n] samples: notes with a decay, each with a few partials."""
    rng = np.random.default_rng(seed)
    t = np.arange(RATE // 2) / RATE
    notes = [
        sum(np.sin(2 * np.pi * f * k * t) / k for k in (1, 2, 3)) * np.exp(-4 * t)
        for f in 220 * 2 ** (rng.integers(0, 25, int(2 * seconds)) / 12)
    ]
    return (0.2 * np.concatenate(notes)).astype(np.float32)


def model(amodel: Amodel) -> Any:
    """laion_clap's model, random weights."""
    torch.manual_seed(0)
    return make_laion(amodel, fusion=False).eval()


def scorer(made: Any) -> ClapScorer:
    """Ours around a model; texts are not embedded here."""
    return ClapScorer(_Laion(made, None, fusion=False, device=torch.device("cpu")), fingerprint="random")


def reference(made: Any) -> Any:
    """laion_clap's own module around the same model, without the tokenizers that it would download."""
    from transformers import BartTokenizer, BertTokenizer, RobertaTokenizer

    kinds = (BartTokenizer, BertTokenizer, RobertaTokenizer)
    patches = [mock.patch.object(kind, "from_pretrained", return_value=None) for kind in kinds]
    for patch in patches:
        patch.start()
    from laion_clap.hook import CLAP_Module

    for patch in patches:
        patch.stop()
    module = CLAP_Module.__new__(CLAP_Module)
    torch.nn.Module.__init__(module)
    module.enable_fusion, module.model, module.model_cfg = False, made, {"audio_cfg": {}}
    return module


def speed(folder: Path, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Windows a second, in turns: ours of files of 30 s, the reference of those, and of files of one window."""
    made = model("HTSAT-base")
    ours, theirs = scorer(made), reference(made)
    files, windows = [folder / f"{n}.wav" for n in range(2)], []
    for n, path in enumerate(files):
        soundfile.write(path, tune(30, n), RATE)
        for i, window in enumerate(windows_of(read_sound(path).samples)):
            windows.append(folder / f"{n}-{i}.wav")
            soundfile.write(windows[-1], window, RATE)
    whole = [file for file in files for _ in range(len(windows) // len(files))]
    rates: tuple[list[float], list[float], list[float]] = ([], [], [])
    for number in range(-1, rounds):  # the first warms up
        times = [time.perf_counter()]
        heard = sum(e.windows for e in ours.embed_files(files))  # pyright: ignore[reportAttributeAccessIssue]
        times.append(time.perf_counter())
        assert heard == len(windows) == len(whole)
        for given in (whole, windows):
            with torch.no_grad():
                for path in given:
                    theirs.get_audio_embedding_from_filelist([str(path)])
            times.append(time.perf_counter())
        if number >= 0:
            for kept, began, ended in zip(rates, times, times[1:], strict=False):
                kept.append(heard / (ended - began))
    return rates


def memory(folder: Path) -> tuple[float, float]:
    """MB of this process after a tenth of FILES files, and after all."""
    ours, process, after = scorer(model("HTSAT-tiny")), psutil.Process(), []
    files = [folder / f"many-{n}.wav" for n in range(FILES)]
    for n, path in enumerate(files):
        soundfile.write(path, tune(1, n), RATE)
    for n, _ in enumerate(ours.embed_files(files), 1):
        if n in {FILES // 10, FILES}:
            after.append(process.memory_info().rss / 1e6)
    return after[0], after[1]


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
    with tempfile.TemporaryDirectory(prefix="reprompt-bench-") as name:
        ours, theirs, theirs_cut = speed(Path(name), rounds)
        early, late = memory(Path(name))
    ratio, ratio_cut = (
        statistics.median(a / b for a, b in zip(ours, other, strict=True)) for other in (theirs, theirs_cut)
    )
    rows = [
        ("laion_clap, files of 30 s one by one", f"{statistics.median(theirs):.2f} windows/s", "", "HTSAT-base"),
        ("laion_clap, files of 10 s one by one", f"{statistics.median(theirs_cut):.2f} windows/s", "", ""),
        (
            "ours, whole files of 30 s",
            f"{statistics.median(ours):.2f} windows/s",
            ">= 1.5x",
            f"{ratio:.2f}x, {ratio_cut:.2f}x",
        ),
        (f"memory after {FILES // 10} files", f"{early:.0f} MB", "", "HTSAT-tiny"),
        (f"memory after {FILES} files", f"{late:.0f} MB", "flat", f"{late - early:+.0f} MB"),
    ]
    report("CLAP", rows, "clap.json")


if __name__ == "__main__":
    main()
