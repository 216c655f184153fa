"""The workspace as a whole: who depends on whom, one version, and the wheel that the API image installs."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MEMBERS = sorted(p.parent for p in ROOT.glob("*/*/pyproject.toml"))
HEAVY = {"torch", "transformers", "sentence-transformers", "runpod", "laion-clap"}
ARROWS = {
    "reprompt_core": set(),
    "reprompt_gpu": set(),
    "reprompt_eval": {"reprompt_core"},
    "reprompt_api": {"reprompt_core"},
    "reprompt_worker": {"reprompt_core", "reprompt_gpu"},
}


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def uv() -> str:
    found = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/bin/uv")
    assert Path(found).exists(), "uv is needed: `make test` brings it"
    return found


def locked_closure(name: str) -> set[str]:
    """Every package that the lock installs for a member without its extras and dev group."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    packages = {p["name"]: p for p in lock["package"]}
    seen: set[tuple[str, str]] = set()
    todo = [(name, "")]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        package = packages[current[0]]
        wanted = package.get("optional-dependencies", {}).get(current[1], []) if current[1] else []
        for dependency in [*package.get("dependencies", []), *wanted]:
            todo += [(dependency["name"], extra) for extra in ["", *dependency.get("extra", [])]]
    return {package for package, _ in seen}


def test_all_members_exist() -> None:
    assert [project(m)["name"] for m in MEMBERS] == [
        "reprompt-core",
        "reprompt-eval",
        "reprompt-gpu",
        "reprompt-api",
        "reprompt-worker",
    ]


def test_api_stays_light() -> None:
    closure = locked_closure("reprompt-api")
    assert "reprompt-core" in closure
    assert "onnxruntime" in closure
    assert not closure & HEAVY


def test_the_extra_is_where_torch_comes_from() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    core = next(p for p in lock["package"] if p["name"] == "reprompt-core")
    assert "sentence-transformers" in {d["name"] for d in core["optional-dependencies"]["sentence-transformers"]}


def test_members_share_one_version_and_pin_it() -> None:
    versions = {project(m)["version"] for m in MEMBERS}
    assert len(versions) == 1
    version = versions.pop()
    for member in MEMBERS:
        for dependency in project(member).get("dependencies", []):
            if dependency.startswith("reprompt-"):
                assert dependency.split("==")[1:] == [version], (member.name, dependency)


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_imports_follow_the_arrows(package: str) -> None:
    (source,) = ROOT.glob(f"*/*/src/{package}")
    imported: set[str] = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    ours = {name for name in imported if name.startswith("reprompt_")} - {package}
    assert ours <= ARROWS[package]


def test_nobody_hides_a_machine_in_a_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if name.endswith((".lock", ".npz")) or not (ROOT / name).is_file():
            continue
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(r"(?<![\w.])/(root|home/\w+|Users/\w+)/", text), name


def test_make_help_lists_the_commands() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    listed = {line.split()[0] for line in out.splitlines()}
    assert {
        "demo", "test", "help", "lint", "format", "types", "bench", "build", "build-reprompt", "clean",
    } <= listed  # fmt: skip


# -- the wheel ---------------------------------------------------------------------------------------------------


def build_wheel(folder: Path) -> Path:
    subprocess.run(
        [uv(), "build", "--quiet", "--wheel", "--package", "reprompt-core", "--out-dir", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.xdist_group("wheel")
def test_wheel_holds_what_it_should(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    for needed in (
        "pipeline.py", "settings.py", "py.typed", "knowledge/foods.csv", "knowledge/captions.csv",
        "knowledge/correspondences.csv", "knowledge/vectors.npz", "sql/queries.sql", "sql/0001_captions.sql",
        "generation/__init__.py", "sql/0002_model_answers.sql", "refining/templates/system.md",
        "refining/templates/repair.md", "refining/single_tokens.txt", "knowledge/prompt_words.txt",
    ):  # fmt: skip
        assert f"reprompt_core/{needed}" in names
    assert not [n for n in names if "test_" in n or "conftest" in n or "musicgen" in n.lower() or "clap" in n.lower()]
    required = re.findall(r"^Requires-Dist: ([\w-]+)([^\n]*)", metadata, re.MULTILINE)
    plain = {name for name, rest in required if "extra ==" not in rest}
    assert {"openai", "psycopg"} <= plain
    assert not plain & HEAVY
    assert "sentence-transformers" in {name for name, rest in required if "extra ==" in rest}


@pytest.mark.xdist_group("wheel")
def test_two_builds_are_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    again = build_wheel(tmp_path)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.xdist_group("wheel")
def test_the_wheel_alone_answers_in_a_clean_environment(wheel: Path, tmp_path: Path, bundle: Path) -> None:
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    subprocess.run([uv(), "pip", "install", "--quiet", "--python", str(python), str(wheel)], check=True)
    code = (
        "import json, sys\n"
        "from reprompt_core.pipeline import transform\n"
        "prompt = transform('a bowl of spicy ramen under neon signs')\n"
        "loaded = [m for m in ('torch', 'transformers', 'sentence_transformers', 'runpod', 'scipy', 'openai')"
        " if m in sys.modules]\n"
        "print(json.dumps([prompt, loaded]))"
    )
    environment = {**os.environ, "REPROMPT_ENCODER": str(bundle)}
    out = subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    prompt, loaded = json.loads(out.stdout)
    assert "BPM" in prompt
    assert loaded == []
