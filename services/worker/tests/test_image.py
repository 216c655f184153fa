"""The image, as far as it can be tried without a container engine: each step of its Dockerfile, run here."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "services/worker/Dockerfile"
SYNC = "uv sync --package reprompt-worker --no-dev --locked"


class Step(NamedTuple):
    stage: int
    instruction: str
    text: str


def steps() -> list[Step]:
    """The instructions of the Dockerfile, by stage."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    found: list[Step] = []
    stage = -1
    for line in filter(None, "\n".join(lines).replace("\\\n", " ").splitlines()):
        instruction, _, text = line.partition(" ")
        stage += instruction == "FROM"
        text = re.sub(r"--mount=\S+", "", text)
        found.append(Step(stage, instruction, re.sub(r"\s+", " ", text).strip()))
    return found


def all_of(instruction: str) -> list[str]:
    return [step.text for step in steps() if step.instruction == instruction]


def run_step(part: str) -> str:
    """The one RUN step that holds these words."""
    (text,) = [text for text in all_of("RUN") if part in text]
    return text


def shell(command: str, **how: Any) -> "subprocess.CompletedProcess[str]":
    """As an image's shell runs it."""
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=550, **how)


def copy_context(into: Path, sources: list[str]) -> None:
    """What COPY takes from the context, through the .dockerignore."""
    for source in sources:
        for path in [p for p in [ROOT / source, *(ROOT / source).rglob("*")] if p.is_file()]:
            name = path.relative_to(ROOT)
            if is_sent(str(name)):
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into / name)


