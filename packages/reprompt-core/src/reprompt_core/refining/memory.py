"""Answers of language models, kept in PostgreSQL with a limit and an expiry."""

import hashlib
import json
from typing import Any

from psycopg.types.json import Jsonb

from ..database import Database

__all__ = ["Memory", "question"]


def question(**parts: Any) -> bytes:
    """The key of a question: sha256 over everything that its answer depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).digest()


class Memory:
    """At most `size` answers, each for at most `days` days."""

    def __init__(self, database: Database, *, size: int, days: int) -> None:
        self._database, self._size, self._days = database, size, days

    async def recall(self, key: bytes) -> list[dict[str, Any]] | None:
        """The answers kept for a question.

        Raises:
            DatabaseError: the database went away.
        """
        if not self._size:
            return None
        rows = await self._database.fetch("model_answer", key=key, days=self._days)
        return rows[0][0] if rows else None

    async def keep(self, key: bytes, answers: list[dict[str, Any]]) -> None:
        """Keeps the answers to a question.

        Raises:
            DatabaseError: the database went away.
        """
        if self._size:
            await self._database.fetch(
                "keep_model_answer", key=key, answers=Jsonb(answers), limit=self._size, days=self._days
            )
