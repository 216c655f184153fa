"""What the tests of reprompt-core share: the knowledge, and answers through the real pipeline."""

from collections.abc import Callable
from pathlib import Path

import pytest
from reprompt_core import Reprompt, Settings, reprompt
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, threads=1)


@pytest.fixture(scope="session")
def knowledge(encoder: Encoder) -> Knowledge:
    return Knowledge.load(encoder, cache_dir=Settings().cache_dir)


@pytest.fixture(scope="session")
def say(environment: None) -> Callable[..., Reprompt]:
    """Words to their Reprompt, each asked once a session."""
    known: dict[tuple[str, str], Reprompt] = {}

    def answer(words: str, mode: str = "rewrite") -> Reprompt:
        if (words, mode) not in known:
            known[words, mode] = reprompt(words, mode=mode)  # pyright: ignore[reportArgumentType]
        return known[words, mode]

    return answer
