"""The Dockerfile, followed step by step in a folder: what it installs, what that weighs, and that it answers."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

pytestmark = pytest.mark.xdist_group("api-image")

ROOT = Path(__file__).parent.parent.parent.parent
API = ROOT / "services" / "api"
MOST_MB = 400
KEY = "key-of-ada-1c9e4b7d2f60"
ABSENT = ("torch", "transformers", "sentence_transformers", "runpod", "laion_clap", "pip")


def uv():
    found = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/bin/uv")
    assert Path(found).exists(), "uv is needed: `make test` brings it"
    return found


def instructions():
    """(name, argument) of each instruction, by stage."""
    text = (API / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found = [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]
    stages = [index for index, (name, _) in enumerate(found) if name == "FROM"]
    return [found[start:end] for start, end in zip(stages, [*stages[1:], None], strict=True)]


def megabytes(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


@pytest.fixture(scope="module")
def image(tmp_path_factory, bundle):
    """A folder that is the root of the image, as far as its steps say: (folder, environment, what is run)."""
    root = tmp_path_factory.mktemp("image")
    context = tmp_path_factory.mktemp("context")
    # `make build-reprompt` into another folder, without the environment's own steps
    command = ["make", "-o", "sync", "-o", "build/encoder/encoder.json", "build-reprompt", f"WHEELS={context}/wheels"]
    subprocess.run([*command, f"UV={uv()}"], cwd=ROOT, check=True, capture_output=True)
    build, final = instructions()

    def placed(text):
        return re.sub(r"(?<![\w.])/(wheels|opt|data)\b", rf"{root}/\1", text)

    def copy(argument):
        source, target = argument.split()
        shutil.copytree(context / source, Path(placed(target)), dirs_exist_ok=True)

    (root / "opt").mkdir()
    for name, argument in build:
        if name == "COPY":
            copy(argument)
        if name == "RUN":
            run = placed(argument)
            run = re.sub(r"^python ", f"{sys.executable} ", run)
            # uv's pip, which keeps what it downloaded: the same packages, hashes and flags
            run = re.sub(r"^pip --python (\S+) install --no-cache-dir", rf"{uv()} pip install --quiet --python \1", run)
            done = subprocess.run(["bash", "-ec", run], capture_output=True, text=True, cwd=root, check=False)
            assert done.returncode == 0, f"{run}\n{done.stderr[-3000:]}"
    environment = {}
    for name, argument in final:
        if name == "COPY":
            stage, source, target = argument.split()
            assert stage == "--from=build"
            if source != target:  # else it is there already
                shutil.copytree(placed(source), placed(target))
        if name == "ENV":
            environment.update(pair.split("=", 1) for pair in shlex.split(placed(argument)))
    return root, environment, dict(final)


def test_it_is_light(image):
    root, environment, _ = image
    installed = megabytes(root / "opt" / "reprompt")
    encoder = megabytes(Path(environment["REPROMPT_ENCODER"]))
    print(f"installed {installed:.0f} MB, encoder {encoder:.0f} MB")
    assert installed + encoder <= MOST_MB
    code = f"import importlib.util as u, json; print(json.dumps([m for m in {ABSENT!r} if u.find_spec(m)]))"
    python = root / "opt" / "reprompt" / "bin" / "python"
    out = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_it_is_what_the_lock_says(image):
    root, _, _ = image
    locked = re.findall(r"^([\w.-]+)==(\S+) ;", (root / "wheels" / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    listed = subprocess.run(
        [uv(), "pip", "list", "--format", "json", "--python", str(root / "opt" / "reprompt" / "bin" / "python")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    installed = {(p["name"], p["version"]) for p in json.loads(listed.stdout)}
    assert installed <= {*locked, ("reprompt-core", "0.1.0"), ("reprompt-api", "0.1.0")}


def test_it_does_not_run_as_root_and_says_how_it_is():
    _, final = instructions()
    steps = dict(final)
    assert steps["USER"] == "10001"
    assert "useradd --uid 10001 " in steps["RUN"]  # the embedded database wants a name for it
    assert steps["EXPOSE"] == "8000"
    assert steps["STOPSIGNAL"] == "SIGTERM"
    assert "/readyz" in steps["HEALTHCHECK"]
    names = [name for name, _ in final]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in {"RUN", "COPY"})
    assert not [argument for name, argument in final if name == "ENV" and "KEY" in argument]


def test_it_answers(image, scratch):
    root, environment, steps = image
    data = scratch / "image"
    (scratch / "home").mkdir(exist_ok=True)
    command = json.loads(steps["CMD"])
    check = json.loads(steps["HEALTHCHECK"].partition("CMD")[2].strip())
    settings = {
        **environment,
        "PATH": environment["PATH"].replace("$PATH", os.environ["PATH"]),
        "HOME": str(scratch / "home"),
        "REPROMPT_DATA_DIR": str(data),
        "REPROMPT_CACHE_DIR": str(data / "cache"),
        "REPROMPT_API_PORT": "0",
    }
    program = str(root / "opt" / "reprompt" / "bin" / command[0])
    keyless = subprocess.run([program], env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert keyless.returncode == 1
    assert "REPROMPT_API_KEYS" in keyless.stderr

    with subprocess.Popen(
        [program], env={**settings, "REPROMPT_API_KEYS": f"ada:{KEY}"}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            told = re.search(r"http://0\.0\.0\.0:(\d+)/", process.stderr.readline())
            port = told[1]
            client = httpx2.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60
            )
            give_up = time.monotonic() + 60
            ready = False
            while not ready and time.monotonic() < give_up:
                ready = client.get("/readyz").status_code == 200
            # a proxy for what goes out of the container is not asked about what is in it
            here = {**settings, "REPROMPT_API_PORT": port, "http_proxy": "http://127.0.0.1:9"}
            assert subprocess.run(check, env=here, check=False).returncode == 0
            prompt = client.post("/v1/prompts", json={"words": "a bowl of spicy ramen under neon signs"}).json()
            assert "BPM" in prompt["prompt"]
            asked = {"words": "slow rain", "seconds": 1, "generator": "preview"}
            made = client.post("/v1/generations", json=asked, headers={"Prefer": "wait=30"}).json()
            assert made["status"] == "succeeded"
            assert client.get(made["takes"][0]["audio"]).content.startswith(b"RIFF")
            assert b"<html" in client.get("/").content
        finally:
            process.terminate()
            rest = process.communicate(timeout=30)[1]
        assert process.returncode == 0
        assert KEY not in rest
        # ONNX Runtime would keep an id of the device there, and tell its makers of each run
        assert list((scratch / "home").iterdir()) == []
    unhealthy = subprocess.run(check, env=here, capture_output=True, check=False)
    assert unhealthy.returncode != 0


def test_without_what_is_built_it_says_what_to_do(tmp_path):
    (step,) = (argument for name, argument in instructions()[0] if name == "RUN" and "make build-reprompt" in argument)
    run = subprocess.run(
        ["sh", "-ec", step.replace("/wheels", str(tmp_path))], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == "First: make build-reprompt\n"
