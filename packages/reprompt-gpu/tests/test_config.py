"""What a configuration has to say to be used, and which requests are taken."""

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reprompt_gpu.config import GenerationRequest, ModelConfig
from reprompt_gpu.errors import CheckpointError, GpuError, RequestError
from tiny import tiny_config, tiny_model
from transformers import MusicgenConfig, T5Config


def shape(*, generation: dict[str, Any] | None = None, stereo: bool = False, **parts: dict[str, Any]) -> ModelConfig:
    """The shape of a tiny model whose configuration was changed part by part."""
    config = tiny_config(stereo=stereo, layers=1)
    for part, values in parts.items():
        for name, value in values.items():
            # past the checks of transformers' classes, of which each version has others
            object.__setattr__(getattr(config, part), name, value)
    return ModelConfig.from_hf(config, generation=generation)


# Models


def test_the_shape_of_musicgen_small() -> None:
    config = MusicgenConfig.from_dict(
        {
            "model_type": "musicgen",
            "text_encoder": {"model_type": "t5", "d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 3072},
            "audio_encoder": {
                "model_type": "encodec",
                "sampling_rate": 32000,
                "upsampling_ratios": [8, 5, 4, 4],
                "target_bandwidths": [2.2],
                "codebook_size": 2048,
            },
            "decoder": {"model_type": "musicgen_decoder"},
        }
    )
    generation = {"bos_token_id": 2048, "decoder_start_token_id": 2048, "pad_token_id": 2048}
    found = ModelConfig.from_hf(config, generation=generation)
    assert found == ModelConfig(
        hidden=1024,
        layers=24,
        heads=16,
        ffn=4096,
        vocabulary=2048,
        codebooks=4,
        channels=1,
        activation="gelu",
        text_hidden=768,
        sample_rate=32000,
        frame_rate=50,
        max_positions=2048,
    )
    assert (found.head_dim, found.start, found.delays) == (64, 2048, (0, 1, 2, 3))
    assert isinstance(found.frame_rate, int)


def test_the_channels_of_a_stereo_model_are_delayed_alike() -> None:
    found = shape(stereo=True)
    assert (found.channels, found.codebooks) == (2, 8)
    assert found.delays == (0, 0, 1, 1, 2, 2, 3, 3)


@pytest.mark.parametrize("stereo", [False, True])
def test_the_delays_are_those_of_the_reference(stereo: bool) -> None:
    import torch

    model = tiny_model(stereo=stereo, layers=1)
    found = ModelConfig.from_hf(model.config)
    start = torch.full((found.codebooks, 1), found.start)
    _, pattern = model.decoder.build_delay_pattern_mask(start, pad_token_id=found.start, max_length=20)
    first = (pattern == -1).int().argmax(1)  # the first step at which a codebook is predicted
    assert tuple((first - 1).tolist()) == found.delays


@pytest.mark.parametrize(
    ("part", "values", "named"),
    [
        ("decoder", {"num_attention_heads": 5}, "hidden_size 32 is not a multiple of its 5 heads"),
        ("decoder", {"hidden_size": -32}, "decoder.hidden_size is -32"),
        ("decoder", {"num_attention_heads": 0}, "decoder.num_attention_heads is 0"),
        ("decoder", {"num_hidden_layers": -1}, "decoder.num_hidden_layers is -1"),
        ("decoder", {"audio_channels": 3}, "audio_channels is 3"),
        ("decoder", {"audio_channels": 2, "num_codebooks": 3}, "3 codebooks cannot be shared by 2 channels"),
        ("decoder", {"num_codebooks": 5}, "5 codebooks a channel, but the audio encoder has 4"),
        ("decoder", {"num_codebooks": 0}, "decoder.num_codebooks is 0"),
        ("decoder", {"activation_function": "wobble"}, "'wobble'"),
        ("decoder", {"vocab_size": 128}, "decoder.vocab_size is 128, audio_encoder.codebook_size 64"),
        ("decoder", {"pad_token_id": 0}, "decoder.pad_token_id is 0; it must be decoder.vocab_size, 64"),
        ("decoder", {"pad_token_id": None}, "decoder.pad_token_id is None"),
        ("decoder", {"bos_token_id": 1}, "the start token is 1"),
        ("decoder", {"cross_attention_hidden_size": 24}, "cross_attention_hidden_size is 24"),
        ("decoder", {"model_type": "bert"}, "decoder is of type 'bert'"),
        ("text_encoder", {"model_type": "bert"}, "text_encoder is of type 'bert'"),
        ("audio_encoder", {"model_type": "dac"}, "audio_encoder is of type 'dac'"),
        ("audio_encoder", {"upsampling_ratios": [7, 3]}, "21 samples a frame do not divide"),
        ("audio_encoder", {"upsampling_ratios": [0]}, "upsampling_ratios is 0"),
        ("audio_encoder", {"sampling_rate": 0}, "sampling_rate is 0"),
        ("audio_encoder", {"target_bandwidths": []}, "target_bandwidths is empty"),
        ("audio_encoder", {"audio_channels": 2}, "audio_encoder.audio_channels is 2"),
        ("audio_encoder", {"target_bandwidths": [1e300]}, "audio_encoder.target_bandwidths are [1e+300]"),
        ("audio_encoder", {"target_bandwidths": [float("inf")]}, "audio_encoder.target_bandwidths are [inf]"),
        ("audio_encoder", {"codebook_dim": 8}, "audio_encoder.codebook_dim is 8, its hidden_size 16"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused(part: str, values: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError) as e:
        shape(**{part: values})
    assert named in str(e.value)


def test_a_codebook_that_encodec_cannot_have_is_refused() -> None:
    with pytest.raises(CheckpointError, match="codebook_size is 48, not a power of 2"):
        shape(decoder={"vocab_size": 48, "pad_token_id": 48}, audio_encoder={"codebook_size": 48})


@pytest.mark.parametrize("name", ["decoder_start_token_id", "pad_token_id"])
def test_the_generation_configuration_has_to_agree(name: str) -> None:
    assert shape(generation={name: 64})
    with pytest.raises(CheckpointError, match=r"is 0; it must be decoder\.vocab_size, 64"):
        shape(generation={name: 0})


@pytest.mark.parametrize(
    ("option", "plain", "other"),
    [
        ("repetition_penalty", 1.0, 1.3),
        ("no_repeat_ngram_size", 0, 3),
        ("num_beams", 1, 2),
        ("suppress_tokens", [], [1, 2]),
        ("sequence_bias", None, [[[5], -9.0]]),
        ("forced_bos_token_id", None, 3),
        ("stop_strings", None, ["a"]),
        ("eos_token_id", 64, 5),
        ("eos_token_id", [64, 70], [64, 5]),
    ],
)
def test_a_generation_configuration_that_asks_for_other_codes_is_refused(
    option: str, plain: object, other: object
) -> None:
    assert shape(generation={option: plain, "top_k": 50, "guidance_scale": 5.0})
    with pytest.raises(CheckpointError, match=option):
        shape(generation={option: other})


def test_a_table_of_positions_is_never_larger_than_memory() -> None:
    assert shape(decoder={"max_position_embeddings": 10**12}).max_positions == 1 << 16


def test_without_a_generation_configuration_the_decoder_tells_where_pieces_end() -> None:
    assert shape(decoder={"eos_token_id": 5}, generation={"bos_token_id": 64})  # as the reference has it
    with pytest.raises(CheckpointError, match="eos_token_id is 5"):
        shape(decoder={"eos_token_id": 5})


def test_a_configuration_without_parts_is_refused() -> None:
    parts = SimpleNamespace(text_encoder=T5Config(), audio_encoder=None, decoder=None)
    with pytest.raises(CheckpointError, match="audio_encoder is of type None"):
        ModelConfig.from_hf(parts)  # pyright: ignore[reportArgumentType]


# Requests


def test_a_request_has_the_defaults_of_musicgen() -> None:
    request = GenerationRequest(prompt="calm piano")
    assert (request.seconds, request.takes, request.seed) == (10.0, 1, 0)
    assert (request.guidance, request.temperature, request.top_k, request.top_p) == (3.0, 1.0, 250, 0.0)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "x" * 2000},
        {"prompt": "日本の音楽 🎹"},
        {"seconds": 300},
        {"seconds": 0.01},
        {"seed": 2**63 - 1},
        {"takes": 16},
        {"guidance": 1},
        {"guidance": 20.0},
        {"temperature": 10},
        {"temperature": 1e-6},
        {"top_k": 0},
        {"top_k": 100_000},
        {"top_p": 1},
    ],
)
def test_the_ends_of_the_ranges_are_taken(values: dict[str, Any]) -> None:
    request = GenerationRequest(**{"prompt": "calm piano", **values})
    for name, value in values.items():
        assert getattr(request, name) == value


_NAN, _INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "values", "allowed"),
    [
        ("seconds", [0, -1, 300.1, _NAN, _INFINITY, -_INFINITY, "10", None, True, 10**400], "above 0 and at most 300"),
        ("seed", [-1, 2**63, 1.0, "1", None, False, 10**5000], "an integer from 0 to 2**63 - 1"),
        ("takes", [0, 17, 1.0, True, "2"], "an integer from 1 to 16"),
        ("guidance", [0.99, 20.01, 0, -3, _NAN, _INFINITY, True, "3"], "a number from 1 (off) to 20"),
        ("temperature", [0, -1, 1e-7, 10.1, _NAN, _INFINITY, True, None], "a number from 0.000001 to 10"),
        ("top_k", [-1, 2.0, True, _NAN, "all"], "an integer from 0 (off)"),
        ("top_p", [-0.1, 1.1, _NAN, True, "0.9"], "a number from 0 (off) to 1"),
    ],
)
def test_a_value_outside_its_range_is_refused(field: str, values: list[object], allowed: str) -> None:
    for value in values:
        with pytest.raises(RequestError) as e:
            GenerationRequest(**{"prompt": "calm piano", field: value})  # pyright: ignore[reportArgumentType]
        message = str(e.value)
        assert message.startswith(f"{field} is ")
        assert allowed in message
        assert len(message) < 200
        shown = "integer of" if isinstance(value, int) and value > 2**128 else repr(value)
        assert shown in message


