"""How fast the engine is here, beside transformers and the memory's own speed: `python -m reprompt_gpu.benchmark`.

Weights are random, at the true shapes: the figures are speeds and say nothing of the music. Every figure comes with its
reference from the same run. Of fewer bits the divergence from float32 is told, too; of random weights it shows whether
the arithmetic holds and is no measure of quality: `--model` takes it of a checkpoint.
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)
from transformers.utils import logging

from .batch import Batch, Sequence
from .config import GenerationRequest
from .divergence import decoder_as, divergences
from .engine import Engine
from .errors import GpuError, RequestError
from .model import Decoder
from .placement import device_of
from .quantization import Quantization
from .weights import Checkpoint, from_transformers, load

__all__ = ["main", "random_model", "run"]

Size = Literal["tiny", "small", "medium", "large"]
_SHAPES = {"tiny": (64, 2, 4), "small": (1024, 24, 16), "medium": (1536, 48, 24), "large": (2048, 48, 32)}
_TEXT = 60  # tokens of the prompt
_PROMPT = "warm jazz piano with a soft double bass"  # for a checkpoint of one's own
_STATUS = Path("/proc/self/statm")  # of Linux: the second number is the pages that are held


class _Effort(NamedTuple):
    warm: int = 10  # steps before the clock starts
    steps: int = 40  # in a stretch
    repeats: int = 3
    requests: int = 1000  # for the memory
    frames: int = 150  # for the divergence


def random_model(size: Size) -> MusicgenForConditionalGeneration:
    """MusicGen with random weights at the shape of a released model (arXiv:2306.05284), or a tiny one."""
    hidden, layers, heads = _SHAPES[size]
    tiny = size == "tiny"
    text: dict[str, Any] = (
        {"d_model": 64, "d_ff": 64, "num_layers": 1, "num_heads": 2}
        if tiny
        else {"d_model": 768, "d_ff": 3072, "num_layers": 12}
    )
    text.setdefault("num_heads", 12)
    codec: dict[str, Any] = {"num_filters": 4, "hidden_size": 32} if tiny else {"num_filters": 64, "hidden_size": 128}
    config = MusicgenConfig(
        text_encoder=T5Config(**text),
        audio_encoder=EncodecConfig(
            sampling_rate=32_000, audio_channels=1, upsampling_ratios=[8, 5, 4, 4], target_bandwidths=[2.2],
            codebook_size=2048, use_causal_conv=False, use_conv_shortcut=False, **codec,
        ),
        decoder=MusicgenDecoderConfig(
            vocab_size=2048, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
            ffn_dim=4 * hidden, num_codebooks=4, pad_token_id=2048, bos_token_id=2048, max_position_embeddings=2048,
        ),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MusicgenForConditionalGeneration(config).eval()
        for name, buffer in cast("nn.Module", model.audio_encoder).named_buffers():
            if name.endswith(("codebook.embed", "codebook.embed_avg")):
                buffer.normal_()
    generation: Any = model.generation_config
    generation.decoder_start_token_id = generation.bos_token_id = generation.pad_token_id = 2048
    return model


def run(size: Size, device: str, *, real: Checkpoint | None = None) -> list[tuple[str, str, str, str]]:
    """Rows of (what, measured, bar, remark) for a model on a device.

    Args:
        size: of the random model.
        device: cpu or cuda.
        real: the model whose divergence is measured instead of the random one's.
    """
    rows: list[tuple[str, str, str, str]] = []

    def add(what: str, measured: str, bar: str = "", remark: str = "") -> None:
        rows.append((f"{size}, {device}: {what}", measured, bar, remark))
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)

    effort = _Effort(2, 20, 1, 100, 20) if size == "tiny" else _Effort()
    model = random_model(size)
    checkpoint = from_transformers(model)
    speed = _read_speed(device)
    add("memory read", f"{speed / 1e9:.1f} GB/s", remark="the floor of a step: its weights over this")
    reference = _reference(model, device, effort)
    add("transformers, one request", f"{reference:.1f} steps/s", remark="generate(), guidance 3")
    (_on_cpu if device == "cpu" else _on_cuda)(checkpoint, reference, speed, device, effort, add)
    _divergence(real or checkpoint, real.name if real else "random weights", device, effort, add)
    if _STATUS.exists():
        remark = "a tiny model, after 100 others"
        add(
            f"memory grown over {effort.requests:,} requests",
            f"{_memory_grown(device, effort.requests):.0f} MB",
            "flat",
            remark,
        )
    return rows


Add = Callable[..., None]


def _on_cpu(checkpoint: Checkpoint, reference: float, speed: float, device: str, effort: _Effort, add: Add) -> None:
    bars = {"float32": ">= 1.0x", "bfloat16": "", "int8": ">= 3.5x, >= 75 % of the floor", "int4": ">= 50 steps/s"}
    for name, bar in bars.items():
        with _decoder(checkpoint, name, device) as decoder:
            one = _ours(decoder, effort)
            floor = speed / decoder.nbytes
            remark = f"{one / reference:.2f}x transformers, {one / floor:.0%} of the floor ({floor:.1f})"
            add(f"{name}, one request", f"{one:.1f} steps/s", bar, remark)
            if name == "int8":
                eight = _ours(decoder, effort, requests=8)
                add("int8, 8 requests", f"{8 * eight:.1f} steps/s", ">= 2.5x of one", f"{8 * eight / one:.2f}x of one")
    first = _first_audio(checkpoint, device, effort, quantize="int8")
    add("int8, first audio of a stream", f"{first:.2f} s", "<= 2.5 s")


def _on_cuda(checkpoint: Checkpoint, reference: float, speed: float, device: str, effort: _Effort, add: Add) -> None:
    with _decoder(checkpoint, "bfloat16", device) as decoder:
        one = _ours(decoder, effort)
        floor = speed / decoder.nbytes
        remark = f"{one / reference:.1f}x transformers, {one / floor:.0%} of the floor ({floor:.0f})"
        add(
            "bfloat16, one request", f"{one:.0f} steps/s", "small >= 1,500, >= 20x; larger >= 60 % of the floor", remark
        )
        many = 64 * _ours(decoder, effort, requests=64) / 50
        add("bfloat16, 64 requests", f"{many:.0f}x real time", ">= 600x (small)")
    add("first audio of a stream", f"{_first_audio(checkpoint, device, effort, quantize=None):.2f} s", "<= 0.3 s")


def _divergence(checkpoint: Checkpoint, weights: str, device: str, effort: _Effort, add: Add) -> None:
    tokenizer = checkpoint.tokenizer
    ids = torch.arange(2, 2 + _TEXT) if tokenizer is None else torch.tensor(tokenizer(_PROMPT)["input_ids"])
    names = ["bfloat16", "float16", *(["int8", "int4"] if device == "cpu" else [])]
    for name, d in divergences(checkpoint, names, ids=ids, frames=effort.frames, device=device):
        add(
            f"{name}, divergence from float32", f"{d.mean:.1e} nats", "",
            f"99 % of the codes below {d.p99:.1e}, the likeliest is the same for {d.agreement:.1%}; {weights}, "
            f"{effort.frames} frames, entropy {d.entropy:.1f} nats",
        )  # fmt: skip


@contextmanager
def _decoder(checkpoint: Checkpoint, name: str, device: str) -> Generator[Decoder]:
    yield decoder_as(checkpoint, name, device=device)
    gc.collect()


def _ours(decoder: Decoder, effort: _Effort, *, requests: int = 1) -> float:
    """Steps a second of a batch of so many requests, each with guidance; the median of some stretches."""
    batch = Batch(decoder, slots=requests, window=effort.warm + effort.repeats * effort.steps + 10, stride=10, text=64)
    for i in range(requests):
        batch.join(Sequence(torch.randn(_TEXT, decoder.config.text_hidden), batch.window, key=i))
    return _rate(batch.step, decoder.device.type, effort)


def _rate(step: Callable[[], object], device: str, effort: _Effort) -> float:
    rates: list[float] = []
    for repeat in range(effort.repeats + 1):
        started = time.perf_counter()
        for _ in range(effort.steps if repeat else effort.warm):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeat:
            rates.append(effort.steps / (time.perf_counter() - started))
    return statistics.median(rates)


def _reference(model: Any, device: str, effort: _Effort) -> float:
    """Steps a second of transformers: float32 on a CPU, float16 on a GPU."""
    moved: Any = model.to(device) if device == "cpu" else model.to(device, torch.float16)
    ids = torch.randint(2, 100, (1, _TEXT), device=device)
    how = {"attention_mask": torch.ones_like(ids), "do_sample": True, "guidance_scale": 3.0}
    moved.generate(input_ids=ids, max_new_tokens=effort.warm, **how)
    times: list[float] = []
    counts = (effort.warm + 4, effort.warm + 4 + effort.steps)
    for _ in range(effort.repeats):
        spent: list[float] = []
        for count in counts:  # the difference leaves the text and the codec out
            started = time.perf_counter()
            moved.generate(input_ids=ids, max_new_tokens=count, **how)
            if device != "cpu":
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - started)
        times.append((spent[1] - spent[0]) / (counts[1] - counts[0]))
    model.to("cpu", torch.float32)
    return 1 / statistics.median(times)


def _read_speed(device: str) -> float:
    """Bytes a second that every thread together reads from memory, caches aside."""
    numbers = torch.ones(250_000_000 if device == "cpu" else 2_000_000_000, device=device)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        float(numbers.sum())
        best = max(best, numbers.nbytes / (time.perf_counter() - started))
    return best


def _first_audio(checkpoint: Checkpoint, device: str, effort: _Effort, *, quantize: Quantization | None) -> float:
    """Seconds until a stream's first audio, the text's reading included."""
    with Engine(checkpoint, device=device, quantize=quantize, slots=1) as engine:
        spent: list[float] = []
        for seed in range(effort.repeats):
            started = time.perf_counter()
            request = GenerationRequest(prompt="given as tokens", seconds=5, seed=seed)
            (job,) = engine.submit_ids(torch.arange(2, _TEXT), request, stream=True)
            chunks = job.chunks()
            next(chunks)
            spent.append(time.perf_counter() - started)
            job.cancel()
    return statistics.median(spent)


def _memory_grown(device: str, requests: int) -> float:
    """Megabytes by which so many requests raise what the process holds after 100."""
    ids = torch.arange(2, 10)
    with Engine(from_transformers(random_model("tiny")), device=device, slots=8) as engine:

        def ask(count: int) -> float:
            for first in range(0, count, 50):
                some = [GenerationRequest(prompt="given as tokens", seconds=0.2, seed=first + i) for i in range(50)]
                for job in [job for request in some for job in engine.submit_ids(ids, request)]:
                    job.result()
            gc.collect()
            return int(_STATUS.read_text().split()[1]) * resource.getpagesize() / 1e6

        return -ask(100) + ask(requests)


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="reprompt_gpu.benchmark", description=__doc__)
    parser.add_argument("--size", choices=[*_SHAPES], default="small")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: whether it runs, not how fast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", help="a folder or an id of the hub, whose divergence is measured")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args(arguments)
    logging.set_verbosity_error()
    size: Size = "tiny" if asked.tiny else asked.size
    try:  # before minutes of measuring
        device_of(asked.device)
        real = load(asked.model) if asked.model else None
        if asked.json and not asked.json.parent.is_dir():
            raise RequestError(f"{asked.json} cannot be written: there is no folder {asked.json.parent}.")
    except GpuError as e:
        parser.error(str(e))
    rows = run(size, asked.device, real=real)
    machine = torch.cuda.get_device_name() if asked.device != "cpu" else f"{platform.machine()}, {os.cpu_count()} cores"
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    print(f"reprompt-gpu on {machine}, torch {torch.__version__}: python -m reprompt_gpu.benchmark --size {size}")
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
