"""The result of a serverless endpoint, looked at before it is believed: its shape, its bytes, its sound."""

import asyncio
import base64
import hashlib
import io
import logging
import math

import numpy as np

from ..errors import AudioStoreError, MakingError, PromptError
from .audio_file import FORMATS
from .contract import GenerationRequest, RemoteResult, RemoteTake, Take, audio_key, from_object
from .storage import AudioStore
from .work import Sound

__all__ = ["read_audio", "read_result", "sound_of"]

_log = logging.getLogger(__name__)
_MOST_BYTES = 256 << 20  # of a take; 300 s of stereo at 96 kHz in 16 bits are 115 MB
_HIGHEST_RATE = 192_000
_OFF_S = 0.1  # that a file may differ from what is said of it: codecs fill their last block
_ASKED_OFF_S = 0.5  # that it may differ from what was asked for
_QUIETEST, _LOUDEST_LUFS, _HIGHEST_DBTP = -70.0, 0.0, 3.0
_BLOCK = 1 << 16  # frames


def read_result(output: object, request: GenerationRequest) -> RemoteResult:
    """A result that fits the contract and the request; its audio is not looked at yet.

    Raises:
        MakingError: it does not, or is an error of the endpoint's, told in its own words.
    """
    try:
        result = from_object(output, RemoteResult)
    except PromptError as e:
        raise _bad("does not fit the contract; check that it runs this version of the worker") from e
    if result.error is not None:
        if "\n" in result.error.message:  # never said by our worker: perhaps a traceback
            raise MakingError("The endpoint failed; the log of its worker says why.", code=result.error.code)
        raise MakingError(result.error.message, code=result.error.code)
    takes = sorted((remote.take for remote in result.takes), key=lambda take: take.number)
    if [take.number for take in takes] != list(range(request.takes)):
        raise _bad(f"holds takes {[t.number for t in takes]}, not {request.takes} numbered from 0")
    for take in takes:
        _check_claims(take, request)
    return result


def _check_claims(take: Take, request: GenerationRequest) -> None:
    """What is said of a take is what was asked for, and can be."""
    name = f"says of take {take.number} that it"
    if take.format != request.format:
        raise _bad(f"{name} is {take.format}, not {request.format}")
    if take.seed != request.seed + take.number:
        raise _bad(f"{name} has the seed {take.seed}, not {request.seed + take.number}")
    if abs(take.seconds - request.seconds) > _ASKED_OFF_S:
        raise _bad(f"{name} has {take.seconds:.2f} s, not {request.seconds:g}")
    if take.bytes > _MOST_BYTES or take.sample_rate > _HIGHEST_RATE:
        raise _bad(f"{name} has {take.bytes} bytes at {take.sample_rate} Hz, more than can be")
    levels = ((take.loudness_lufs, _LOUDEST_LUFS), (take.true_peak_dbtp, _HIGHEST_DBTP))
    if not all(math.isfinite(level) and _QUIETEST <= level <= most for level, most in levels):
        raise _bad(f"{name} has {take.loudness_lufs} LUFS and {take.true_peak_dbtp} dBTP, which cannot be")


async def read_audio(remote: RemoteTake, *, store: AudioStore, generation: str, attempt: int) -> bytes:
    """The file of a take: what came with the answer, or what the endpoint uploaded.

    Args:
        remote: what is said of it.
        store: that both ends share.
        generation, attempt: of the folder where an uploaded one lies.

    Raises:
        MakingError: it is not there, or not what is said of it; or (code "storage") the store is away.
    """
    take = remote.take
    if remote.audio is not None:
        return await asyncio.to_thread(_inline, take, remote.audio)
    key = audio_key(generation, attempt, take.sha256, take.format)
    try:
        size = await store.size(key)
        if size != take.bytes:
            raise _bad(f"says {take.bytes} bytes of take {take.number}, of which {size} were uploaded")
        content = await store.get(key)
    except AudioStoreError as e:
        if isinstance(e.__cause__, FileNotFoundError):
            raise _bad(
                f"says that it uploaded take {take.number}, which is not there; check that REPROMPT_AUDIO_URL is the "
                "same at both ends"
            ) from e
        _log.error("%s", e)  # where it lies is not for the person who asked
        raise MakingError(
            "The audio could not be read; the people who run this service can see why in its log.",
            code="storage",
            again=True,
        ) from e
    await asyncio.to_thread(_check, content, take)
    return content


def _inline(take: Take, encoded: str) -> bytes:
    if len(encoded) != 4 * -(-take.bytes // 3):  # before anything is made of it
        raise _bad(f"has not the {take.bytes} bytes of take {take.number}")
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError as e:
        raise _bad(f"has a take {take.number} that is not base64") from e
    _check(content, take)
    return content


def _check(content: bytes, take: Take) -> None:
    """A file is what is said of it, to its last sample."""
    import soundfile

    if len(content) != take.bytes or hashlib.sha256(content).hexdigest() != take.sha256:
        raise _bad(f"has a take {take.number} with another hash than it says")
    most = round((take.seconds + _OFF_S) * take.sample_rate)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            found = file.format, file.channels, file.samplerate
            if found != (FORMATS[take.format], take.channels, take.sample_rate):
                raise _bad(f"has a take {take.number} of another format, rate or number of channels than it says")
            frames = 0
            while frames <= most and len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                frames += len(block)
                if not np.isfinite(block).all():
                    raise _bad(f"has a take {take.number} with samples that are no numbers")
    except (soundfile.LibsndfileError, TypeError, ValueError) as e:
        raise _bad(f"has a take {take.number} that is no audio") from e
    if abs(frames / take.sample_rate - take.seconds) > _OFF_S:
        raise _bad(f"has a take {take.number} of another length than it says")


def sound_of(take: Take, content: bytes) -> Sound:
    """A checked take as one to be kept."""
    return Sound(
        content=content,
        number=take.number,
        seed=take.seed,
        format=take.format,
        seconds=take.seconds,
        sample_rate=take.sample_rate,
        channels=take.channels,
        loudness_lufs=take.loudness_lufs,
        true_peak_dbtp=take.true_peak_dbtp,
    )


def _bad(what: str) -> MakingError:
    return MakingError(f"The endpoint's result {what}.", code="bad_result")
