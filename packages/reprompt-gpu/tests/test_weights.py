"""Checkpoints: every tensor arrives as it was, and what is wrong with one is said by name."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reprompt_gpu.errors import CheckpointError
from reprompt_gpu.weights import Checkpoint, expected_shapes, from_transformers, licence_of, load
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

WEIGHTS = "model.safetensors"
HEAD = "decoder.lm_heads.0.weight"
SHARED, TIED = "text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight"


@pytest.fixture(scope="module")
def model() -> MusicgenForConditionalGeneration:
    return tiny_model()


@pytest.fixture(scope="module")
def saved(model: MusicgenForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that can be used, to be copied."""
    made = tmp_path_factory.mktemp("saved")
    model.save_pretrained(made)
    tiny_tokenizer().save_pretrained(made)
    return made


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint of the test's own."""
    return Path(shutil.copytree(saved, tmp_path / "tiny-musicgen"))


def change(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def describe(folder: Path, edit: Callable[[dict[str, Any]], Any], *, file: str = "config.json") -> None:
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as e:
        load(folder)
    return str(e.value)


def assert_same(checkpoint: Checkpoint, model: MusicgenForConditionalGeneration) -> None:
    """Every tensor is the model's, and its text encoder and codec do what the model's do."""
    stored = model.state_dict()
    assert set(checkpoint.decoder) == {
        n.removeprefix("decoder.") for n in stored if n.startswith(("decoder.", "enc_to_dec_proj."))
    }
    for name, tensor in checkpoint.decoder.items():
        torch.testing.assert_close(tensor, stored.get(name, stored.get(f"decoder.{name}")), rtol=0, atol=0)
    for own, theirs in (
        (checkpoint.text_encoder, model.text_encoder),
        (checkpoint.codec, model.audio_encoder),
    ):
        assert not own.training
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(own.state_dict()[name], tensor, rtol=0, atol=0)
        assert not any(t.is_meta or t.requires_grad for t in [*own.parameters(), *own.buffers()])
    tokens = torch.tensor([[5, 9, 20, 1]])
    codes = torch.arange(4 * 7).reshape(1, 1, 4, 7)
    with torch.no_grad():
        own, theirs = (e(input_ids=tokens).last_hidden_state for e in (checkpoint.text_encoder, model.text_encoder))
        torch.testing.assert_close(own, theirs, rtol=0, atol=0)
        own, theirs = (c.decode(codes, [None]).audio_values for c in (checkpoint.codec, model.audio_encoder))
        torch.testing.assert_close(own, theirs, rtol=0, atol=0)
        own, theirs = (c.encode(theirs).audio_codes for c in (checkpoint.codec, model.audio_encoder))
        torch.testing.assert_close(own, theirs, rtol=0, atol=0)


# Good checkpoints


@pytest.mark.parametrize("shape", [{}, {"stereo": True}, {"text_hidden": 32}], ids=["mono", "stereo", "no projection"])
def test_what_was_saved_is_loaded(shape: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(**shape)
    model.save_pretrained(tmp_path / "tiny")
    checkpoint = load(tmp_path / "tiny")
    assert_same(checkpoint, model)
    assert {n: tuple(t.shape) for n, t in checkpoint.decoder.items()} == expected_shapes(checkpoint.config)
    assert ("enc_to_dec_proj.bias" in checkpoint.decoder) is ("text_hidden" not in shape)
    assert (checkpoint.name, checkpoint.revision, checkpoint.tokenizer) == ("tiny", None, None)


def test_shards_are_put_together(model: MusicgenForConditionalGeneration, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same(load(tmp_path), model)


def test_the_tokenizer_comes_along(folder: Path) -> None:
    tokenizer = load(folder).tokenizer
    assert tokenizer is not None
    assert tokenizer("calm piano music").input_ids == tiny_tokenizer()("calm piano music").input_ids


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_their_dtype(dtype: torch.dtype, model: MusicgenForConditionalGeneration, tmp_path: Path) -> None:
    half = copy.deepcopy(model).to(dtype)
    half.save_pretrained(tmp_path)
    checkpoint = load(tmp_path)
    assert {t.dtype for t in checkpoint.decoder.values()} == {dtype}
    assert {t.dtype for t in checkpoint.codec.state_dict().values()} == {dtype}
    torch.testing.assert_close(checkpoint.decoder["lm_heads.0.weight"], half.decoder.lm_heads[0].weight.detach())


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    before = torch.random.get_rng_state()
    load(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_in_memory_is_shared(model: MusicgenForConditionalGeneration) -> None:
    tokenizer = tiny_tokenizer()
    training = copy.deepcopy(model).train()
    checkpoint = from_transformers(training, tokenizer)
    assert_same(checkpoint, training.eval())
    assert checkpoint.decoder["lm_heads.0.weight"].data_ptr() == training.decoder.lm_heads[0].weight.data_ptr()
    assert checkpoint.text_encoder.shared.weight.data_ptr() == training.text_encoder.shared.weight.data_ptr()
    assert checkpoint.text_encoder.shared is checkpoint.text_encoder.encoder.embed_tokens
    assert all(
        own.data_ptr() == theirs.data_ptr()
        for own, theirs in zip(checkpoint.codec.parameters(), training.audio_encoder.parameters(), strict=True)
    )
    assert checkpoint.tokenizer is tokenizer


def test_a_model_in_memory_is_not_changed(model: MusicgenForConditionalGeneration) -> None:
    own = copy.deepcopy(model).train()
    before = own.config.to_dict()
    checkpoint = from_transformers(own)
    assert own.config.to_dict() == before
    assert checkpoint.codec.config is not own.config.audio_encoder
    assert own.text_encoder.training
    assert all(p.requires_grad for p in own.parameters())


# Names of other days


def test_old_names_are_understood(folder: Path, model: MusicgenForConditionalGeneration) -> None:
    def age(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            old = name.replace(".parametrizations.weight.original0", ".weight_g")
            tensors[old.replace(".parametrizations.weight.original1", ".weight_v")] = tensors.pop(name)
        tensors["decoder.model.decoder.embed_positions.weights"] = torch.zeros(512, 32)

    change(folder, age)
    assert any(name.endswith("weight_g") for name in load_file(folder / WEIGHTS))
    assert_same(load(folder), model)


@pytest.mark.parametrize("names", [[SHARED], [TIED], [SHARED, TIED]])
def test_the_text_table_has_either_name_or_both(
    names: list[str], folder: Path, model: MusicgenForConditionalGeneration
) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        table = next(tensors.pop(n) for n in (SHARED, TIED) if n in tensors)
        tensors.update({n: table.clone() for n in names})

    change(folder, rename)
    checkpoint = load(folder)
    assert_same(checkpoint, model)
    assert checkpoint.text_encoder.shared is checkpoint.text_encoder.encoder.embed_tokens


@pytest.mark.parametrize("other", [torch.ones(64, 24), torch.zeros(64, 24).half()], ids=["values", "dtype"])
def test_two_text_tables_are_one_too_many(other: Tensor, folder: Path) -> None:
    def untie(tensors: dict[str, Tensor]) -> None:
        tensors[SHARED] = torch.zeros(64, 24)
        tensors[TIED] = other

    change(folder, untie)
    assert f"{TIED} is not {SHARED}" in refusal(folder)


def test_an_old_name_beside_the_new_one_is_refused(folder: Path) -> None:
    new = "audio_encoder.encoder.layers.0.conv.parametrizations.weight.original0"
    old = "audio_encoder.encoder.layers.0.conv.weight_g"
    change(folder, lambda t: t.update({old: t[new].clone()}))
    assert f"{new} is there twice" in refusal(folder)


# Tensors that are wrong


@pytest.mark.parametrize("name", [SHARED, "enc_to_dec_proj.bias", "audio_encoder.decoder.layers.0.conv.bias"])
def test_a_missing_tensor_is_named(name: str, folder: Path) -> None:
    change(folder, lambda t: t.pop(name))
    message = refusal(folder)
    assert f"1 missing ({name} (" in message
    assert "unexpected" not in message


@pytest.mark.parametrize("name", ["decoder.lm_heads.4.weight", "text_encoder.more", "more"])
def test_a_tensor_that_has_no_place_is_named(name: str, folder: Path) -> None:
    change(folder, lambda t: t.update({name: torch.zeros(3)}))
    assert f"1 unexpected ({name} (3,))" in refusal(folder)


@pytest.mark.parametrize(("name", "right"), [(HEAD, (64, 32)), (SHARED, (64, 24))])
def test_a_misshapen_tensor_is_named_with_both_shapes(name: str, right: tuple[int, ...], folder: Path) -> None:
    change(folder, lambda t: t.update({name: torch.zeros(5, 7)}))
    assert f"1 of another shape ({name} (5, 7) instead of {right})" in refusal(folder)


def test_only_the_first_of_many_are_named(folder: Path) -> None:
    change(folder, lambda t: [t.pop(n) for n in list(t) if ".layers.1." in n])
    message = refusal(folder)
    assert "..." in message
    assert message.count("decoder.model.decoder.layers.1.") <= 4
    assert len(message) < 800


def test_the_configuration_of_another_size_is_refused(folder: Path) -> None:
    describe(folder, lambda c: c["decoder"].update(num_hidden_layers=3))
    assert "missing (decoder.model.decoder.layers.2." in refusal(folder)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (HEAD, ["nan"]),
        (SHARED, ["inf"]),
        ("audio_encoder.quantizer.layers.0.codebook.embed", ["-inf"]),
        (HEAD, ["inf", "-inf"]),
    ],
)
def test_a_weight_that_is_not_finite_is_named(name: str, values: list[str], folder: Path) -> None:
    change(folder, lambda t: t[name].view(-1)[: len(values)].copy_(torch.tensor([float(v) for v in values])))
    assert f"{name} holds NaN or infinity" in refusal(folder)


@pytest.mark.parametrize(("dtype", "large"), [(torch.float16, 6e4), (torch.float32, 3e38)])
def test_large_weights_are_finite(dtype: torch.dtype, large: float, folder: Path) -> None:
    change(folder, lambda t: t.update({HEAD: torch.full((64, 32), large, dtype=dtype)}))
    assert load(folder).decoder["lm_heads.0.weight"].max() == torch.tensor(large, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.float8_e4m3fn])
def test_a_dtype_that_is_no_weight_is_refused(dtype: torch.dtype, folder: Path) -> None:
    change(folder, lambda t: t.update({HEAD: t[HEAD].to(dtype)}))
    assert f"{HEAD} is {dtype}" in refusal(folder)


@pytest.mark.parametrize("wrong", [None, "facebook/musicgen-small", torch.nn.Linear(2, 2)], ids=str)
def test_what_is_no_model_in_memory_is_refused(wrong: Any) -> None:
    with pytest.raises(CheckpointError, match=f"not a {type(wrong).__name__}"):
        from_transformers(wrong)


def test_what_is_wrong_in_memory_is_named_too(model: MusicgenForConditionalGeneration) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.decoder.lm_heads[0].weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=f"{HEAD} holds NaN"):
        from_transformers(broken)
    broken.decoder.lm_heads[0] = torch.nn.Linear(32, 65, bias=False)
    with pytest.raises(CheckpointError, match=r"decoder.lm_heads.0.weight \(65, 32\) instead of \(64, 32\)"):
        from_transformers(broken)
    with pytest.raises(CheckpointError, match="has no data"):
        from_transformers(copy.deepcopy(model).to("meta"))


# Descriptions


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "holds no config.json" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_a_configuration_that_is_not_json_is_refused(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    assert "config.json cannot be read as JSON" in refusal(folder)


def test_a_configuration_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")
    assert "config.json holds no JSON object" in refusal(folder)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    describe(folder, lambda c: c.update(model_type="musicgen_melody"))
    assert "Melody" in refusal(folder)
    describe(folder, lambda c: c.update(model_type="bert"))
    assert "'bert'" in refusal(folder)


@pytest.mark.parametrize("part", ["text_encoder", "audio_encoder", "decoder"])
def test_a_part_that_is_not_described_is_not_made_up(part: str, folder: Path) -> None:
    describe(folder, lambda c: c.pop(part))
    assert f"does not describe its {part}" in refusal(folder)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("decoder", {"hidden_size": "wide"}),
        ("decoder", {"audio_channels": 7}),
        ("audio_encoder", {"norm_type": "none"}),
        ("audio_encoder", {"model_type": "never-heard-of"}),
        ("audio_encoder", {"num_filters": 2**40}),
        ("text_encoder", {"feed_forward_proj": "a-b-c"}),
    ],
)
def test_a_description_of_no_model_is_refused(part: str, values: dict[str, Any], folder: Path) -> None:
    describe(folder, lambda c: c[part].update(values))
    assert "describe" in refusal(folder)


def test_the_start_token_of_the_generation_configuration_counts(folder: Path) -> None:
    describe(folder, lambda c: c.update(decoder_start_token_id=0), file="generation_config.json")
    assert "start token is 0" in refusal(folder)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    def grow(content: dict[str, Any]) -> None:
        content["model"]["vocab"].update({f"word{i}": 100 + i for i in range(60)})

    describe(folder, grow, file="tokenizer.json")
    assert "its text encoder 64" in refusal(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert "The tokenizer in" in refusal(folder)


def test_the_licence_is_told() -> None:
    for name in ("facebook/musicgen-small", "facebook/musicgen-stereo-large", "csc-unipd/tasty-musicgen-small"):
        assert "CC BY-NC 4.0" in licence_of(name)
        assert name in licence_of(name)
    for name in ("someone/musicgen-small", "tiny", "facebook/other"):
        assert "check it" in licence_of(name)
