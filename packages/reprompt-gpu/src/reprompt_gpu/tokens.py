"""Texts as tokens, checked before they reach a model: there an index out of range ends a CUDA process."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from .errors import RequestError

__all__ = ["LONGEST_TEXT", "check_batch", "check_text", "without_padding"]

LONGEST_TEXT = 512  # tokens
_INTEGERS = (torch.int64, torch.int32)  # what an embedding takes


def check_text(ids: Any, *, entries: int) -> None:
    """Refuses tokens that are no text.

    Args:
        ids: should be [tokens] of integers.
        entries: of the text encoder's vocabulary.

    Raises:
        RequestError: they are of another shape or type, too many, or outside the vocabulary.
    """
    if not isinstance(ids, Tensor):
        raise RequestError(f"The ids of a text are a tensor of integers [tokens], not of type {type(ids).__name__}.")
    if ids.ndim != 1 or ids.dtype not in _INTEGERS:
        raise RequestError(f"The ids of a text are integers [tokens], not {ids.dtype} {list(ids.shape)}.")
    if not 1 <= len(ids) <= LONGEST_TEXT:
        raise RequestError(f"The text has {len(ids)} tokens: give 1 to {LONGEST_TEXT}.")
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= entries:
        raise RequestError(
            f"The ids of the text go from {least} to {most}; those of this model are 0 to {entries - 1}."
        )


def check_batch(input_ids: Any, attention_mask: Any, *, frames: Any) -> int:
    """Refuses what is no batch of texts; the frames as Python's number.

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
    if attention_mask is not None and not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise RequestError("attention_mask holds something else than 0 and 1.")
    if isinstance(frames, bool) or not isinstance(frames, Integral) or int(frames) < 1:
        raise RequestError(f"frames is {frames!r}: give a whole number, 1 frame or more.")
    return int(frames)


def without_padding(ids: Tensor, there: Tensor) -> tuple[Tensor, Tensor | None]:
    """A text from the first token that is there to the last, for what is around them changes nothing.

    Args:
        ids: [tokens].
        there: [tokens] bool.

    Returns:
        The ids, and which of them are there; None: all.
    """
    if there.all() or not there.any():
        return ids[there], None
    first, last = there.nonzero()[[0, -1], 0].tolist()
    ids, there = ids[first : last + 1], there[first : last + 1]
    return ids, None if there.all() else there
