"""Captions encoded with torch: the vectors of the bundle's own model, in a corpus and anew, or one clear line.

Tolerances: float32 with torch against int8 with ONNX Runtime, mean cosine > .98 (measured: .9905 on the captions that
ship); what is stored against what was encoded, > .9999, which int8 does not reach.
"""

import asyncio
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from reprompt_core import EncoderError, Pipeline, Settings, SettingsError, encoder_build, torch_encoder
from reprompt_core.cli import app
from reprompt_core.corpora.store import Corpora
from reprompt_core.encoder import DEFAULT_MODEL, MANIFEST, Encoder
from reprompt_core.knowledge.loader import load_caption_texts
from reprompt_core.torch_encoder import TorchEncoder
from typer.testing import CliRunner

FEWER = "DELETE FROM reprompt.captions WHERE corpus_id = 1 AND id % 20 <> 0"  # of those that ship, to be quick
TEXTS = ["Glassy theremin choirs over a frozen harbour at midnight", *load_caption_texts()[:30:3]]


@pytest.fixture(scope="module")
def on_cpu(encoder: Encoder) -> TorchEncoder:
    return TorchEncoder(encoder, device="cpu", offline=True)


@pytest.fixture
def cuda() -> str:
    import torch  # seconds: not while tests are collected

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return "cuda"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with (tmp_path / "mine.csv").open("w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows([("caption",), *((t,) for t in TEXTS)])
    return tmp_path / "mine.csv"


def with_corpora(url: str, work: Callable[[Pipeline, Corpora], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Pipeline(Settings(database_url=url)) as pipeline:
            await work(pipeline, Corpora.of(pipeline))

    asyncio.run(run())


async def execute(pipeline: Pipeline, sql: str) -> None:
    async with pipeline.database.connection() as connection:
        await connection.execute(sql)  # pyright: ignore[reportArgumentType, reportCallIssue]


async def stored(pipeline: Pipeline, corpus: str) -> "tuple[list[str], np.ndarray[Any, Any]]":
    """The captions of a corpus and their vectors."""
    sql = (
        "SELECT text, embedding::text FROM reprompt.captions JOIN reprompt.corpora c ON c.id = corpus_id "
        "WHERE name = %s ORDER BY captions.id"
    )
    async with pipeline.database.connection() as connection:
        rows = await (await connection.execute(sql, (corpus,))).fetchall()
    return [t for t, _ in rows], np.array([json.loads(v) for _, v in rows])


def like(vectors: Any, encoder: Encoder | TorchEncoder, texts: list[str]) -> float:
    """The smallest cosine of vectors to those that the encoder makes."""
    return float((vectors * encoder.encode(texts)[0]).sum(1).min())


def says_one_line(error: BaseException, *parts: str) -> None:
    said = str(error)
    assert "\n" not in said
    for part in (*parts, " out."):  # the way out: leave the device out
        assert part in said, said


# -- vectors -------------------------------------------------------------------------------------------------------


def test_the_vectors_are_those_of_the_bundle(on_cpu: TorchEncoder, encoder: Encoder) -> None:
    texts = load_caption_texts()[:100]
    vectors, cut = on_cpu.encode(texts)
    assert (vectors.shape, vectors.dtype, cut) == ((100, 384), np.float32, [])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors * encoder.encode(texts)[0]).sum(1).mean() > 0.98
    for fact in ("fingerprint", "dimensions", "model", "max_length"):
        assert getattr(on_cpu, fact) == getattr(encoder, fact)


def test_a_processor_has_full_precision(on_cpu: TorchEncoder) -> None:
    import torch

    assert {p.dtype for p in on_cpu._model.parameters()} == {torch.float32}  # pyright: ignore[reportPrivateUsage]


def test_whatever_the_model_gives_becomes_float32_of_unit_length(
    on_cpu: TorchEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def halves(texts: list[str], **how: Any) -> Any:
        asked.update(how)
        return np.full((len(texts), 384), 0.3, np.float16)

    monkeypatch.setattr(on_cpu._model, "encode", halves)  # pyright: ignore[reportPrivateUsage]
    vectors, _ = on_cpu.encode(["rain", "snow"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert asked["batch_size"] == 32


def test_a_prompt_of_the_model_is_left_out_as_the_bundle_leaves_it_out(
    on_cpu: TorchEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = on_cpu.encode(["rain"])
    model = on_cpu._model  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(model, "prompts", {"query": "search for: "})
    monkeypatch.setattr(model, "default_prompt_name", "query")
    np.testing.assert_array_equal(on_cpu.encode(["rain"])[0], before)


def test_every_text_keeps_its_place(on_cpu: TorchEncoder) -> None:
    # more than a run of the model, long and short ones by turns: each run takes texts of like length
    texts = [" ".join(["slow rain"] * (i % 7)) + f" number {i}" for i in range(70)]
    alone = np.concatenate([on_cpu.encode([t])[0] for t in texts[:12]])
    np.testing.assert_allclose(on_cpu.encode(texts)[0][:12], alone, atol=1e-5)


def test_the_same_texts_are_cut(on_cpu: TorchEncoder, encoder: Encoder) -> None:
    start = "rain " * 254  # with the opening and closing tokens: 256
    texts = ["rain", start, start + "and a loud brass band", "🎸", "", start * 3]
    vectors, cut = on_cpu.encode(texts)
    assert cut == encoder.encode(texts)[1] == [2, 5]
    assert float(vectors[1] @ vectors[2]) > 0.9999


def test_no_texts_give_no_vectors(on_cpu: TorchEncoder) -> None:
    vectors, cut = on_cpu.encode([])
    assert (vectors.shape, vectors.dtype, cut) == ((0, 384), np.float32, [])


def test_the_bundle_says_where_texts_are_cut(bundle: Path, tmp_path: Path) -> None:
    short = TorchEncoder(Encoder(altered(bundle, tmp_path, max_length=8)), device="cpu", offline=True)
    vectors, cut = short.encode(["one two three four five six", "one two three four five six seven eight"])
    assert cut == [1]
    assert float(vectors[0] @ vectors[1]) > 0.9999


# -- corpora -------------------------------------------------------------------------------------------------------


def test_a_corpus_is_encoded_on_a_device_and_searched_without(
    url: str, file: Path, on_cpu: TorchEncoder, encoder: Encoder
) -> None:
    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        assert (await corpora.add(file, name="mine", license="CC0", device="cpu")).added == len(TEXTS)
        texts, vectors = await stored(pipeline, "mine")
        assert texts == TEXTS
        assert like(vectors, on_cpu, texts) > 0.9999 > like(vectors, encoder, texts)
        answer = await pipeline.reprompt("a theremin over the frozen harbour at midnight")
        assert (answer.captions[0].corpus, answer.captions[0].text) == ("mine", TEXTS[0])

    with_corpora(url, work)


def test_every_caption_is_encoded_anew_on_a_device(
    url: str, file: Path, on_cpu: TorchEncoder, encoder: Encoder
) -> None:
    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        await corpora.add(file, name="mine", license="CC0")
        await execute(pipeline, FEWER)
        _, vectors = await stored(pipeline, "mine")
        assert like(vectors, encoder, TEXTS) > 0.9999
        shipped, _ = await stored(pipeline, "reprompt")
        assert await pipeline.database.reembed(on_cpu) == len(TEXTS) + len(shipped)
        texts, vectors = await stored(pipeline, "mine")
        assert like(vectors, on_cpu, texts) > 0.9999 > like(vectors, encoder, texts)

    with_corpora(url, work)

    async def search(pipeline: Pipeline, _: Corpora) -> None:  # by a pipeline that opens on those vectors
        answer = await pipeline.reprompt("a theremin over the frozen harbour at midnight")
        assert (answer.captions[0].corpus, answer.captions[0].text) == ("mine", TEXTS[0])

    with_corpora(url, search)


def test_the_commands_take_a_device(
    url: str, file: Path, on_cpu: TorchEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROMPT_DATABASE_URL", url)

    def call(*args: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["corpus", *args])
        return done.exit_code, done.stdout, done.stderr

    add = ("add", str(file), "--name", "mine", "--license", "CC0", "--device")
    code, out, said = call(*add, "gpu")
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "reprompt: Device 'gpu' is unknown to torch" in said
    code, out, said = call(*add, "cpu")
    assert (code, said) == (0, "")
    assert out.startswith(f"mine: {len(TEXTS)} captions added")

    async def spoil(pipeline: Pipeline, _: Corpora) -> None:
        one = "(SELECT embedding FROM reprompt.captions LIMIT 1)"
        await execute(pipeline, f"{FEWER}; UPDATE reprompt.captions SET embedding = {one}")

    async def check(pipeline: Pipeline, _: Corpora) -> None:
        _, vectors = await stored(pipeline, "mine")
        repaired.append(like(vectors, on_cpu, TEXTS) > 0.9999)

    repaired: list[bool] = []
    with_corpora(url, check)
    with_corpora(url, spoil)
    code, out, said = call("reembed", "--device", "gpu")
    assert (code, out, said.count("\n")) == (2, "", 1)
    with_corpora(url, check)
    code, _, said = call("reembed", "--device", "cpu")
    assert (code, "captions encoded" in said) == (0, True)
    with_corpora(url, check)
    assert repaired == [True, False, True]


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "CUDA", "cpu\n"])
def test_a_device_that_torch_does_not_know_is_told_and_nothing_changes(url: str, file: Path, device: str) -> None:
    async def work(pipeline: Pipeline, corpora: Corpora) -> None:
        with pytest.raises(SettingsError) as caught:
            await corpora.add(file, name="mine", license="CC0", device=device)
        says_one_line(caught.value, repr(device), "cuda:1, mps or cpu")
        assert [c.name for c in await corpora.list()] == ["reprompt"]

    with_corpora(url, work)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none_is_told(encoder: Encoder, device: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(EncoderError) as caught:
        TorchEncoder(encoder, device=device)
    says_one_line(caught.value, repr(device), torch.__version__, "sees no CUDA device", "built for CUDA")


@pytest.mark.parametrize("device", ["meta", "xla", "xpu", "privateuseone"])
def test_a_device_that_cannot_be_used_is_told(encoder: Encoder, device: str) -> None:
    with pytest.raises(EncoderError) as caught:  # each fails in its own way
        TorchEncoder(encoder, device=device, offline=True)
    says_one_line(caught.value, f"Device {device!r} cannot be used (")


def altered(bundle: Path, folder: Path, **facts: Any) -> Path:
    """A bundle of the same files that says something else of itself."""
    made = folder / "altered"
    made.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (made / name).symlink_to(bundle / name)
    (made / MANIFEST).write_text(json.dumps(json.loads((bundle / MANIFEST).read_text()) | facts))
    return made


def test_other_weights_are_refused_with_both_checksums(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    source = encoder_build.local_source(DEFAULT_MODEL)
    assert source is not None
    shutil.copytree(source, tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)  # where a folder of that name comes before the package
    TorchEncoder(encoder, device="cpu", offline=True)
    weights = load_file(tmp_path / DEFAULT_MODEL / "model.safetensors")
    weights["encoder.layer.5.output.LayerNorm.bias"][7] += 1e-3
    save_file(weights, tmp_path / DEFAULT_MODEL / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError) as caught:
        TorchEncoder(encoder, device="cpu", offline=True)
    says_one_line(caught.value, encoder.weights_sha256[:16], "reprompt encoder build", "reprompt corpus reembed")
    found = encoder_build.weights_sha256(cast("Any", encoder_build.load_model(DEFAULT_MODEL))[0].auto_model)
    assert found[:16] in str(caught.value)
    assert found != encoder.weights_sha256


def test_a_model_that_is_not_here_is_told_offline(url: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_encoder, "local_source", lambda _: None)
    expected = (f"{DEFAULT_MODEL} is not on this machine", "REPROMPT_OFFLINE is set: unset it")

    async def work(_: Pipeline, corpora: Corpora) -> None:
        with pytest.raises(EncoderError) as caught:
            await corpora.add(file, name="mine", license="CC0", device="cpu")
        says_one_line(caught.value, *expected)
        assert [c.name for c in await corpora.list()] == ["reprompt"]

    with_corpora(url, work)
    monkeypatch.setenv("REPROMPT_DATABASE_URL", url)
    done = CliRunner().invoke(app, ["corpus", "reembed", "--device", "cpu"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert all(part in done.stderr for part in expected)


def test_a_model_that_the_hub_does_not_give_is_told(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sentence_transformers

    def unreachable(source: str, **_: Any) -> None:
        raise OSError(f"We couldn't connect to fetch {source}.\nCheck your connection\nor see the manual.")

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", unreachable)
    elsewhere = Encoder(altered(bundle, tmp_path, model="someone/else"))
    with pytest.raises(EncoderError) as caught:
        TorchEncoder(elsewhere, device="cpu")
    says_one_line(caught.value, "someone/else could not be loaded", "couldn't connect")


@pytest.mark.parametrize("absent", ["torch", "sentence_transformers"])
def test_without_the_extra_the_way_to_it_is_told(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(EncoderError) as caught:
        TorchEncoder(encoder, device="cuda")
    says_one_line(caught.value, "'cuda'", absent, "pip install 'reprompt-core[sentence-transformers]'")


def test_a_full_device_is_told(on_cpu: TorchEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of")

    monkeypatch.setattr(on_cpu._model, "encode", full)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(EncoderError) as caught:
        on_cpu.encode(["rain"])
    says_one_line(caught.value, "Device 'cpu' is out of memory", "name another device")


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_a_device_that_computes_nonsense_is_refused(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(SentenceTransformer, "encode", lambda _, texts, **__: np.full((len(texts), 384), value))
    with pytest.raises(EncoderError) as caught:
        TorchEncoder(encoder, device="cpu", offline=True)
    says_one_line(caught.value, "'cpu'", DEFAULT_MODEL, "gives other vectors")


def test_torch_is_imported_by_nobody_who_does_not_ask_for_it() -> None:
    code = (
        "import sys, reprompt_core.cli, reprompt_core.corpora.store, reprompt_core.torch_encoder; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "reprompt_core.torch_encoder" in done.stdout.split()
    assert not {"torch", "sentence_transformers", "transformers"} & set(done.stdout.split())
    light = code.replace(", reprompt_core.torch_encoder", "")
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert "reprompt_core.torch_encoder" not in done.stdout.split()


# -- on a GPU ------------------------------------------------------------------------------------------------------


def test_cuda_gives_the_same_vectors_in_half_precision(cuda: str, encoder: Encoder, on_cpu: TorchEncoder) -> None:
    import torch

    on_cuda = TorchEncoder(encoder, device=cuda, offline=True)
    assert on_cuda._batch == 256  # pyright: ignore[reportPrivateUsage]
    assert {(p.dtype, p.device.type) for p in on_cuda._model.parameters()} == {(torch.float16, "cuda")}  # pyright: ignore[reportPrivateUsage]
    texts = [*load_caption_texts()[:300], "rain " * 300]
    vectors, cut = on_cuda.encode(texts)
    assert (vectors.dtype, cut) == (np.float32, [300])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert like(vectors, on_cpu, texts) > 0.999


def test_a_cuda_device_beyond_the_last_is_told(cuda: str, encoder: Encoder) -> None:
    import torch

    beyond = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(EncoderError) as caught:
        TorchEncoder(encoder, device=beyond, offline=True)
    says_one_line(caught.value, repr(beyond), f"sees {torch.cuda.device_count()} CUDA device")
