"""Checkpoints of MusicGen, in which every tensor is accounted for: none missing, none left over, all finite.

Sources of the layouts: transformers' `modeling_musicgen.py`, `modeling_t5.py` and `modeling_encodec.py`.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import (
    EncodecConfig,
    EncodecModel,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from .checkpoint_files import fetch, read_json, read_tensors, read_tokenizer
from .config import ModelConfig
from .errors import CheckpointError

__all__ = ["Checkpoint", "expected_shapes", "from_transformers", "licence_of", "load"]

_Model = TypeVar("_Model", bound=PreTrainedModel)

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_MOST_NAMED = 4  # tensors in one message
_TEXT, _CODEC, _DECODER = "text_encoder.", "audio_encoder.", "decoder."
# sinusoids: old checkpoints hold them, and they are computed anyway
_IGNORED = frozenset({"decoder.model.decoder.embed_positions.weights"})
# weight normalization: torch.nn.utils.weight_norm's names, and those of torch.nn.utils.parametrizations
_WEIGHT_NORM = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}
_SHARED, _TIED = "text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight"
_NON_COMMERCIAL = ("facebook/musicgen", "csc-unipd/tasty-musicgen")


@dataclass
class Checkpoint:
    """A model's weights, each in the dtype it was stored in."""

    config: ModelConfig
    decoder: dict[str, Tensor]  # by the names of `expected_shapes`
    text_encoder: T5EncoderModel
    codec: EncodecModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str  # the hub's id or the folder's name
    revision: str | None = None  # the hub's commit


def load(source: str | Path, *, revision: str | None = None, offline: bool = False) -> Checkpoint:
    """Reads a checkpoint in Hugging Face's layout.

    Args:
        source: a folder, or an id of the Hugging Face hub.
        revision: branch, tag or commit of the hub.
        offline: download nothing.

    Raises:
        CheckpointError: it cannot be had or used; the message names the file or the tensors.
    """
    origin = fetch(source, revision=revision, offline=offline)
    folder = origin.folder
    config = _read_config(folder / "config.json")
    generation = folder / "generation_config.json"
    shape = ModelConfig.from_hf(config, generation=read_json(generation) if generation.is_file() else None)
    return _assemble(
        shape,
        config,
        read_tensors(folder),
        tokenizer=read_tokenizer(folder),
        name=origin.name,
        revision=origin.revision,
    )


def from_transformers(
    model: MusicgenForConditionalGeneration, tokenizer: PreTrainedTokenizerBase | None = None
) -> Checkpoint:
    """A model that is in memory. Tensors are shared with it; the modules around them are new, in evaluation mode.

    Raises:
        CheckpointError: its configuration or tensors cannot be used.
    """
    if not isinstance(model, MusicgenForConditionalGeneration):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CheckpointError(
            f"A model in memory is a MusicgenForConditionalGeneration of transformers, not a {type(model).__name__}."
        )
    config = copy.deepcopy(model.config)
    shape = ModelConfig.from_hf(config, generation=model.generation_config.to_dict())
    return _assemble(
        shape,
        config,
        model.state_dict(),
        tokenizer=tokenizer,
        name=config.name_or_path or "a model in memory",
        revision=getattr(config, "_commit_hash", None),
    )


