"""How well a sound fits a text, by CLAP: deterministic, strict about its weights, over the whole file.

The same file gives the same bytes of embedding alone, in a batch, and in any order: each window goes through the model
by itself, and windows side by side on the processor's cores.
"""

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from .checkpoints import Amodel, file_digest, load_laion
from .errors import AudioFileError, CheckpointError, TextError
from .windows import RATE, read_sound, windows_of

__all__ = ["MAX_TOKENS", "ClapScorer", "Embedding", "TextWarning"]

Vector = npt.NDArray[np.float32]
MAX_TOKENS = 77  # of CLAP's text encoder, the two at the ends included
_VERSION = "1"  # of windows and means: another one does not read the cache of this one


class TextWarning(UserWarning):
    """A text was split because CLAP does not read as much at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A file as CLAP hears it."""

    vector: Vector  # [512], of length 1
    windows: int
    seconds: float
    warnings: tuple[str, ...] = ()


class _Backend(Protocol):
    name: str

    def audio(self, window: npt.NDArray[np.float32]) -> Vector: ...  # [480000] to [512]
    def tokens(self, text: str) -> list[int]: ...  # the two at the ends included
    def text(self, text: str) -> Vector: ...


class ClapScorer:
    """CLAP, loaded. Build with `ClapScorer.load`.

        scorer = ClapScorer.load("music_audioset_epoch_15_esc_90.14.pt")
        scorer.score(["slow strings"], ["a.wav", "b.flac"])        # [1, 2] cosines

    Args:
        backend: what computes.
        fingerprint: of the weights; embeddings are cached under it.
        cache: folder of embeddings by content; None: none are kept.
        workers: windows at once.
    """

    def __init__(self, backend: _Backend, *, fingerprint: str, cache: Path | None = None, workers: int = 0) -> None:
        self._backend, self.fingerprint = backend, fingerprint
        self._cache = cache / f"{fingerprint[:16]}-{_VERSION}" if cache else None
        self._workers = workers or max(1, torch.get_num_threads())
        self._texts: dict[tuple[str, bool], Vector] = {}

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        backend: Literal["auto", "laion", "transformers"] = "auto",
        amodel: Amodel | None = None,
        fusion: bool | None = None,
        tokenizer: str | Path = "roberta-base",
        device: str = "auto",
        cache: Path | None = None,
    ) -> Self:
        """CLAP from a laion-clap checkpoint (.pt), or a transformers ClapModel (a folder or an id of the hub).

        Args:
            checkpoint: the file, folder or id.
            backend: auto: laion for a file, transformers for the rest.
            amodel, fusion: of a laion-clap checkpoint; None: as its weights tell.
            tokenizer: RoBERTa's, a folder or an id, for laion-clap checkpoints.
            device: auto, cpu, cuda.
            cache: folder where embeddings of files are kept by their content.

        Raises:
            CheckpointError: it cannot be loaded, or is not what the arguments say.
        """
        path, place = Path(checkpoint), _device(device)
        chosen = backend if backend != "auto" else ("laion" if path.suffix in {".pt", ".pth"} else "transformers")
        if chosen == "laion":
            model, amodel, fusion = load_laion(path, amodel=amodel, fusion=fusion)
            engine: _Backend = _Laion(model, _roberta(tokenizer), fusion=fusion, device=place)
            return cls(engine, fingerprint=file_digest(path), cache=cache)
        engine = _Transformers.load(checkpoint, device=place)
        return cls(engine, fingerprint=engine.fingerprint, cache=cache)

    @property
    def name(self) -> str:
        """Which CLAP this is."""
        return self._backend.name

    def embed_files(self, paths: Iterable[str | Path]) -> Iterator[Embedding | AudioFileError]:
        """The embedding of each file, in order; a file that cannot be used gives its error in its place.

        Windows of 10 s every 5 s over the whole file, normalised, averaged, normalised again. A bounded number of files
        is in memory at once.
        """
        with ThreadPoolExecutor(self._workers, "clap", initializer=torch.set_num_threads, initargs=(1,)) as threads:
            waiting: list[Any] = []
            for path in paths:
                waiting.append(threads.submit(self._file, Path(path)))
                if len(waiting) > 2 * self._workers:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def embed_file(self, path: str | Path) -> Embedding:
        """The embedding of a file.

        Raises:
            AudioFileError: it cannot be used.
        """
        (found,) = self.embed_files([path])
        if isinstance(found, AudioFileError):
            raise found
        return found

    def embed_texts(self, texts: Sequence[str], *, split: bool = False) -> Vector:
        """[texts, 512], each of length 1.

        Args:
            texts: at most 77 tokens each.
            split: longer ones are split at words, and the parts' embeddings averaged, with a warning.

        Raises:
            TextError: a text is empty, or longer and not to be split.
        """
        return np.stack([self._text(text, split) for text in texts])

    def score(
        self, texts: Sequence[str], paths: Sequence[str | Path], *, split: bool = False
    ) -> npt.NDArray[np.float32]:
        """Cosines [texts, files]; NaN where a file cannot be used."""
        words = self.embed_texts(texts, split=split)
        found = list(self.embed_files(paths))
        sounds = np.stack(
            [np.full(words.shape[1], np.nan, np.float32) if isinstance(e, AudioFileError) else e.vector for e in found]
        )
        return np.stack([[cosine(w, s) for s in sounds] for w in words]).astype(np.float32)

    def _file(self, path: Path) -> Embedding | AudioFileError:
        try:
            kept = self._kept(path)
            if kept is not None and (known := _read(kept)) is not None:
                return known
            sound = read_sound(path)
            vectors = [self._backend.audio(w) for w in windows_of(sound.samples)]
            found = Embedding(_mean(vectors), len(vectors), sound.seconds, sound.warnings)
            if kept is not None:
                _write(kept, found)
        except AudioFileError as e:
            return e
        return found

    def _kept(self, path: Path) -> Path | None:
        """Where the embedding of a file's content is kept."""
        if self._cache is None or not path.is_file():
            return None
        digest = file_digest(path)
        return self._cache / digest[:2] / f"{digest}.npz"

    def _text(self, text: str, split: bool) -> Vector:
        if (text, split) not in self._texts:
            self._texts[text, split] = self._embed_text(text, split)
        return self._texts[text, split]

    def _embed_text(self, text: str, split: bool) -> Vector:
        if not text.strip():
            raise TextError("A text is empty.")
        count = len(self._backend.tokens(text))
        if count <= MAX_TOKENS:
            return _mean([self._backend.text(text)])
        if not split:
            raise TextError(
                f"A text has {count} tokens; CLAP reads {MAX_TOKENS}. Shorten it, or split it: {text[:60]!r}..."
            )
        parts = self._parts(text)
        warnings.warn(
            f"A text of {count} tokens was split into {len(parts)}: {text[:60]!r}...", TextWarning, stacklevel=4
        )
        return _mean([_mean([self._backend.text(part)]) for part in parts])

    def _parts(self, text: str) -> list[str]:
        """As few parts as fit, of about as many words each."""
        words = text.split()
        for number in range(2, len(words) + 1):
            size = math.ceil(len(words) / number)
            parts = [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
            if all(len(self._backend.tokens(part)) <= MAX_TOKENS for part in parts):
                return parts
        raise TextError(f"A word alone has more than {MAX_TOKENS} tokens: {text[:60]!r}...")


def cosine(a: Vector, b: Vector) -> float:
    """Of two vectors of length 1; summed exactly, so that the order of files in a batch changes nothing."""
    return math.fsum((a.astype(np.float64) * b.astype(np.float64)).tolist())


class _Laion:
    """laion_clap's model."""

    def __init__(self, model: Any, tokenizer: Any, *, fusion: bool, device: torch.device) -> None:
        self._model, self._tokenizer, self._fusion, self._device = model.to(device), tokenizer, fusion, device
        self.name = f"laion-clap, fusion {'on' if fusion else 'off'}"

    def audio(self, window: npt.NDArray[np.float32]) -> Vector:
        waveform = torch.from_numpy(window)
        sample: dict[str, torch.Tensor] = {"waveform": waveform, "longer": torch.tensor([False])}
        if self._fusion:
            mel = _mel_of(window)
            sample["mel_fusion"] = torch.stack([mel, mel, mel, mel])
        with torch.inference_mode():
            return self._model.get_audio_embedding([sample])[0].float().cpu().numpy()

    def tokens(self, text: str) -> list[int]:
        return self._tokenizer(text)["input_ids"]

    def text(self, text: str) -> Vector:
        encoded = self._tokenizer(
            text, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            return self._model.get_text_embedding(dict(encoded))[0].float().cpu().numpy()


def _mel_of(waveform: npt.NDArray[np.float32]) -> torch.Tensor:
    """[frames, 64] decibels, which fusion models read beside the waveform (laion_clap's training/data.py, get_mel)."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=1024, win_length=1024, hop_length=480, center=True, pad_mode="reflect", power=2.0,
        n_mels=64, norm=None, htk=True, fmin=50, fmax=14000,
    )  # fmt: skip
    return torch.from_numpy(librosa.power_to_db(mel, ref=1.0, amin=1e-10, top_db=None).T.astype(np.float32))


class _Transformers:
    """transformers' ClapModel."""

    def __init__(self, model: Any, processor: Any, *, name: str, device: torch.device) -> None:
        self._model, self._processor, self._device = model.to(device).eval(), processor, device
        self.name = name
        self.fingerprint = _weights_digest(model)

    @classmethod
    def load(cls, source: str | Path, *, device: torch.device) -> Self:
        from safetensors import SafetensorError
        from transformers import ClapModel, ClapProcessor

        try:
            loaded: Any = ClapModel.from_pretrained(source, output_loading_info=True)
            model, info = loaded
            processor: Any = ClapProcessor.from_pretrained(source)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as e:
            raise CheckpointError(f"{source} is no ClapModel that can be loaded: {str(e).splitlines()[0][:300]}") from e
        wrong = {k: sorted(map(str, info.get(k, ()))) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        if any(wrong.values()):
            what = "; ".join(f"{k.replace('_', ' ')}: {', '.join(v[:3])}" for k, v in wrong.items() if v)
            raise CheckpointError(f"{source} does not fit the ClapModel that its config describes: {what}.")
        fusion = "on" if model.config.audio_config.enable_fusion else "off"
        return cls(model, processor, name=f"transformers ClapModel, fusion {fusion}", device=device)

    def audio(self, window: npt.NDArray[np.float32]) -> Vector:
        features = self._processor.feature_extractor(window, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            return _vector(self._model.get_audio_features(**features.to(self._device)))

    def tokens(self, text: str) -> list[int]:
        return self._processor.tokenizer(text)["input_ids"]

    def text(self, text: str) -> Vector:
        encoded = self._processor.tokenizer(
            text, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            return _vector(self._model.get_text_features(**encoded.to(self._device)))


def _vector(output: Any) -> Vector:
    """Of a tensor (transformers 4) or an output object (5)."""
    return getattr(output, "pooler_output", output)[0].float().cpu().numpy()


def _weights_digest(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _roberta(source: str | Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as e:
        raise CheckpointError(
            f"RoBERTa's tokenizer ({source}) is not at hand: give a folder that holds it, or let it be downloaded once."
        ) from e


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as e:
        raise CheckpointError(f"Device {name!r} is unknown: auto, cpu or cuda.") from e
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("There is no CUDA device here: use device=cpu.")
    return device


def _mean(vectors: Sequence[Vector]) -> Vector:
    """Normalised, averaged, normalised again; in double precision."""
    units = [v.astype(np.float64) / np.linalg.norm(v.astype(np.float64)) for v in vectors]
    mean = np.mean(units, axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def _read(path: Path) -> Embedding | None:
    """A kept embedding; None: there is none that can be read."""
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(path, allow_pickle=False) as kept:
        names = str(kept["warnings"])
        return Embedding(
            kept["vector"], int(kept["windows"]), float(kept["seconds"]), tuple(names.split(",")) if names else ()
        )
    return None


def _write(path: Path, found: Embedding) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{id(found)}.tmp")
    with beside.open("wb") as f:
        np.savez(
            f, vector=found.vector, windows=found.windows, seconds=found.seconds, warnings=",".join(found.warnings)
        )
    beside.replace(path)
