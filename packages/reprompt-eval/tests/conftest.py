"""What the tests of reprompt-eval share: small checkpoints of CLAP, made once."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ClapModel of random weights, small, as transformers saves it."""
    from experiments import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("clap") / "music", seed=1)
