"""The shape of a MusicGen model, and what one request asks of it. Both are checked when they are made."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from .errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from transformers import MusicgenConfig

__all__ = ["GenerationRequest", "ModelConfig", "check_request"]

_LONGEST_PROMPT = 2_000  # characters; the text encoder was trained on far fewer
_MOST_POSITIONS = 1 << 16  # a table of them is made before anything else, whatever a configuration says
_MOST_QUANTIZERS = 1024  # EnCodec has 32 at most
# options of a generation_config.json by which other codes are the likeliest, with what leaves them as they are
_PLAIN: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "num_beams": (1,),
        "repetition_penalty": (1,),
        "encoder_repetition_penalty": (1,),
        "no_repeat_ngram_size": (0,),
        "encoder_no_repeat_ngram_size": (0,),
        "bad_words_ids": ([],),
        "sequence_bias": ({}, []),
        "suppress_tokens": ([],),
        "begin_suppress_tokens": ([],),
        "forced_bos_token_id": (),
        "forced_eos_token_id": (),
        "exponential_decay_length_penalty": (),
        "stop_strings": ([],),
        "watermarking_config": (),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a model: of its decoder, and of what stands before and after it."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int  # entries of a codebook that can be said; the embedding tables have one more, the start token
    codebooks: int  # of all channels together: 4 mono, 8 stereo
    channels: int
    activation: str  # a name of transformers' ACT2FN
    text_hidden: int  # width of the text encoder
    sample_rate: int
    frame_rate: int  # frames a second
    max_positions: int  # of the sinusoids that are made at first; more are computed for what is longer

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def start(self) -> int:
        """The token that stands where a codebook has none yet."""
        return self.vocabulary

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps by which each codebook runs late: one more than the codebook before, of the same channel.

        The channels are interleaved, left first (arXiv:2306.05284, section 2.2 and appendix C).
        """
        return tuple(k // self.channels for k in range(self.codebooks))

    @classmethod
    def from_hf(cls, config: "MusicgenConfig", *, generation: Mapping[str, Any] | None = None) -> Self:
        """The shape that a Hugging Face configuration describes.

        Args:
            config: of the whole model.
            generation: what the checkpoint's generation_config.json holds.

        Raises:
            CheckpointError: it describes no MusicGen, or one that this package cannot run.
        """
        from transformers.activations import ACT2FN  # seconds of imports, which a request does without

        decoder: Any = config.decoder
        codec: Any = config.audio_encoder
        text: Any = config.text_encoder
        for part, kind in (("text_encoder", "t5"), ("audio_encoder", "encodec"), ("decoder", "musicgen_decoder")):
            found = getattr(getattr(config, part), "model_type", None)
            _require(found == kind, f"the configuration's {part} is of type {found!r}; only {kind!r} can be used")
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim", "vocab_size"):
            _require_positive(f"decoder.{name}", getattr(decoder, name))
        _require_positive("decoder.max_position_embeddings", decoder.max_position_embeddings)
        _require(
            decoder.hidden_size % decoder.num_attention_heads == 0,
            f"decoder.hidden_size {decoder.hidden_size} is not a multiple of its {decoder.num_attention_heads} heads",
        )
        _require(
            decoder.activation_function in ACT2FN,
            f"the activation function {decoder.activation_function!r} is not known to this transformers",
        )
        _require_positive("text_encoder.d_model", text.d_model)
        across = decoder.cross_attention_hidden_size
        _require(
            across is None or across == decoder.hidden_size == text.d_model,
            f"decoder.cross_attention_hidden_size is {across}, but the decoder is {decoder.hidden_size} wide and the "
            f"text encoder {text.d_model}",
        )
        frame_rate = _frame_rate(codec)
        _check_codebooks(decoder, codec)
        _check_tokens(decoder, generation or {})
        _check_generation(decoder, generation)
        return cls(
            hidden=decoder.hidden_size,
            layers=decoder.num_hidden_layers,
            heads=decoder.num_attention_heads,
            ffn=decoder.ffn_dim,
            vocabulary=decoder.vocab_size,
            codebooks=decoder.num_codebooks,
            channels=decoder.audio_channels,
            activation=decoder.activation_function,
            text_hidden=text.d_model,
            sample_rate=codec.sampling_rate,
            frame_rate=frame_rate,
            max_positions=min(decoder.max_position_embeddings, _MOST_POSITIONS),
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise CheckpointError(f"Not a MusicGen model that can be used: {message}.")


def _require_positive(name: str, value: object) -> None:
    _require(isinstance(value, int) and value > 0, f"{name} is {value!r}, not a whole number above 0")


def _frame_rate(codec: Any) -> int:
    _require_positive("audio_encoder.sampling_rate", codec.sampling_rate)
    for ratio in codec.upsampling_ratios:
        _require_positive("one of audio_encoder.upsampling_ratios", ratio)
    samples = math.prod(codec.upsampling_ratios)
    _require(
        codec.sampling_rate % samples == 0,
        f"{samples} samples a frame do not divide the {codec.sampling_rate} samples of a second",
    )
    return codec.sampling_rate // samples


def _check_codebooks(decoder: Any, codec: Any) -> None:
    codebooks, channels, entries = decoder.num_codebooks, decoder.audio_channels, codec.codebook_size
    _require(channels in (1, 2), f"decoder.audio_channels is {channels!r}, not 1 or 2")
    _require_positive("decoder.num_codebooks", codebooks)
    _require(codebooks % channels == 0, f"{codebooks} codebooks cannot be shared by {channels} channels")
    _require(
        decoder.vocab_size <= entries,
        f"decoder.vocab_size is {decoder.vocab_size}, audio_encoder.codebook_size {entries}: too few",
    )
    _require(entries > 1 and entries.bit_count() == 1, f"audio_encoder.codebook_size is {entries}, not a power of 2")
    _require(
        codec.codebook_dim == codec.hidden_size,
        f"audio_encoder.codebook_dim is {codec.codebook_dim}, its hidden_size {codec.hidden_size}",
    )
    # a stereo model sends each channel through the same mono codec
    _require(codec.audio_channels == 1, f"audio_encoder.audio_channels is {codec.audio_channels}, not 1")
    _require(bool(codec.target_bandwidths), "audio_encoder.target_bandwidths is empty")
    _require(
        0 < max(codec.target_bandwidths) < math.inf and codec.num_quantizers <= _MOST_QUANTIZERS,
        f"audio_encoder.target_bandwidths are {_shown(codec.target_bandwidths)}",
    )
    _require(
        codebooks // channels <= codec.num_quantizers,
        f"{codebooks // channels} codebooks a channel, but the audio encoder has {codec.num_quantizers}",
    )


def _check_tokens(decoder: Any, generation: Mapping[str, Any]) -> None:
    """One token starts and fills up: the entry of the embedding tables that follows the codebook's own."""
    starts = [
        generation.get("decoder_start_token_id"),
        getattr(decoder, "decoder_start_token_id", None),
        generation.get("bos_token_id"),
        decoder.bos_token_id,
    ]
    start = next((token for token in starts if token is not None), None)
    tokens = {"decoder.pad_token_id": decoder.pad_token_id, "the start token": start}
    if generation.get("pad_token_id") is not None:
        tokens["pad_token_id of the generation configuration"] = generation["pad_token_id"]
    for name, token in tokens.items():
        _require(
            token == decoder.vocab_size, f"{name} is {token!r}; it must be decoder.vocab_size, {decoder.vocab_size}"
        )


def _check_generation(decoder: Any, generation: Mapping[str, Any] | None) -> None:
    """The codes are those that the model finds likeliest, and as many as were asked for."""
    found: Mapping[str, Any] = {"eos_token_id": decoder.eos_token_id} if generation is None else generation
    for name, plain in _PLAIN.items():
        value = found.get(name)
        _require(
            value is None or value in plain,
            f"its generation configuration sets {name} to {_shown(value)}, which is not done here; take it out of "
            "generation_config.json",
        )
    ends: Any = found.get("eos_token_id")
    for token in ends if isinstance(ends, list) else [ends]:
        _require(
            token is None or (isinstance(token, int) and token >= decoder.vocab_size),
            f"eos_token_id is {token!r}, one of the codes, but a piece ends when it is as long as was asked for",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What to generate.

    Raises:
        RequestError: a value is of another type or outside its range; the message names it, and the range.
    """

    prompt: str
    seconds: float = 10.0
    seed: int = 0
    takes: int = 1  # of the same prompt
    guidance: float = 3.0  # weight of the text (classifier-free guidance); 1: off
    temperature: float = 1.0
    top_k: int = 250  # choose among this many; 0: off
    top_p: float = 0.0  # choose among the most probable that add up to this; 0: off

    def __post_init__(self) -> None:
        _check_prompt(self.prompt)
        for name in self.__slots__:  # numpy's numbers become Python's, which JSON and torch take
            object.__setattr__(self, name, _plain(getattr(self, name)))
        _check_number("seconds", self.seconds, lambda v: 0 < v <= 300, "a number above 0 and at most 300")
        _check_integer("seed", self.seed, lambda v: 0 <= v < 2**63, "an integer from 0 to 2**63 - 1")
        _check_integer("takes", self.takes, lambda v: 1 <= v <= 16, "an integer from 1 to 16")
        _check_number("guidance", self.guidance, lambda v: 1 <= v <= 20, "a number from 1 (off) to 20")
        _check_number("temperature", self.temperature, lambda v: 1e-6 <= v <= 10, "a number from 0.000001 to 10")
        _check_integer("top_k", self.top_k, lambda v: v >= 0, "an integer from 0 (off)")
        _check_number("top_p", self.top_p, lambda v: 0 <= v <= 1, "a number from 0 (off) to 1")


def check_request(request: object) -> None:
    """Refuses what is no request.

    Raises:
        RequestError: it is of another type.
    """
    if not isinstance(request, GenerationRequest):
        raise RequestError(
            f"A request is a GenerationRequest, such as GenerationRequest(prompt=...), not of type "
            f"{type(request).__name__}."
        )


def _check_prompt(prompt: object) -> None:
    # a list would be read as several prompts by the tokenizer
    if not isinstance(prompt, str):
        raise RequestError(f"prompt is of type {type(prompt).__name__}; it must be one str.")
    if not prompt.strip():
        raise RequestError("prompt is empty; it must say what to generate.")
    if len(prompt) > _LONGEST_PROMPT:
        raise RequestError(f"prompt has {len(prompt)} characters; it must have at most {_LONGEST_PROMPT}.")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise RequestError("prompt holds half of a surrogate pair; it must be text that UTF-8 can hold.")


def _plain(value: object) -> object:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _check_number(name: str, value: object, fits: Callable[[float], bool], allowed: str) -> None:
    # NaN fits no range
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise RequestError(f"{name} is {_shown(value)}; it must be {allowed}.")


def _check_integer(name: str, value: object, fits: Callable[[int], bool], allowed: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not fits(value):
        raise RequestError(f"{name} is {_shown(value)}; it must be {allowed}.")


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to write out the longest
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
