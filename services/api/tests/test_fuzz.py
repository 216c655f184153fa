"""Schemathesis against a server: no fault, no answer that is not described, nothing accepted that should not be.

A short run; `make fuzz-api` asks far more of every operation (FUZZ_EXAMPLES), and of all phases (FUZZ_PHASES).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("api-fuzz")

HERE = Path(__file__).parent


def test_schemathesis(serve, tmp_path):
    examples = os.environ.get("FUZZ_EXAMPLES", "8")
    phases = os.environ.get("FUZZ_PHASES", "examples,fuzzing,stateful")
    seed = os.environ.get("FUZZ_SEED", "1")
    with serve(REPROMPT_API_DEADLINE_S="60") as server:
        command = [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.url}/schema/openapi.json",
            # DELETE of what waits or runs cancels it, and it is there still
            "--checks", "all", "--exclude-checks", "use_after_free", "--max-response-time", "60",
            "--phases", phases, "--max-examples", examples, "--seed", seed, "--request-timeout", "60",
            "--continue-on-failure", "--report-dir", str(tmp_path), "--suppress-health-check", "all",
        ]  # fmt: skip
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "fuzz_hooks", "PYTHONPATH": str(HERE), "NO_COLOR": "1"}
        before = server.memory_mb()
        run = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
        print(run.stdout[-20_000:], run.stderr[-2000:])  # what it found, when it fails
        assert run.returncode == 0, run.stdout[-6000:]
        assert "No issues found" in run.stdout
        faults = [
            line for line in server.lines() if line["event"] in {"fault", "broken off"} or line["level"] == "error"
        ]
        assert faults == []
        print(f"memory: {before:.0f} MB before, {server.memory_mb():.0f} MB after")
