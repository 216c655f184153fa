"""Texts as tokens, checked before they reach a model: there an index out of range ends a CUDA process."""

from typing import Any

from torch import Tensor

from .errors import RequestError

__all__ = ["LONGEST_TEXT", "check_batch", "check_text"]

LONGEST_TEXT = 512  # tokens


def check_text(ids: Tensor, *, entries: int) -> None:
    """Refuses tokens that are no text.

    Args:
        ids: should be [tokens] of integers.
        entries: of the text encoder's vocabulary.

    Raises:
        RequestError: they are of another shape or type, too many, or outside the vocabulary.
    """
    if ids.ndim != 1 or ids.is_floating_point():
        raise RequestError(f"The ids of a text are integers [tokens], not {ids.dtype} {list(ids.shape)}.")
    if not 1 <= len(ids) <= LONGEST_TEXT:
        raise RequestError(f"The text has {len(ids)} tokens: give 1 to {LONGEST_TEXT}.")
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= entries:
        raise RequestError(
            f"The ids of the text go from {least} to {most}; those of this model are 0 to {entries - 1}."
        )


def check_batch(input_ids: Any, attention_mask: Any, *, frames: Any) -> None:
    """Refuses what is no batch of texts.

    Raises:
        RequestError: they are no tensors [batch, tokens] of one shape, or there are no frames.
    """
    given: list[Any] = [input_ids] if attention_mask is None else [input_ids, attention_mask]
    if not all(isinstance(x, Tensor) and x.ndim == 2 and len(x) for x in given):
        raise RequestError(
            'input_ids and attention_mask are tensors [batch, tokens]: tokenizer(..., return_tensors="pt").'
        )
    if given[0].shape != given[-1].shape:
        raise RequestError(f"input_ids are {list(given[0].shape)}, but attention_mask {list(given[1].shape)}.")
    if not isinstance(frames, int) or frames < 1:
        raise RequestError(f"frames is {frames!r}: give 1 frame or more.")
