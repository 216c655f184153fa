"""What every test of the workspace stands on: a clean environment, one encoder bundle, one embedded database."""

import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# a job that was started in the background ignores Ctrl-C, and so would every process that the tests start
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent
BUNDLE = ROOT / "build" / "encoder"
# librosa's compiled functions are cached on disk; two workers that write one cache at once crash each other
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / "build" / f"numba-{os.environ.get('PYTEST_XDIST_WORKER', 'one')}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file run in one worker, where they share what was made for them; the longest files come early."""
    items.sort(key=lambda item: str(item.path), reverse=True)  # services, with their waits, before the rest
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The int8 encoder bundle, built once for the checkout; workers that run side by side wait for the first."""
    from reprompt_core.encoder import DEFAULT_MODEL, Encoder
    from reprompt_core.encoder_build import build
    from reprompt_core.errors import EncoderError

    BUNDLE.parent.mkdir(exist_ok=True)
    with (BUNDLE.parent / "encoder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            Encoder(BUNDLE)
        except EncoderError:  # none yet, or of an earlier format
            build(DEFAULT_MODEL, BUNDLE, offline=True)
    return BUNDLE


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder outside any home for embedded databases; their server is stopped and the folder removed at the end."""
    from reprompt_core import embedded

    folder = Path(tempfile.mkdtemp(prefix="reprompt-tests-"))
    folder.chmod(0o755)
    yield folder
    embedded.stop(folder / "data")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def environment(bundle: Path, scratch: Path) -> Iterator[None]:
    """REPROMPT_* of the person who runs the tests do not reach them; the tests' own do, in child processes too."""
    kept = {k: v for k, v in os.environ.items() if k.startswith("REPROMPT_")}
    for name in kept:
        del os.environ[name]
    os.environ.update(
        REPROMPT_ENCODER=str(bundle),
        REPROMPT_DATA_DIR=str(scratch / "data"),
        REPROMPT_CACHE_DIR=str(scratch / "cache"),
        REPROMPT_OFFLINE="1",
    )
    yield
    for name in [n for n in os.environ if n.startswith("REPROMPT_")]:
        del os.environ[name]
    os.environ.update(kept)
