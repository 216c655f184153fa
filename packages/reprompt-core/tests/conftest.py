"""What the tests of reprompt-core share: the knowledge, and answers through the real pipeline."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from reprompt_core import Reprompt, Settings, embedded, reprompt
from reprompt_core.encoder import Encoder
from reprompt_core.knowledge import Knowledge

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def encoder(bundle: Path) -> Encoder:
    return Encoder(bundle, threads=1)


@pytest.fixture(scope="session")
def knowledge(encoder: Encoder) -> Knowledge:
    return Knowledge.load(encoder, cache_dir=Settings().cache_dir)


@pytest.fixture
def url(environment: None) -> Iterator[str]:
    """A new, empty database on the embedded server that the tests share."""
    server = embedded.start(Settings().data_dir)
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # pyright: ignore[reportArgumentType, reportCallIssue]
        yield f"postgresql://postgres:@/{name}?host={connection.info.host}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture(scope="session")
def say(environment: None) -> Callable[..., Reprompt]:
    """Words to their Reprompt, each asked once a session."""
    known: dict[tuple[str, str], Reprompt] = {}

    def answer(words: str, mode: str = "rewrite") -> Reprompt:
        if (words, mode) not in known:
            known[words, mode] = reprompt(words, mode=mode)  # pyright: ignore[reportArgumentType]
        return known[words, mode]

    return answer
