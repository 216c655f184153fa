"""The files of a checkpoint: damaged, hostile, in pieces, or on the hub."""

import io
import json
import pickle
import shutil
import socket
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from reprompt_gpu import checkpoint_files
from reprompt_gpu.errors import CheckpointError
from reprompt_gpu.weights import load
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_tokenizer

WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
HEAD = "decoder.lm_heads.0.weight"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint in one file and in several, to be copied."""
    made = tmp_path_factory.mktemp("saved")
    model = tiny_model()
    model.save_pretrained(made / "tiny-musicgen")
    model.save_pretrained(made / "shards", max_shard_size="100KB")
    return made


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint of the test's own."""
    return Path(shutil.copytree(saved / "tiny-musicgen", tmp_path / "tiny-musicgen"))


@pytest.fixture
def shards(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint in several files."""
    return Path(shutil.copytree(saved / "shards", tmp_path / "shards"))


@pytest.fixture
def pickled(folder: Path) -> Path:
    """A checkpoint of a time before safetensors."""
    torch.save(OrderedDict(load_file(folder / WEIGHTS)), folder / PICKLED)
    (folder / WEIGHTS).unlink()
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


def refusal(source: str | Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as e:
        load(source, **options)
    return str(e.value)


# safetensors


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_file_that_was_cut_off_is_named(kept: float, folder: Path) -> None:
    path = folder / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert f"{path} is damaged or not complete" in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>" * 100, b"\xff" * 100, b"version https://git-lfs.github.com/spec"]
)
def test_a_file_of_something_else_is_named(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    assert WEIGHTS in refusal(folder)


def test_no_weights_at_all(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "holds no weights" in refusal(folder)


# Shards


def test_a_missing_shard_is_named(shards: Path) -> None:
    gone = sorted(shards.glob("*.safetensors"))[1]
    gone.unlink()
    assert f"{gone} is missing" in refusal(shards)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/outside.safetensors", "..", ""])
def test_an_index_cannot_lead_outside(name: str, shards: Path) -> None:
    index = shards / f"{WEIGHTS}.index.json"
    content = json.loads(index.read_text())
    moved = content["weight_map"][HEAD]
    shutil.copy(shards / moved, shards.parent / "outside.safetensors")
    content["weight_map"] = {n: name if f == moved else f for n, f in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    message = refusal(shards)
    assert "not a file beside it" in message or "is missing" in message


@pytest.mark.parametrize("content", [{}, {"weight_map": [HEAD]}, {"weight_map": {HEAD: 1}}])
def test_an_index_that_says_nothing_is_refused(content: dict[str, Any], shards: Path) -> None:
    (shards / f"{WEIGHTS}.index.json").write_text(json.dumps(content))
    assert "does not say which tensor is in which file" in refusal(shards)


def test_a_shard_of_another_format_is_named(shards: Path) -> None:
    path = shards / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][HEAD] = "model.gguf"
    path.write_text(json.dumps(index))
    (shards / "model.gguf").write_bytes(b"GGUF")
    assert "model.gguf is neither .safetensors nor .bin" in refusal(shards)


def test_a_tensor_in_two_shards_is_named(shards: Path) -> None:
    index = json.loads((shards / f"{WEIGHTS}.index.json").read_text())
    other = next(file for file in index["weight_map"].values() if file != index["weight_map"][HEAD])
    tensors = {n: t.clone() for n, t in load_file(shards / other).items()}
    save_file({**tensors, HEAD: torch.zeros(64, 32)}, shards / other)
    assert f"{HEAD} is in " in refusal(shards)


def test_an_index_of_other_shards_is_refused(shards: Path) -> None:
    path = shards / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["decoder.lm_heads.9.weight"] = index["weight_map"][HEAD]
    path.write_text(json.dumps(index))
    assert "among them decoder.lm_heads.9.weight" in refusal(shards)


# Pickles


def test_a_pickle_of_tensors_is_read(pickled: Path) -> None:
    stored = tiny_model().decoder.lm_heads[0].weight
    assert torch.equal(load(pickled).decoder["lm_heads.0.weight"], stored)


def test_a_pickle_of_parameters_is_not_trained(pickled: Path) -> None:
    tensors = torch.load(pickled / PICKLED)
    torch.save({n: torch.nn.Parameter(t) for n, t in tensors.items()}, pickled / PICKLED)
    checkpoint = load(pickled)
    assert not any(t.requires_grad for t in [*checkpoint.decoder.values(), *checkpoint.codec.parameters()])


def test_pickles_in_shards_are_read(pickled: Path) -> None:
    tensors = torch.load(pickled / PICKLED)
    (pickled / PICKLED).unlink()
    files = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    places = {name: files[i % 2] for i, name in enumerate(tensors)}
    for file in files:
        torch.save({n: t for n, t in tensors.items() if places[n] == file}, pickled / file)
    (pickled / f"{PICKLED}.index.json").write_text(json.dumps({"weight_map": places}))
    assert load(pickled).config.hidden == 32


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("form", ["zip", "before 1.6", "plain"])
def test_a_hostile_pickle_is_refused_and_does_not_run(form: str, pickled: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    content = {**torch.load(pickled / PICKLED), "more": Hostile(mark)}
    buffer = io.BytesIO()
    if form == "plain":
        pickle.dump(content, buffer)
    else:
        torch.save(content, buffer, _use_new_zipfile_serialization=form == "zip")
    (pickled / PICKLED).write_bytes(buffer.getvalue())
    assert "could run code of its own" in refusal(pickled)
    assert not mark.exists()
    if form == "zip":  # it would have
        torch.load(pickled / PICKLED, weights_only=False)
        assert mark.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(2)}, torch.zeros(2)])
def test_a_pickle_of_something_else_is_refused(content: Any, pickled: Path) -> None:
    torch.save(content, pickled / PICKLED)
    assert "tensors by name" in refusal(pickled)


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_pickle_that_was_cut_off_is_named(kept: float, pickled: Path) -> None:
    content = (pickled / PICKLED).read_bytes()
    (pickled / PICKLED).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert PICKLED in refusal(pickled)


@pytest.mark.parametrize("content", [b"", b"\x80\x02J\x00", b"\x80\x02(Q."], ids=["EOFError", "struct.error", "else"])
def test_a_damaged_pickle_is_named(content: bytes, pickled: Path) -> None:
    path = pickled / PICKLED
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as damaged:
        for name, part in parts.items():
            damaged.writestr(name, content if name.endswith("data.pkl") else part)
    assert f"{path} was refused" in refusal(pickled)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_sparse_tensors_are_refused(pickled: Path) -> None:
    tensors = torch.load(pickled / PICKLED)
    torch.save({**tensors, HEAD: tensors[HEAD].to_sparse()}, pickled / PICKLED)
    message = refusal(pickled)
    assert f"{HEAD} is torch.float32 (torch.sparse_coo)" in message


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not say what is mapped")
@pytest.mark.parametrize("kind", ["folder", "pickled"])
def test_tensors_are_mapped_from_the_file_and_not_copied(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    checkpoint = load(folder)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    files = (str(folder / WEIGHTS), str(folder / PICKLED))
    mapped = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines if line[-1] in files]
    modules = (checkpoint.text_encoder, checkpoint.codec)
    for tensor in [*checkpoint.decoder.values(), *(p for m in modules for p in m.parameters())]:
        assert any(start <= tensor.data_ptr() < end for start, end in mapped)


def test_safetensors_are_preferred(folder: Path) -> None:
    (folder / PICKLED).write_bytes(b"never read")
    assert load(folder).config.hidden == 32


# Folders


def test_what_is_no_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr(checkpoint_files, "snapshot_download", never)
    assert "There is no folder" in refusal(folder / "none")
    assert "There is no folder" in refusal(str(folder / "none"))
    assert "There is no folder" in refusal("./none")
    assert "is a file" in refusal(folder / "config.json")
    assert "has no revision 'main'" in refusal(folder, revision="main")
    assert "There is no folder" in refusal("a" * 300)  # longer than a file's name can be
    for wrong in (None, 5, b"folder", "", "a" * 5000):
        says = f"a folder or an id of the Hugging Face hub, not {repr(wrong)[:60]}"
        assert says in refusal(wrong)  # pyright: ignore[reportArgumentType]


def test_a_relative_folder_has_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load(".").name == "tiny-musicgen"


# The hub


def test_offline_nothing_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(*args: Any, **_: Any) -> Any:
        asked.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    message = refusal("facebook/musicgen-small", offline=True)
    assert "facebook/musicgen-small is not a folder, nor complete in the cache" in message
    assert "v1" in refusal("facebook/musicgen-small", revision="v1", offline=True)
    assert not asked


def test_the_cache_of_the_hub_is_used_offline(cache: Path, folder: Path) -> None:
    tiny_tokenizer().save_pretrained(folder)
    model = cache / "models--someone--tiny"
    shutil.copytree(folder, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    checkpoint = load("someone/tiny", offline=True)
    assert (checkpoint.name, checkpoint.revision) == ("someone/tiny", COMMIT)
    assert checkpoint.tokenizer is not None


@pytest.fixture
def answer() -> list[Any]:
    """The status and the error code of a hub's answers."""
    return [404, "RepoNotFound"]


@pytest.fixture
def hub(answer: list[Any], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that has no model; the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answer[0])
            self.send_header("X-Error-Code", answer[1])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "happened", "do"),
    [
        (404, "RepoNotFound", "has none of this name that it would show you", "Check the name"),
        (404, "RevisionNotFound", "it is not there", "Look up the branch, tag or commit"),
        (403, "GatedRepo", "only to those who accepted its terms", "log in by `hf auth login`"),
        (400, "", "could not be downloaded from the Hugging Face hub (BadRequestError", "try again, or give a folder"),
    ],
)
def test_a_model_that_the_hub_does_not_give(
    status: int, code: str, happened: str, do: str, answer: list[Any], hub: list[str]
) -> None:
    answer[:] = [status, code]
    first, second = refusal("someone/none", revision="v1").splitlines()
    assert first.startswith("someone/none at revision 'v1' is not a folder, and")
    assert happened in first
    assert do in second
    assert any("someone/none" in path for path in hub)


