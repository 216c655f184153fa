"""EnCodec's codes to audio: whole, and as a stream of pieces that fit without a seam.

Shapes: B sequences, K codebooks, F frames, C channels. Everything is computed in float32, whatever the language model
uses: half precision is heard, and overflows.
"""

import math
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy
from itertools import count
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import EncodecModel

from .errors import CheckpointError, GenerationError
from .stages import Chain, stage_of

__all__ = ["Codec", "CodecStream"]

_AT_ONCE = 1000  # frames of all sides together; more are decoded in pieces: a second of a side takes about 45 MB
_cudnn_flags = threading.Lock()  # they belong to the process


class Codec:
    """The decoder of a mono EnCodec model; in stereo each side is decoded by it.

    It keeps a float32 copy of the decoder and the codebooks; the model is left as it is and can be let go. Load it in
    float32: what half precision lost does not come back.

    Args:
        model: with its weights, on the device that decodes.
        channels: 1, or 2 with codebooks that alternate between left and right (stereo MusicGen).

    Raises:
        CheckpointError: the model is not mono, or channels is neither 1 nor 2.
    """

    def __init__(self, model: EncodecModel, *, channels: int) -> None:
        config = model.config
        if config.audio_channels != 1:
            raise CheckpointError(f"MusicGen's codec is mono; this one has {config.audio_channels} channels.")
        if channels not in (1, 2):
            raise CheckpointError(f"Music has 1 or 2 channels, not {channels}.")
        self._channels = channels
        self._sample_rate = config.sampling_rate
        self._samples_per_frame = math.prod(config.upsampling_ratios)
        self._entries = config.codebook_size
        self._quantizer = deepcopy(model.quantizer).float().eval()
        self._decoder = deepcopy(model.decoder).float().eval()
        for layer in self._decoder.modules():
            _drop_weight_norm(layer)
        self._streams = config.norm_type != "time_group_norm"

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self._sample_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples that each frame of codes becomes."""
        return self._samples_per_frame

    def decode(self, codes: Tensor) -> Tensor:
        """The audio of whole sequences, as `MusicgenForConditionalGeneration.generate` decodes it.

        Args:
            codes: [B, K, F] int64.

        Returns:
            [B, C, F * samples_per_frame] float32.

        Raises:
            GenerationError: the codes are none of this codec, or the audio is not finite.
        """
        self._check(codes)
        frames = codes.shape[-1]
        if not frames:
            return torch.zeros(len(codes), self._channels, 0, device=self._device)
        at_once = max(1, _AT_ONCE // (len(codes) * self._channels))
        if frames <= at_once or not self._streams:
            with self._exact():
                return self._audio(self._decoder(self._embed(codes)))
        chain = self._chain()
        pieces = codes.split(at_once, -1)
        return torch.cat([self._push(chain, piece, last=piece is pieces[-1]) for piece in pieces], -1)

    def stream(self) -> "CodecStream":
        """A decoder of one sequence as it comes.

        Raises:
            CheckpointError: the codec cannot be streamed, as it is normalised over time (`time_group_norm`).
        """
        chain = self._chain()

        def step(codes: Tensor | None) -> Tensor:
            if codes is None:  # the end
                nothing = torch.zeros(1, self._channels, 0, dtype=torch.int64, device=self._device)
                return self._push(chain, nothing, last=True)[0]
            self._check(codes[None])
            return self._push(chain, codes[None], last=False)[0]

        return CodecStream(step, latency_frames=_latency(chain, self._samples_per_frame))

    @property
    def _device(self) -> torch.device:
        return next(self._decoder.parameters()).device

    def _chain(self) -> Chain:
        return Chain(stage_of(layer) for layer in self._decoder.layers)

    def _push(self, chain: Chain, codes: Tensor, *, last: bool) -> Tensor:
        """[B, C, m] what is final after the next codes [B, K, n]."""
        with self._exact():
            return self._audio(chain.push(self._embed(codes), last=last))

    def _embed(self, codes: Tensor) -> Tensor:
        """[B * C, hidden, F] of codes [B, K, F]."""
        b, k, f = codes.shape
        sides = codes.reshape(b, k // self._channels, self._channels, f).transpose(1, 2).flatten(0, 1)
        return self._quantizer.decode(sides.transpose(0, 1).to(self._device))

    def _audio(self, x: Tensor) -> Tensor:
        """[B, C, n] of the decoder's [B * C, 1, n]."""
        if not bool(torch.isfinite(x).all()):
            raise GenerationError("The codec gave audio that is not finite.")
        return x.reshape(len(x) // self._channels, self._channels, x.shape[-1])

    def _check(self, codes: Tensor) -> None:
        most = len(self._quantizer.layers) * self._channels
        if codes.ndim != 3 or not len(codes) or not 0 < codes.shape[1] <= most or codes.shape[1] % self._channels:
            raise GenerationError(f"Codes of shape {list(codes.shape)} do not fit a codec of {most} codebooks.")
        # out of its range an index ends a CUDA process
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self._entries:
            raise GenerationError(
                f"Codes go from {int(codes.min())} to {int(codes.max())}, not 0 to {self._entries - 1}."
            )

    @contextmanager
    def _exact(self) -> Generator[None]:
        """float32 that is float32: no autocast, and no TF32, which cuDNN uses unless told otherwise."""
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            if self._device.type != "cuda":
                yield
                return
            with _cudnn_flags, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield


class CodecStream:
    """Audio of one sequence as its codes come: together the same as `Codec.decode` of all of them.

    Made by `Codec.stream`. Work and memory of a push depend on its frames only.

    Attributes:
        latency_frames: frames that are held back at most: after n frames, the audio of n - latency_frames is out.
    """

    def __init__(self, step: Callable[[Tensor | None], Tensor], *, latency_frames: int) -> None:
        self._step = step
        self.latency_frames = latency_frames
        self._finished = False

    def push(self, codes: Tensor) -> Tensor:
        """The audio that is final by now.

        Args:
            codes: [K, n] int64 the next frames.

        Returns:
            [C, m] float32 after what was returned before; m may be 0.

        Raises:
            GenerationError: the codes are none of this codec, the audio is not finite, or the stream has ended.
        """
        return self._next(codes)

    def finish(self) -> Tensor:
        """[C, m] the rest of the audio. Nothing can be pushed after it.

        Raises:
            GenerationError: the audio is not finite, or the stream has ended.
        """
        rest = self._next(None)
        self._finished = True
        return rest

    def _next(self, codes: Tensor | None) -> Tensor:
        if self._finished:
            raise GenerationError("The stream has ended.")
        return self._step(codes)


def _latency(chain: Chain, samples_per_frame: int) -> int:
    """Frames that a fresh chain holds back at most."""
    # once the first sample is out all layers have started, and lag by the same number of samples from then on
    first = next(n for n in count(1) if chain.ready(n) > 0)
    return max(first - 1, math.ceil((first * samples_per_frame - chain.ready(first)) / samples_per_frame))


def _drop_weight_norm(layer: nn.Module) -> None:
    """Puts the weight in place of what would compute it at every call.

    Not by `parametrize.remove_parametrizations`: it changes the layer's class, which is that of the model's, too.
    """
    if not parametrize.is_parametrized(layer, "weight"):
        return
    weight = cast("Tensor", layer.weight).detach()
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    layer.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
