"""Refiners: from a brief to the prompt that the music model reads."""

from .rules import write_prompt

__all__ = ["write_prompt"]