def test_a_hub_that_is_not_reached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    first, second = refusal("someone/none").splitlines()
    assert "someone/none is not a folder, and it could not be downloaded" in first
    assert "ConnectError" in first
    assert "snapshot folder" not in first  # of the cache, which the client speaks of instead
    assert second == "Check the connection and try again, or give a folder that holds the model."


@pytest.mark.parametrize("safe", [True, False])
def test_only_what_is_needed_is_downloaded(
    safe: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tokenizer().save_pretrained(folder)
    torch.save(dict(load_file(folder / WEIGHTS)), folder / PICKLED)
    if not safe:
        (folder / WEIGHTS).unlink()
    for other in ("state_dict.bin", "compression_state_dict.bin", "README.md", "sample.wav", "flax_model.msgpack"):
        (folder / other).write_bytes(b"not asked for")
    local = tmp_path / COMMIT
    local.mkdir()

    def download(name: str, *, revision: str | None, local_files_only: bool, allow_patterns: list[str]) -> str:
        assert (name, revision, local_files_only) == ("someone/tiny", "v1", False)
        files = [file.name for file in folder.iterdir()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            shutil.copy(folder / file, local / file)
        return str(local)

    monkeypatch.setattr(checkpoint_files, "snapshot_download", download)
    checkpoint = load("someone/tiny", revision="v1")
    assert (checkpoint.name, checkpoint.revision) == ("someone/tiny", COMMIT)
    assert {file.name for file in local.iterdir()} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        WEIGHTS if safe else PICKLED,
    }