def test_numbers_of_numpy_become_those_of_python() -> None:
    request = GenerationRequest(
        prompt="calm piano", seconds=np.float32(2.5), seed=np.int64(7), takes=np.uint8(2), guidance=np.int32(3),
        temperature=np.float16(0.5), top_k=np.int16(50), top_p=np.float64(0.25),
    )  # fmt: skip  # pyright: ignore[reportArgumentType]
    assert json.loads(json.dumps(asdict(request))) == {
        "prompt": "calm piano", "seconds": 2.5, "seed": 7, "takes": 2, "guidance": 3, "temperature": 0.5, "top_k": 50,
        "top_p": 0.25,
    }  # fmt: skip
    for wrong in (np.bool_(True), np.float32("nan"), np.array([1])):
        with pytest.raises(RequestError, match="takes is"):
            GenerationRequest(prompt="calm piano", takes=wrong)  # pyright: ignore[reportArgumentType]


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(RequestError) as e:
        GenerationRequest(prompt="calm piano", seconds="9" * 10_000)  # pyright: ignore[reportArgumentType]
    assert len(str(e.value)) < 200


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (["calm piano"], "of type list"),
        (b"calm piano", "of type bytes"),
        (None, "of type NoneType"),
        ("", "empty"),
        (" \t\n\u3000", "empty"),
        ("x" * 2001, "2001 characters; it must have at most 2000"),
        ("calm \ud83c piano", "surrogate"),
    ],
)
def test_a_prompt_that_is_no_text_is_refused(prompt: Any, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        GenerationRequest(prompt=prompt)


def test_a_refused_request_is_a_value_error_too() -> None:
    assert issubclass(RequestError, ValueError)
    assert issubclass(RequestError, GpuError)
    assert str(RequestError()) == "The request has a value that cannot be used."
