"""docs/api.md: its commands run, in their order, and there is one for every operation."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("api-plain")

DOCS = Path(__file__).parent.parent.parent.parent / "docs" / "api.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_operation_has_an_example(client):
    text = "\n".join(BLOCKS).replace("\\\n", " ")
    used = set()
    for command in re.findall(r"curl [^\n|]*(?:\n  -d [^\n|]*)*", text):
        path = re.search(r"localhost:8000(/[\w/$]+)", command)[1]
        path = re.sub(r"\$C?ID", "{id}", path).replace("takes/0", "takes/{number}").replace("/a/audio", "/{side}/audio")
        method = "post" if " -d " in command else "delete" if "-X DELETE" in command else "get"
        used.add((path, method))
    document = client.get("/schema/openapi.json").json()
    assert {(path, method) for path, item in document["paths"].items() for method in item} <= used


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_commands_run(serve, tmp_path):
    with serve() as server:
        script = "set -euo pipefail\n" + "\n".join(BLOCKS).replace("localhost:8000", f"127.0.0.1:{server.port}")
        # numbers of events are the database's
        script = script.replace("Last-Event-ID: 4", "Last-Event-ID: 1")
        run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert run.returncode == 0, run.stderr + run.stdout
        assert '"prompt": "Techno in B minor' in run.stdout
        assert "HTTP/1.1 202 Accepted" in run.stdout
        assert "event: status" in run.stdout
        assert "HTTP/1.1 206 Partial Content" in run.stdout
        assert (tmp_path / "rain.wav").read_bytes()[:4] == (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"
        assert "\n204\n" in run.stdout
        assert re.search(r'"order":"(ab|ba)"', run.stdout)
        assert '"pointer": "/tempo"' in run.stdout
