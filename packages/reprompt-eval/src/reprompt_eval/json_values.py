"""Dataclasses as what JSON can hold."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["plain_values"]


def plain_values(value: Any) -> Any:
    """Dataclasses as objects, tuples as arrays, numbers that JSON has not (NaN, infinity) as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_values(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        given: Mapping[Any, Any] = value
        return {str(k): plain_values(v) for k, v in given.items()}
    if isinstance(value, (list, tuple)):
        items: list[Any] | tuple[Any, ...] = value
        return [plain_values(v) for v in items]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
