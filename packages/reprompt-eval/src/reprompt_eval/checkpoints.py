"""CLAP checkpoints, loaded so that what was loaded is what was meant: every key, every shape, nothing unpickled."""

import hashlib
import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError

__all__ = ["AMODELS", "Amodel", "file_digest", "load_laion", "read_state"]

Amodel = Literal["HTSAT-tiny", "HTSAT-base", "HTSAT-large", "PANN-14"]
AMODELS: dict[int, Amodel] = {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}
"""By the width of `audio_branch.patch_embed.proj.weight`."""

# roberta-base, whose weights are all in the checkpoint
_ROBERTA: dict[str, Any] = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
_SHOWN = 3  # keys of a mismatch


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a laion-clap checkpoint, under the model's own names.

    Raises:
        CheckpointError: it is not there, would run code when loaded, or holds no state.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}. `reprompt-eval doctor` says how to get one.")
    scalar: Any = import_module("numpy._core.multiarray").scalar  # of the training's statistics
    harmless: list[Any] = [scalar, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType]
    try:
        with torch.serialization.safe_globals([*harmless, (scalar, "numpy.core.multiarray.scalar")]):
            whole: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # the unpickler's errors are of many kinds
        raise CheckpointError(
            f"{path.name} cannot be loaded as weights alone, and nothing else of a file is trusted: "
            f"{str(e).splitlines()[0][:200]}"
        ) from e
    state: Any = whole.get("state_dict", whole) if isinstance(whole, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path.name} holds no state of a model.")
    named = {str(k).removeprefix("module."): v for k, v in state.items()}
    named.pop("text_branch.embeddings.position_ids", None)  # a buffer that transformers no longer keeps
    return named


def load_laion(path: Path, *, amodel: Amodel | None = None, fusion: bool | None = None) -> tuple[Any, Amodel, bool]:
    """(laion_clap's model with these weights, its audio encoder, whether it fuses).

    Args:
        path: of the checkpoint.
        amodel: the audio encoder; None: as the weights tell.
        fusion: whether it is a fusion checkpoint; None: as the weights tell.

    Raises:
        CheckpointError: the weights are not of this model; says which setting likely is right.
    """
    state = read_state(path)
    likely, fuses = _likely(path, state)
    amodel, fusion = amodel or likely, fuses if fusion is None else fusion
    model = make_laion(amodel, fusion=fusion)
    wanted: dict[str, Tensor] = model.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    misshapen = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if missing or unexpected or misshapen:
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
            if keys
        ]
        hint = ""
        if (amodel, fusion) != (likely, fuses):
            hint = f" The file looks like amodel={likely}, fusion={'on' if fuses else 'off'}."
        raise CheckpointError(
            f"{path.name} does not fit amodel={amodel}, fusion={'on' if fusion else 'off'}: "
            f"keys {'; '.join(parts)}.{hint}"
        )
    if bad := next((k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()), None):
        raise CheckpointError(f"{path.name}: {bad} holds values that are not finite.")
    model.load_state_dict(state, strict=True)
    return model.eval(), amodel, fusion


def make_laion(amodel: str, *, fusion: bool) -> Any:
    """laion_clap's model with random weights, without what it would download while it is made."""
    from transformers import RobertaConfig, RobertaModel

    factory = _clap_module()
    own = RobertaModel.from_pretrained

    def unloaded(*_: Any, **__: Any) -> Any:
        config = RobertaConfig(**_ROBERTA)
        return RobertaModel(config)

    RobertaModel.from_pretrained = unloaded
    try:
        kind = {"enable_fusion": True, "fusion_type": "aff_2d"} if fusion else {}
        model, _ = factory.create_model(amodel, "roberta", device=torch.device("cpu"), **kind)
    finally:
        RobertaModel.from_pretrained = own
    return model.eval()


def _clap_module() -> Any:
    """laion_clap's inner package. Its outer one loads three tokenizers from the hub when it is imported."""
    spec = importlib.util.find_spec("laion_clap")
    if spec is None or spec.origin is None:
        raise CheckpointError("laion-clap is not installed: pip install laion-clap.")
    folder = str(Path(spec.origin).parent)
    if folder not in sys.path:
        sys.path.append(folder)  # as laion_clap itself does
    return import_module("clap_module")


def _likely(path: Path, state: dict[str, Tensor]) -> tuple[Amodel, bool]:
    fuses = any("fusion_model" in k or "mel_conv2d" in k for k in state)
    patch = state.get("audio_branch.patch_embed.proj.weight")
    if patch is not None:
        return AMODELS.get(patch.shape[0], "HTSAT-base"), fuses
    if "audio_branch.conv_block1.conv1.weight" in state:
        return "PANN-14", fuses
    raise CheckpointError(
        f"{path.name} is no laion-clap checkpoint: it has no audio_branch of a kind that is known "
        f"(its first key is {next(iter(state))!r})."
    )