def licence_of(name: str) -> str:
    """What the licence of a model's weights allows, in one sentence.

    Args:
        name: of the hub.
    """
    if name.lower().startswith(_NON_COMMERCIAL):
        return f"The weights of {name} are licensed CC BY-NC 4.0: for non-commercial use only."
    return f"The licence of the weights of {name} is not known here: check it before you use what they generate."


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the decoder by its name, with its shape.

    Names are those of transformers' `MusicgenForCausalLM`, and those of the projection from the text encoder, which
    is there when the two differ in width.
    """
    hidden, ffn = config.hidden, config.ffn
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (hidden,)

    for k in range(config.codebooks):
        shapes[f"model.decoder.embed_tokens.{k}.weight"] = (config.vocabulary + 1, hidden)
        shapes[f"lm_heads.{k}.weight"] = (config.vocabulary, hidden)
    for i in range(config.layers):
        layer = f"model.decoder.layers.{i}"
        for attention in ("self_attn", "encoder_attn"):
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{layer}.{attention}.{projection}.weight"] = (hidden, hidden)
            norm(f"{layer}.{attention}_layer_norm")
        shapes[f"{layer}.fc1.weight"] = (ffn, hidden)
        shapes[f"{layer}.fc2.weight"] = (hidden, ffn)
        norm(f"{layer}.final_layer_norm")
    norm("model.decoder.layer_norm")
    if config.text_hidden != hidden:
        shapes["enc_to_dec_proj.weight"] = (hidden, config.text_hidden)
        shapes["enc_to_dec_proj.bias"] = (hidden,)
    return shapes


def _read_config(path: Path) -> MusicgenConfig:
    raw = read_json(path)
    kind = raw.get("model_type")
    if kind == "musicgen_melody":
        raise CheckpointError(
            f"{path.parent} is a MusicGen Melody model (musicgen_melody), which is built otherwise; "
            "use a MusicGen model without a melody, such as facebook/musicgen-small."
        )
    if kind != "musicgen":
        raise CheckpointError(f"{path.parent} is no MusicGen model: the model_type in its {path.name} is {kind!r}.")
    for part in ("text_encoder", "audio_encoder", "decoder"):
        if not isinstance(raw.get(part), dict):  # transformers would take the parts of musicgen-small
            raise CheckpointError(f"{path} does not describe its {part}.")
    try:
        return MusicgenConfig.from_dict(raw)
    except (StrictDataclassError, TypeError, ValueError, LookupError, AttributeError) as e:
        raise CheckpointError(f"{path} does not describe a MusicGen model: {e}") from e


def _assemble(
    shape: ModelConfig,
    config: MusicgenConfig,
    stored: Mapping[str, Tensor],
    *,
    tokenizer: PreTrainedTokenizerBase | None,
    name: str,
    revision: str | None,
) -> Checkpoint:
    tensors = _renamed(stored)
    text, codec = _empty(T5EncoderModel, config.text_encoder), _empty(EncodecModel, config.audio_encoder)
    decoder = {n if n.startswith("enc_to_dec_proj.") else _DECODER + n: s for n, s in expected_shapes(shape).items()}
    expected = decoder | _shapes_of(text, _TEXT) | _shapes_of(codec, _CODEC)
    if _TIED not in tensors:
        del expected[_TIED]
    _check_names(name, tensors, expected)
    _check_values(name, tensors)
    table = tensors[_SHARED]
    if _TIED in tensors and not _same(tensors[_TIED], table):
        raise CheckpointError(f"In {name}, {_TIED} is not {_SHARED}, and the text encoder has room for one of them.")
    tensors[_TIED] = table
    if tokenizer is not None and len(tokenizer) > len(table):
        raise CheckpointError(f"The tokenizer of {name} has {len(tokenizer)} entries, its text encoder {len(table)}.")
    _fill(text, tensors, _TEXT)
    text.set_input_embeddings(text.get_input_embeddings())  # one table, in both places
    # built in earnest this time: what EnCodec works out from its configuration is in no checkpoint
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        codec = EncodecModel(cast(EncodecConfig, config.audio_encoder))
    _fill(codec, tensors, _CODEC)
    return Checkpoint(
        config=shape,
        decoder={n.removeprefix(_DECODER): tensors[n] for n in decoder},
        text_encoder=text,
        codec=codec,
        tokenizer=tokenizer,
        name=name,
        revision=revision,
    )


def _renamed(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names of today, without those that are computed."""
    tensors: dict[str, Tensor] = {}
    for old, tensor in stored.items():
        if old in _IGNORED:
            continue
        ending = next((e for e in _WEIGHT_NORM if old.endswith(e)), None)
        name = old if ending is None else old.removesuffix(ending) + _WEIGHT_NORM[ending]
        if old == _TIED and _SHARED not in stored:
            name = _SHARED
        if name in tensors:
            raise CheckpointError(f"{name} is there twice, by an old name and by a new one.")
        tensors[name] = tensor.detach()  # a pickle may hold parameters, which would be trained
    return tensors


def _empty(kind: type[_Model], config: Any) -> _Model:
    """A model without memory for its tensors: for their names and shapes, or to be filled."""
    try:
        with torch.device("meta"):
            return kind(config)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as e:
        raise CheckpointError(f"The configuration of the {config.model_type} describes no model: {e}") from e


def _shapes_of(model: PreTrainedModel, prefix: str) -> dict[str, tuple[int, ...]]:
    return {prefix + name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_names(name: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    found = {n: tuple(t.shape) for n, t in tensors.items()}
    missing = [f"{n} {s}" for n, s in expected.items() if n not in found]
    unexpected = [f"{n} {s}" for n, s in found.items() if n not in expected]
    misshapen = [f"{n} {found[n]} instead of {s}" for n, s in expected.items() if found.get(n, s) != s]
    problems = [
        f"{len(those)} {what} ({', '.join(those[:_MOST_NAMED])}{', ...' if len(those) > _MOST_NAMED else ''})"
        for what, those in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if those
    ]
    if problems:
        raise CheckpointError(f"The tensors of {name} are not those of its configuration: {'; '.join(problems)}.")


def _check_values(name: str, tensors: Mapping[str, Tensor]) -> None:
    for n, tensor in tensors.items():
        if tensor.dtype not in _FLOATS or tensor.layout != torch.strided:
            raise CheckpointError(
                f"In {name}, {n} is {tensor.dtype} ({tensor.layout}); weights have to be dense float32, float16 or "
                "bfloat16: take the checkpoint that is not quantized."
            )
        if tensor.is_meta:
            raise CheckpointError(f"In {name}, {n} has no data: the model was not loaded whole.")
        # the sum of finite values can overflow, so only what it finds suspicious is looked at one by one
        if not tensor.sum(dtype=torch.float32).isfinite() and not tensor.isfinite().all():
            raise CheckpointError(f"In {name}, {n} holds NaN or infinity: the checkpoint is damaged.")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() or (one.dtype == other.dtype and torch.equal(one, other))


def _fill(model: PreTrainedModel, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Puts the tensors themselves into a model, not copies of them."""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    model.load_state_dict(own, strict=True, assign=True)
    torch.nn.Module.to(model, next(iter(own.values())).device)  # what it computed itself
    model.requires_grad_(False).eval()
