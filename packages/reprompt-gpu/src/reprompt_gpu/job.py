"""What a caller holds of a request: the take in the making, and the take."""

import queue
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .batch import Sequence
from .codec import CodecStream
from .config import GenerationRequest

__all__ = ["Job", "Samples", "Stream", "Take"]

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """One piece of music."""

    request: GenerationRequest
    number: int  # of the request's takes, from 0
    codes: npt.NDArray[np.int64]  # [codebooks, frames]
    samples: Samples  # [channels, n]
    sample_rate: int

    def write(self, path: Path | str) -> None:
        """Writes it as the path's ending says (wav, flac, ogg, mp3), at -14 LUFS and at most -1 dBTP."""
        from . import audio

        audio.write(Path(path), audio.finish(self.samples, self.sample_rate), self.sample_rate)


class Job:
    """One take in the making."""

    def __init__(self, request: GenerationRequest, number: int, row: Sequence, *, decoded: bool = True) -> None:
        self.request, self.number, self.row, self.decoded = request, number, row, decoded
        self.future: Future[Take] = Future()
        self.future.set_running_or_notify_cancel()  # only `cancel` ends it: what waits for it may give up waiting
        self.cancelled = False
        self.ready = 0  # frames
        self.stream: Stream | None = None

    @property
    def frames(self) -> int:
        """Frames of the whole piece."""
        return self.row.frames

    @property
    def done(self) -> bool:
        """Whether it ended, one way or another."""
        return self.future.done()

    def cancel(self) -> None:
        """Ends it: within two steps it leaves the batch, and `result` raises."""
        self.cancelled = True

    def result(self, timeout: float | None = None) -> Take:
        """The take, when it is there.

        Raises:
            GpuError: why there is none.
            TimeoutError: not yet.
        """
        return self.future.result(timeout)

    def chunks(self) -> Iterator[Samples]:
        """Audio [channels, n] as it is made, of a job that was submitted as a stream.

        Raises:
            GpuError: why it ended early.
        """
        assert self.stream is not None, "submit it with stream=True"
        while (chunk := self.stream.chunks.get()) is not None:
            yield chunk
        self.result()


class Stream:
    """Where a stream's audio goes, and how far it is."""

    def __init__(self, due: int) -> None:
        self.chunks: queue.SimpleQueue[Samples | None] = queue.SimpleQueue()
        self.codec: CodecStream | None = None
        self.sent = 0  # frames
        self.due = due  # frames that the next chunk waits for
