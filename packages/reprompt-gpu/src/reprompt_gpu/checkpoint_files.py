"""The files of a checkpoint: found or downloaded, and read without being trusted."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .errors import CheckpointError

__all__ = ["Origin", "fetch", "read_json", "read_tensors", "read_tokenizer"]

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_LONGEST_NAME, _LONGEST_PART = 4096, 255  # characters of a path and of a name in it: of more, Linux makes an error
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_VOCABULARIES = ("tokenizer.json", "spiece.model")
_DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *_VOCABULARIES,
)
_SAFE_PATTERNS = ("model*.safetensors", "model*.safetensors.index.json")
# not *.bin: facebook's repositories hold the weights a second time, in audiocraft's own format
_PICKLED_PATTERNS = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint lies on disk, and what it is called."""

    folder: Path
    name: str  # the hub's id or the folder's name
    revision: str | None = None  # the hub's commit


def fetch(source: str | Path, *, revision: str | None = None, offline: bool = False) -> Origin:
    """A local folder as it is; else the hub's files, downloaded unless the cache has them.

    Args:
        source: a folder, or an id of the hub.
        revision: branch, tag or commit of the hub.
        offline: use what is in the cache alone.

    Raises:
        CheckpointError: there is no such folder or model, or it cannot be downloaded.
    """
    if not isinstance(source, str | Path) or not 0 < len(str(source)) <= _LONGEST_NAME:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CheckpointError(f"A checkpoint is a folder or an id of the Hugging Face hub, not {repr(source)[:60]}.")
    folder = Path(source).expanduser()
    if any(len(part) > _LONGEST_PART for part in folder.parts):
        raise CheckpointError(f"There is no folder {folder}.")
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{folder} is a folder: it has no revision {revision!r}; leave the revision out.")
        return Origin(folder, name=folder.resolve().name)
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; give the folder of the checkpoint.")
    if isinstance(source, Path) or not _HUB_ID.fullmatch(source):
        raise CheckpointError(f"There is no folder {folder}.")
    folder = _snapshot(source, (*_DESCRIPTIONS, *_SAFE_PATTERNS), revision=revision, offline=offline)
    if not any(folder.glob(_SAFE_PATTERNS[0])):
        folder = _snapshot(source, _PICKLED_PATTERNS, revision=revision, offline=offline)
    return Origin(folder, name=source, revision=folder.name)


def _snapshot(name: str, patterns: tuple[str, ...], *, revision: str | None, offline: bool) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=offline, allow_patterns=list(patterns)))
    # the hub's client lets through the errors of its HTTP and storage libraries, others in each of its versions
    except Exception as e:
        what = name if revision is None else f"{name} at revision {revision!r}"
        raise CheckpointError(f"{what} is not a folder, {_why_not_had(e, offline=offline)}") from e


def _why_not_had(e: Exception, *, offline: bool) -> str:
    """Why the hub's client gave no files, and what to do, in two lines."""
    ours = isinstance(e, RepositoryNotFoundError | RevisionNotFoundError)
    cause = e if ours else e.__cause__ or e  # of its cache the client tells when it is the hub that it did not reach
    match cause:
        case _ if offline or isinstance(cause, OfflineModeIsEnabled):
            return (
                "nor complete in the cache of Hugging Face, and nothing may be downloaded.\n"
                "Download it once without the offline setting (--offline, HF_HUB_OFFLINE), or give a folder."
            )
        case RevisionNotFoundError():
            return "and on the Hugging Face hub it is not there.\nLook up the branch, tag or commit on its page."
        case GatedRepoError():
            return (
                "and the Hugging Face hub gives it only to those who accepted its terms.\n"
                "Accept them on its page, log in by `hf auth login`, and try again."
            )
        case RepositoryNotFoundError():
            return (
                "and the Hugging Face hub has none of this name that it would show you.\n"
                "Check the name; if the model is private, log in by `hf auth login`."
            )
        case _:
            told = f"{type(cause).__name__}: {' '.join(str(cause).split())}".removesuffix(": ")
            return (
                f"and it could not be downloaded from the Hugging Face hub ({told}).\n"
                "Check the connection and try again, or give a folder that holds the model."
            )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise CheckpointError(f"{path.parent} holds no {path.name}: it is not a checkpoint, or not complete.") from e
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} cannot be read as JSON: {e}") from e
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return cast(dict[str, Any], content)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by its name, mapped from the files rather than copied.

    Raises:
        CheckpointError: there are no weights, or a file of them is damaged, refused or at odds with the index.
    """
    for name in (_SAFE, _PICKLED):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return dict(_read(folder / name))
        if index.is_file():
            return _read_shards(index)
    raise CheckpointError(f"{folder} holds no weights: neither {_SAFE} nor {_PICKLED}, whole or in shards.")


def _read_shards(index: Path) -> dict[str, Tensor]:
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, Mapping) or not all(isinstance(v, str) for v in placed.values()):
        raise CheckpointError(f"{index} does not say which tensor is in which file.")
    tensors: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for shard in sorted(set(cast(Mapping[str, str], placed).values())):
        if Path(shard).name != shard or "\\" in shard:
            raise CheckpointError(f"{index} names {shard!r}, which is not a file beside it.")
        for name, tensor in _read(index.parent / shard):
            if name in tensors:
                raise CheckpointError(f"{name} is in {places[name]} and again in {shard}.")
            tensors[name], places[name] = tensor, shard
    astray = sorted(name for name in {*placed, *places} if placed.get(name) != places.get(name))
    if astray:
        first = astray[0]
        raise CheckpointError(
            f"{index} and its files are not of one checkpoint: {len(astray)} tensors are elsewhere, among them {first} "
            f"(by the index in {placed.get(first, 'none')}, found in {places.get(first, 'none')})."
        )
    return tensors


def _read(path: Path) -> Iterator[tuple[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is not complete.")
    if path.suffix == ".safetensors":
        yield from _read_safe(path)
    elif path.suffix == ".bin":
        yield from _read_pickled(path)
    else:
        raise CheckpointError(f"{path} is neither .safetensors nor .bin.")


def _read_safe(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{path} is damaged or not complete ({e}); download it again.") from e


def _read_pickled(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    # a damaged pickle can raise anything (documentation of pickle.UnpicklingError); struct.error has been seen
    except Exception as e:
        raise CheckpointError(
            f"{path} was refused: it is damaged, of a format before PyTorch 1.6, or holds more than tensors, and could "
            "run code of its own. Use a checkpoint with safetensors."
        ) from e
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no tensors by name.")
    for name, tensor in cast(Mapping[object, object], content).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} holds something else than tensors by name: {name!r}.")
        yield name, tensor


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """The text encoder's tokenizer; None: the checkpoint has none.

    Raises:
        CheckpointError: its files cannot be used.
    """
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # the tokenizers library raises plain exceptions
    except Exception as e:
        raise CheckpointError(f"The tokenizer in {folder} cannot be used: {e}") from e
