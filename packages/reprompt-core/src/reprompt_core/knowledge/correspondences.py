"""Correspondences: published findings that tie a sensory or emotional attribute to a musical parameter.

`status` says how a row is known: `confirmed` was read in the source, `recalled` is remembered from the literature
and weighs less, `default` is a design choice of this project and never shown as evidence. Rows that disagree with
another row about the same attribute and parameter are kept and marked in `conflict`.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import cast

from ..errors import KnowledgeError
from ..types import Status

__all__ = ["PARAMETERS", "Correspondence", "load_correspondences"]

PARAMETERS = {
    "register": ("low", "mid", "high"),
    "tempo": ("slow", "moderate", "fast"),
    "mode": ("major", "minor"),
    "harmony": ("consonant", "mixed", "dissonant"),
    "articulation": ("legato", "mixed", "staccato"),
    "dynamics": ("soft", "moderate", "loud"),
    "timbre": None,
    "lead": None,
    "avoid": None,  # an instrument family the finding speaks against
    "rhythm": None,
    "valence": ("positive", "negative"),
    "arousal": ("high", "low"),
    "emotion": None,
    "contour": None,
}


@dataclass(frozen=True, slots=True)
class Correspondence:
    """One finding."""

    attribute: str
    parameter: str
    value: str
    weight: float  # 0..1
    strength: str
    source: str
    doi: str
    status: Status
    conflict: str  # what it disagrees with, or ""


@cache
def load_correspondences() -> tuple[Correspondence, ...]:
    """The shipped correspondences, in file order.

    Raises:
        KnowledgeError: naming the row that does not fit.
    """
    path = resources.files("reprompt_core.knowledge") / "correspondences.csv"
    found: list[Correspondence] = []
    with path.open(encoding="utf-8") as f:
        for number, row in enumerate(csv.DictReader(f), 2):
            allowed = PARAMETERS.get(row["parameter"], ())
            if allowed is not None and row["value"] not in allowed:
                raise KnowledgeError(f"correspondences.csv:{number}: {row['parameter']} cannot be {row['value']!r}.")
            try:
                weight = float(row["weight"])
            except ValueError:
                weight = 0.0
            if row["status"] not in {"confirmed", "recalled", "default"} or not 0 < weight <= 1:
                raise KnowledgeError(f"correspondences.csv:{number}: status or weight is wrong.")
            found.append(
                Correspondence(
                    row["attribute"],
                    row["parameter"],
                    row["value"],
                    weight,
                    row["strength"],
                    row["source"],
                    row["doi"],
                    cast("Status", row["status"]),
                    row["conflict"],
                )
            )
    return tuple(found)
