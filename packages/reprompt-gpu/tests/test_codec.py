"""The codec: what `EncodecModel.decode` gives, whole and in any pieces."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from reprompt_gpu import codec as module
from reprompt_gpu.codec import Codec
from reprompt_gpu.errors import CheckpointError, GenerationError
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

TOLERANCE = 1e-4
CODEBOOKS, ENTRIES = 4, 64
MUSICGEN = {
    "upsampling_ratios": [8, 5, 4, 4],
    "use_causal_conv": False,
    "kernel_size": 7,
    "last_kernel_size": 7,
    "num_lstm_layers": 2,
}
SHAPES = {
    "musicgen": MUSICGEN,
    "causal": {"upsampling_ratios": [4, 2], "use_causal_conv": True},
    "causal, trimmed on both sides": {
        "upsampling_ratios": [5, 3],
        "use_causal_conv": True,
        "trim_right_ratio": 0.5,
        "num_lstm_layers": 1,
    },
    "odd ratios": {"upsampling_ratios": [3, 5, 1], "use_causal_conv": False, "kernel_size": 5, "last_kernel_size": 3},
    "even kernels": {"upsampling_ratios": [2, 3], "use_causal_conv": False, "kernel_size": 6, "last_kernel_size": 4},
    "wide dilations": {
        "upsampling_ratios": [2, 2],
        "use_causal_conv": False,
        "num_residual_layers": 3,
        "dilation_growth_rate": 2,
        "residual_kernel_size": 5,
    },
    "wide dilations, causal": {
        "upsampling_ratios": [2, 2],
        "use_causal_conv": True,
        "num_residual_layers": 3,
        "dilation_growth_rate": 3,
    },
    "plain": {
        "upsampling_ratios": [4],
        "use_causal_conv": False,
        "num_residual_layers": 0,
        "kernel_size": 1,
        "num_lstm_layers": 1,
    },
    "identity shortcut": {"upsampling_ratios": [4, 2], "use_causal_conv": False, "use_conv_shortcut": False},
    "padded by zeros": {"upsampling_ratios": [3, 2], "use_causal_conv": False, "pad_mode": "constant"},
    "padded by the edge": {"upsampling_ratios": [3, 2], "use_causal_conv": False, "pad_mode": "replicate"},
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def encodec(**options: object) -> EncodecModel:
    """A small model whose audio is about as loud as music."""
    torch.manual_seed(0)
    hop = np.prod(options.get("upsampling_ratios", [2, 2]))
    rate = int(50 * hop)
    small = {"num_filters": 4, "hidden_size": 8, "codebook_size": ENTRIES, "upsampling_ratios": [2, 2]}
    bandwidth = CODEBOOKS * 50 * 6 / 1000  # of this many codebooks of 6 bits
    config = EncodecConfig(**{**small, "sampling_rate": rate, "target_bandwidths": [bandwidth], **options})
    model = EncodecModel(config).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    with torch.no_grad():
        # as drawn the weights let little of the codes through, and some biases are zero
        for name, weight in model.decoder.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.2)
            else:
                weight *= 2.5
        codes = random_codes(1, CODEBOOKS, 20)
        scale = 0.2 / model.decode(codes[None], [None]).audio_values.std()
        last = model.decoder.layers[-1]
        gain = last.conv.parametrizations.weight.original0 if config.norm_type == "weight_norm" else last.norm.weight
        gain *= scale
        (last.conv if config.norm_type == "weight_norm" else last.norm).bias *= scale
    return model


def random_codes(*shape: int) -> Tensor:
    return torch.randint(0, ENTRIES, shape, generator=torch.Generator().manual_seed(sum(shape)))


def reference(model: EncodecModel, codes: Tensor) -> Tensor:
    with torch.no_grad():
        return model.decode(codes[None], [None]).audio_values


def streamed(codec: Codec, codes: Tensor, cuts: list[int]) -> Tensor:
    stream = codec.stream()
    parts = [stream.push(codes[:, a:b]) for a, b in pairwise([0, *cuts, codes.shape[1]])]
    return torch.cat([*parts, stream.finish()], -1)


@shapes
def test_decode_gives_what_the_reference_gives(shape: dict[str, object]) -> None:
    model = encodec(**shape)
    codec = Codec(model, channels=1)
    for frames in (1, 2, 3, 20):
        codes = random_codes(3, CODEBOOKS, frames)
        audio = codec.decode(codes)
        assert audio.dtype == torch.float32
        assert audio.shape == (3, 1, frames * codec.samples_per_frame)
        torch.testing.assert_close(audio, reference(model, codes), atol=TOLERANCE, rtol=0)
    assert codec.sample_rate == 50 * codec.samples_per_frame


def test_stereo_decodes_every_other_codebook_for_each_side() -> None:
    model = encodec(**MUSICGEN)
    codes = random_codes(2, 2 * CODEBOOKS, 10)
    sides = [reference(model, codes[:, side::2]) for side in (0, 1)]
    assert (sides[0] - sides[1]).abs().max() > 0.1
    audio = Codec(model, channels=2).decode(codes)
    torch.testing.assert_close(audio, torch.cat(sides, 1), atol=TOLERANCE, rtol=0)


@shapes
def test_pieces_of_any_length_fit_without_a_seam(shape: dict[str, object]) -> None:
    codec = Codec(encodec(**shape), channels=1)
    rng = np.random.default_rng(0)
    for frames in (1, 2, 3, 4, 5, 8, 30):
        codes = random_codes(1, CODEBOOKS, frames)
        whole = codec.decode(codes)[0]
        some = [sorted(rng.integers(0, frames + 1, rng.integers(0, 9)).tolist()) for _ in range(2)]
        for cuts in ([], list(range(1, frames)), *some):
            audio = streamed(codec, codes[0], cuts)
            torch.testing.assert_close(audio, whole, atol=TOLERANCE, rtol=0, msg=f"{frames} frames cut at {cuts}")


def test_both_sides_are_streamed() -> None:
    codec = Codec(encodec(**MUSICGEN), channels=2)
    codes = random_codes(1, 2 * CODEBOOKS, 20)
    audio = streamed(codec, codes[0], [1, 2, 11])
    torch.testing.assert_close(audio, codec.decode(codes)[0], atol=TOLERANCE, rtol=0)


@shapes
def test_every_code_is_heard(shape: dict[str, object]) -> None:
    """Without this the others could pass on models that give the same audio whatever the codes."""
    codec = Codec(encodec(**shape), channels=1)
    codes = random_codes(1, CODEBOOKS, 12)
    audio = codec.decode(codes)
    for frame in (0, 6, 11):
        for codebook in range(CODEBOOKS):
            other = codes.clone()
            other[0, codebook, frame] = (other[0, codebook, frame] + 1) % ENTRIES
            assert (codec.decode(other) - audio).abs().max() > 20 * TOLERANCE


@shapes
def test_a_stream_holds_back_as_many_frames_as_it_says(shape: dict[str, object]) -> None:
    codec = Codec(encodec(**shape), channels=1)
    stream = codec.stream()
    codes = random_codes(CODEBOOKS, 30)
    samples, held = 0, [0]
    for n in range(codes.shape[1]):
        samples += stream.push(codes[:, n : n + 1]).shape[-1]
        held.append(n + 1 - samples // codec.samples_per_frame)
    assert stream.latency_frames == max(held)


def test_musicgen_is_four_frames_behind() -> None:
    assert Codec(encodec(**MUSICGEN), channels=1).stream().latency_frames == 4


def test_a_push_costs_what_its_frames_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(encodec(**MUSICGEN), channels=1)
    seen: list[int] = []
    conv1d = torch.nn.functional.conv1d
    monkeypatch.setattr(
        torch.nn.functional, "conv1d", lambda x, *rest, **more: seen.append(x.shape[-1]) or conv1d(x, *rest, **more)
    )
    stream = codec.stream()
    costs: list[int] = []
    for n in range(40):
        seen.clear()
        stream.push(random_codes(CODEBOOKS, 41)[:, n : n + 1])
        costs.append(sum(seen))
    assert costs[10] == costs[39]
    # what a convolution sees again is less than a frame in all
    layers = 4 * codec.samples_per_frame + 4 * (8 + 40 + 160)
    assert costs[39] < 1.1 * layers


def test_an_empty_stream_and_no_frames_are_no_audio() -> None:
    codec = Codec(encodec(), channels=2)
    assert codec.stream().finish().shape == (2, 0)
    assert codec.decode(random_codes(3, 8, 0)).shape == (3, 2, 0)
    stream = codec.stream()
    assert stream.push(random_codes(8, 0)).shape == (2, 0)


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_long_is_decoded_in_pieces(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    codec = Codec(encodec(**MUSICGEN), channels=channels)
    codes = random_codes(2, channels * CODEBOOKS, 33)
    whole = codec.decode(codes)
    monkeypatch.setattr(module, "_AT_ONCE", 20 * channels)
    monkeypatch.setattr(codec._decoder, "forward", None)
    torch.testing.assert_close(codec.decode(codes), whole, atol=TOLERANCE, rtol=0)


def test_normalised_over_time_it_decodes_whole_and_refuses_to_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encodec(norm_type="time_group_norm", chunk_length_s=1.0, overlap=0.01, normalize=True)
    codec = Codec(model, channels=1)
    codes = random_codes(2, CODEBOOKS, 30)
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    torch.testing.assert_close(codec.decode(codes), reference(model, codes), atol=TOLERANCE, rtol=0)
    with pytest.raises(CheckpointError, match="time_group_norm"):
        codec.stream()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_computes_in_float32(dtype: torch.dtype) -> None:
    model = encodec(**MUSICGEN).to(dtype)
    codes = random_codes(1, CODEBOOKS, 12)
    expected = reference(copy.deepcopy(model).float(), codes)
    codec = Codec(model, channels=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(codec.decode(codes), expected, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(streamed(codec, codes[0], [5]), expected[0], atol=TOLERANCE, rtol=0)


def test_the_model_is_left_as_it_is() -> None:
    model = encodec(**MUSICGEN).half()
    codes = random_codes(1, CODEBOOKS, 5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    codec = Codec(model, channels=1)
    expected = codec.decode(codes)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(model.float().decode(codes[None], [None]).audio_values, expected, atol=TOLERANCE, rtol=0)
    model.decoder.layers[0].conv.bias.data.fill_(3)
    assert torch.equal(codec.decode(codes), expected)


def test_audio_carries_no_graph() -> None:
    codec = Codec(encodec(), channels=1)
    codes = random_codes(1, CODEBOOKS, 5)
    assert not codec.decode(codes).requires_grad
    assert not streamed(codec, codes[0], [2]).requires_grad


def test_audio_that_is_not_finite_is_refused() -> None:
    model = encodec(use_causal_conv=False)
    model.quantizer.layers[0].codebook.embed[7] = torch.nan
    codec = Codec(model, channels=1)
    codes = random_codes(1, CODEBOOKS, 12) % 7
    assert codec.decode(codes).isfinite().all()
    codes[0, 0, 9] = 7
    with pytest.raises(GenerationError, match="not finite"):
        codec.decode(codes)
    stream = codec.stream()
    assert stream.push(codes[0, :, :6]).isfinite().all()
    with pytest.raises(GenerationError, match="not finite"):
        stream.push(codes[0, :, 6:])
    with pytest.raises(GenerationError, match="not finite"):
        stream.finish()


@pytest.mark.parametrize(
    ("channels", "codes"),
    [
        (1, torch.full((1, 4, 3), ENTRIES)),
        (1, torch.arange(-1, 11).reshape(1, 4, 3)),
        (1, torch.zeros(4, 3, dtype=torch.int64)),
        (1, torch.zeros(1, 5, 3, dtype=torch.int64)),
        (1, torch.zeros(1, 0, 3, dtype=torch.int64)),
        (1, torch.zeros(0, 4, 3, dtype=torch.int64)),
        (2, torch.zeros(1, 10, 3, dtype=torch.int64)),
        (2, torch.zeros(1, 7, 3, dtype=torch.int64)),
    ],
)
def test_codes_of_another_codec_are_refused(channels: int, codes: Tensor) -> None:
    codec = Codec(encodec(), channels=channels)
    with pytest.raises(GenerationError, match="Codes"):
        codec.decode(codes)
    if len(codes):
        with pytest.raises(GenerationError, match="Codes"):
            codec.stream().push(codes[0])


def test_a_stream_ends_once() -> None:
    stream = Codec(encodec(), channels=1).stream()
    stream.push(random_codes(CODEBOOKS, 4))
    stream.finish()
    with pytest.raises(GenerationError, match="ended"):
        stream.push(random_codes(CODEBOOKS, 1))
    with pytest.raises(GenerationError, match="ended"):
        stream.finish()


def test_streams_do_not_touch_each_other() -> None:
    codec = Codec(encodec(), channels=1)
    one, other = random_codes(CODEBOOKS, 9), random_codes(CODEBOOKS, 10)[:, :9]
    streams = codec.stream(), codec.stream()
    parts = [[stream.push(codes[:, n : n + 1]) for stream, codes in zip(streams, (one, other), strict=True)]
             for n in range(9)]  # fmt: skip
    for k, codes in enumerate((one, other)):
        audio = torch.cat([*(part[k] for part in parts), streams[k].finish()], -1)
        torch.testing.assert_close(audio, codec.decode(codes[None])[0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("audio_channels", "channels"), [(2, 1), (2, 2), (1, 0), (1, 3)])
def test_a_codec_that_is_not_mono_and_other_channels_are_refused(audio_channels: int, channels: int) -> None:
    with pytest.raises(CheckpointError, match="channels"):
        Codec(encodec(audio_channels=audio_channels), channels=channels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_to_float32() -> None:
    model = encodec(**MUSICGEN, num_filters=64, hidden_size=128)
    codes = random_codes(2, CODEBOOKS, 30)
    expected = Codec(model, channels=1).decode(codes)
    codec = Codec(model.cuda(), channels=1)
    torch.testing.assert_close(codec.decode(codes.cuda()).cpu(), expected, atol=TOLERANCE, rtol=0)
    audio = streamed(codec, codes[0].cuda(), [1, 2, 3, 17])
    torch.testing.assert_close(audio.cpu(), expected[0], atol=TOLERANCE, rtol=0)