def is_sent(name: str) -> bool:
    """Whether a file is part of the context: the last line of the .dockerignore that fits it decides."""
    sent = True
    for line in Path(f"{DOCKERFILE}.dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        parts = [name, *(str(parent) for parent in Path(name).parents)]
        if line and not line.startswith("#") and any(fnmatch(p, pattern.replace("**/", "*")) for p in parts):
            sent = line.startswith("!")
    return sent


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/app of the image while it is built."""
    folder = tmp_path_factory.mktemp("app")
    for text in [step.text for step in steps() if (step.stage, step.instruction) == (0, "COPY")]:
        copy_context(folder, text.split()[:-1])
    return folder


def synced(uv: str, command: str, context: Path, venv: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(venv), "UV_PYTHON": sys.executable}
    environment.pop("VIRTUAL_ENV", None)
    return shell(command.replace("uv ", f"{shlex.quote(uv)} ", 1), cwd=context, env=environment)


# -- the steps ---------------------------------------------------------------------------------------------------


def test_every_step_that_runs_something_is_run_below() -> None:
    known = ("pip install", "uv python install", "--no-install-workspace", "--no-editable", "useradd", "download")
    for text in all_of("RUN"):
        assert sum(part in text for part in known) == 1, text


def test_what_is_copied_is_there_and_nothing_else(context: Path) -> None:
    files = {str(p.relative_to(context)) for p in context.rglob("*") if p.is_file()}
    assert {"uv.lock", "services/worker/src/reprompt_worker/cli.py", "packages/reprompt-core/README.md"} <= files
    assert {name for name in files if name.startswith(("services/api", "packages/reprompt-eval"))} == {
        "services/api/pyproject.toml",
        "packages/reprompt-eval/pyproject.toml",
    }
    assert not [name for name in files if "test" in Path(name).parts[0] or "/tests/" in name or "__pycache__" in name]


def test_uv_is_a_release_that_can_be_installed_and_knows_the_python(tmp_path: Path) -> None:
    command = run_step("pip install")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    done = shell(command.replace("pip ", f"{tmp_path}/venv/bin/pip ", 1))
    assert done.returncode == 0, done.stderr
    uv = tmp_path / "venv/bin/uv"
    said = subprocess.run([uv, "--version"], check=True, capture_output=True, text=True).stdout
    assert said.split()[1] == command.rpartition("==")[2]
    version = run_step("uv python install").split()[-1]
    listed = [uv, "python", "list", "--all-versions", "--only-downloads", "--output-format", "json", version]
    found = json.loads(subprocess.run(listed, check=True, capture_output=True, text=True).stdout)
    assert {p["version"] for p in found} == {version}
    assert version.startswith((ROOT / ".python-version").read_text().strip())


def test_the_lock_gives_what_the_worker_needs_and_no_more(uv: str, context: Path, tmp_path: Path) -> None:
    first, second = run_step("--no-install-workspace"), run_step("--no-editable")
    assert first == f"{SYNC} --no-install-workspace"
    assert second == f"{SYNC} --no-editable"
    named: list[set[str]] = []
    for command in (first, second):
        done = synced(uv, f"{command} --dry-run", context, tmp_path / "venv")
        assert done.returncode == 0, done.stderr
        named.append(set(re.findall(r"^ \+ ([\w.-]+)", done.stderr, re.MULTILINE)))
    assert named[1] - named[0] == {"reprompt-core", "reprompt-gpu", "reprompt-worker"}
    assert {"torch", "transformers", "runpod", "procrastinate", "psycopg", "prometheus-client"} <= named[0]
    assert not named[1] & {"pytest", "ruff", "reprompt-eval", "reprompt-api", "litestar", "laion-clap", "playwright"}


def test_it_does_not_run_as_root() -> None:
    final = [step for step in steps() if step.stage == 1]
    user = run_step("useradd")
    assert re.search(r"useradd --uid [1-9]\d{4} .*\breprompt\b", user)
    order = [step.instruction if step.instruction == "USER" else step.text for step in final]
    assert ("USER", "reprompt") in [(step.instruction, step.text) for step in final]
    assert order.index("USER") < order.index(run_step("download"))  # the weights are the user's


def test_images_are_pinned() -> None:
    bases = [text.split()[0] for text in all_of("FROM")]
    assert [re.sub(r":.*", "", base) for base in bases] == ["python", "nvidia/cuda"]
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)


def test_a_model_is_put_into_the_image_with_its_commit_or_not_at_all(hub: Any, tmp_path: Path) -> None:
    command = run_step("download")
    (tmp_path / "reprompt-worker").write_text(f'#!/bin/sh\nexec {sys.executable} -m reprompt_worker "$@"\n')
    (tmp_path / "reprompt-worker").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HF_HUB_CACHE": str(hub.folder),
        "HF_HUB_OFFLINE": "1",
    }
    without = shell(command, env={**environment, "MODEL": "", "MODEL_REVISION": ""})
    assert (without.returncode, without.stdout) == (0, "")
    loose = shell(command, env={**environment, "MODEL": hub.model, "MODEL_REVISION": ""})
    assert loose.returncode != 0
    assert "give the commit of the model on the hub" in loose.stderr
    pinned = shell(command, env={**environment, "MODEL": hub.model, "MODEL_REVISION": hub.commit})
    assert pinned.returncode == 0, pinned.stderr
    assert pinned.stdout.strip().endswith(f"snapshots/{hub.commit}")
    assert "licence of the weights" in pinned.stderr


def test_what_it_starts_is_a_command_of_the_package() -> None:
    scripts = tomllib.loads((ROOT / "services/worker/pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    (entry,), (command,) = map(json.loads, all_of("ENTRYPOINT")), map(json.loads, all_of("CMD"))
    probe = json.loads(all_of("HEALTHCHECK")[0].rpartition("CMD ")[2])
    assert scripts[entry[0]] == "reprompt_worker.cli:main"
    assert probe[0] == entry[0]
    for name in (command[0], probe[1], "runpod"):
        shown = [sys.executable, "-m", "reprompt_worker", name, "--help"]
        assert "Usage" in subprocess.run(shown, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(os.environ.get("REPROMPT_SLOW") != "1", reason="installs several GB: set REPROMPT_SLOW=1")
def test_what_is_installed_starts_and_is_weighed(uv: str, context: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    for part in ("--no-install-workspace", "--no-editable"):
        done = synced(uv, run_step(part), context, venv)
        assert done.returncode == 0, done.stderr
    moved = context.rename(context.with_name("elsewhere"))  # it must need none of its sources
    try:
        done = subprocess.run([venv / "bin/reprompt-worker", "--help"], capture_output=True, text=True, cwd=tmp_path)
    finally:
        moved.rename(context)
    assert done.returncode == 0, done.stderr
    assert "healthcheck" in done.stdout
    size = sum(p.stat().st_size for p in venv.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"the environment: {size / 1e9:.2f} GB")
    assert size < 8e9, f"{size / 1e9:.2f} GB"


# -- compose -----------------------------------------------------------------------------------------------------


DOCKERFILES = {"api": "Dockerfile", "worker": "services/worker/Dockerfile"}


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def test_compose_holds_no_secret_and_says_what_is_missing() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    for line in text.splitlines():
        if re.search(r"PASSWORD|KEYS", line) and not line.lstrip().startswith("#"):
            assert re.search(r"\$\{\w+:\?[^}]+\}", line), line
    assert compose()["services"]["database"]["image"] == "pgvector/pgvector:0.8.2-pg18-trixie"


def test_compose_starts_things_in_their_order_and_again() -> None:
    services = compose()["services"]
    assert set(services) == {"database", "api", "worker"}
    assert all(service["restart"] == "always" for service in services.values())
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {"database": {"condition": "service_healthy"}}
        assert services[name]["volumes"] == ["data:/data"]
        assert services[name]["environment"]["REPROMPT_AUDIO_URL"] == "${REPROMPT_AUDIO_URL:-}"
        build = services[name]["build"]
        image = (ROOT / (build if isinstance(build, str) else ".") / DOCKERFILES[name]).read_text("utf-8")
        # one user writes what the other deletes, into a volume that takes its owner from the image
        assert re.search(r"useradd --uid 10001 .*reprompt && install .*/data", image)
        assert "REPROMPT_DATA_DIR=/data" in image
        assert "HEALTHCHECK" in image
    assert services["database"]["volumes"] == ["database:/var/lib/postgresql"]  # PostgreSQL 18's place
    # an address holds what the password has: nothing that must be escaped
    assert "openssl rand -hex" in services["database"]["environment"]["POSTGRES_PASSWORD"]


def test_compose_gives_a_worker_the_time_to_drain() -> None:
    from reprompt_core import Settings

    grace = compose()["services"]["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings().drain_s
