"""The engine: requests in, music out. One thread runs the batch; any number of threads may ask.

engine = Engine.load("facebook/musicgen-small")
for take in engine.generate([GenerationRequest(prompt="slow strings", seconds=10, seed=1, takes=2)]):
    take.write(f"{take.number}.wav")
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from . import weights
from .batch import Batch
from .batch import Sequence as Row
from .codec import Codec
from .config import GenerationRequest, check_request
from .errors import GenerationError, GpuError, RequestError
from .failures import fail, told
from .job import Job, Samples, Stream, Take
from .model import Decoder, cache_dtype
from .placement import check_memory, place
from .quantization import Quantization
from .sampling import stream_key
from .tokens import LONGEST_TEXT, check_batch, check_text, without_padding
from .weights import Checkpoint

__all__ = ["Engine", "Job", "Take"]

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_WINDOW_S = 30  # of music that MusicGen was trained to look at
_LEAST_WINDOW = 512  # frames, of a codec that has few a second
_CHUNK_S = 0.5  # of audio in a chunk of a stream
_FIRST_CHUNK_S = 0.2


class Engine:
    """MusicGen, loaded. Build with `Engine.load` or `Engine.from_transformers`; close it, or use `with`.

    Args:
        checkpoint: the model.
        device: auto, cpu or cuda (cuda:1, ...).
        dtype: auto, float32, bfloat16 or float16. auto: bfloat16 on a GPU, float32 on a CPU.
        quantize: int8 or int4 weights, on a CPU.
        slots: sequences at once.

    Raises:
        CapacityError: it does not fit; says how many slots would.
        RequestError: an option that is unknown, or not for this device.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        quantize: Quantization | None = None,
        slots: int = 4,
    ) -> None:
        self.name, self.revision, self.config = checkpoint.name, checkpoint.revision, checkpoint.config
        self.device, self.dtype = place(device=device, dtype=dtype, quantize=quantize, slots=slots)
        rate = self.config.frame_rate
        # whatever max_positions says: the reference computes more of them, too
        window = max(_WINDOW_S * rate, _LEAST_WINDOW)
        positions, cached = window + max(self.config.delays), cache_dtype(self.dtype, self.device)
        check_memory(self.config, slots, positions, LONGEST_TEXT, cached, self.device)
        self._tokenizer, self._tokenizing = checkpoint.tokenizer, threading.Lock()  # not made for several threads
        # T5 overflows in half precision, and runs once for a request
        text_encoder: Any = checkpoint.text_encoder
        codec: Any = checkpoint.codec
        self._text_encoder = text_encoder.to(self.device, torch.float32)
        self._codec = Codec(codec.to(self.device, torch.float32), channels=self.config.channels)
        self.decoder = Decoder(self.config, checkpoint.decoder, dtype=self.dtype, device=self.device, quantize=quantize)
        stride = window * 3 // 5  # by which a longer piece advances: 18 of 30 s, audiocraft's extend_stride
        self._batch = Batch(self.decoder, slots=slots, window=window, stride=stride, text=LONGEST_TEXT)
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}  # by the id of their row
        self._changed = threading.Condition()
        self._closed = False
        self._decoding = ThreadPoolExecutor(1, "reprompt-gpu-decode")
        self._thread = threading.Thread(target=self._run, name="reprompt-gpu", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        offline: bool = False,
        device: str = "auto",
        dtype: Dtype = "auto",
        quantize: Quantization | None = None,
        slots: int = 4,
    ) -> Self:
        """The engine of a MusicGen checkpoint: a folder, or an id of the hub.

        Raises:
            CheckpointError: not a MusicGen checkpoint; says what is missing or wrong.
            RequestError: an option that is unknown, or not for this machine; before anything is downloaded.
        """
        place(device=device, dtype=dtype, quantize=quantize, slots=slots)
        checkpoint = weights.load(source, revision=revision, offline=offline)
        return cls(checkpoint, device=device, dtype=dtype, quantize=quantize, slots=slots)

    @classmethod
    def from_transformers(
        cls,
        model: Any,
        tokenizer: Any = None,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        quantize: Quantization | None = None,
        slots: int = 4,
    ) -> Self:
        """The engine of a MusicgenForConditionalGeneration in memory; without a tokenizer it takes ids alone."""
        checkpoint = weights.from_transformers(model, tokenizer)
        return cls(checkpoint, device=device, dtype=dtype, quantize=quantize, slots=slots)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything under way; jobs that are not done raise."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._decoding.shutdown()

    @property
    def sample_rate(self) -> int:
        """Samples a second of the audio."""
        return self.config.sample_rate

    # -- asking ----------------------------------------------------------------------------------------------------

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Take]:
        """Every take of every request, in their order.

        Raises:
            RequestError: no list of requests, or a text that is too long.
            GpuError: a take could not be made; the others are ended.
        """
        given: Any = requests
        if not isinstance(given, list | tuple) or not all(isinstance(r, GenerationRequest) for r in given):
            raise RequestError("generate takes a list of GenerationRequest, such as [GenerationRequest(prompt=...)].")
        jobs: list[Job] = []
        try:
            for request in requests:
                jobs += self.submit(request)
            return [job.result() for job in jobs]
        except BaseException:
            for job in jobs:
                job.cancel()
            raise

    def stream(self, request: GenerationRequest) -> Iterator[Samples]:
        """The audio of a request of one take, [channels, n] at a time, as it is made.

        Raises:
            RequestError: more than one take, or a text that is too long.
            GpuError: it ended early.
        """
        check_request(request)
        if request.takes != 1:
            raise RequestError(f"takes is {request.takes}: a stream has one take.")
        return self._stream(request)

    def _stream(self, request: GenerationRequest) -> Iterator[Samples]:
        (job,) = self.submit(request, stream=True)
        try:
            yield from job.chunks()
        finally:
            job.cancel()

    def submit(self, request: GenerationRequest, *, stream: bool = False) -> list[Job]:
        """Puts a request into the queue: one job for each take, which run side by side.

        Raises:
            RequestError: the text is too long for the model, or there is no tokenizer.
            GenerationError: the engine is closed.
        """
        check_request(request)
        if self._tokenizer is None:
            raise RequestError("The engine was made without a tokenizer: give one, or call submit_ids.")
        with self._tokenizing:
            ids: Any = self._tokenizer(request.prompt)["input_ids"]
        return self.submit_ids(torch.tensor(ids), request, stream=stream)

    def submit_ids(self, ids: Tensor, request: GenerationRequest, *, stream: bool = False) -> list[Job]:
        """The same for a text that is tokens [n] already; the request's prompt is only a name then."""
        check_request(request)
        text = self._read(ids, seconds=request.seconds)
        frames = max(1, round(request.seconds * self.config.frame_rate))
        jobs: list[Job] = []
        for take in range(request.takes):
            row = Row(
                text, frames, stream_key(request.seed, take), request.guidance, request.temperature, request.top_k,
                request.top_p,
            )  # fmt: skip
            jobs.append(Job(request, take, row))
            if stream:
                jobs[-1].stream = Stream(due=ceil(_FIRST_CHUNK_S * self.config.frame_rate))
        self._enqueue(jobs)
        return jobs

    def generate_codes(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        frames: int,
        greedy: bool = True,
        guidance: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        seed: int = 0,
    ) -> Tensor:
        """Codes [batch, codebooks, frames] of texts that are tokens already.

        Args:
            input_ids: [batch, tokens] int64.
            attention_mask: [batch, tokens], 0 for what is not read, such as padding, else 1; None: all is read.
            frames: of each sequence; 300 seconds at most.
            greedy: always take the likeliest code; else draw, sequence i with seed + i.
            guidance, temperature, top_k, top_p: as in GenerationRequest.
        """
        frames = check_batch(input_ids, attention_mask, frames=frames)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        request = GenerationRequest(
            prompt="given as tokens", seconds=frames / self.config.frame_rate, guidance=guidance,
            temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
        )  # fmt: skip
        jobs: list[Job] = []
        for i, (ids, there) in enumerate(zip(input_ids, mask.bool(), strict=True)):
            text = self._read(ids, there, seconds=request.seconds)
            row = Row(text, frames, stream_key(seed + i, 0), guidance, temperature, top_k, top_p, greedy)
            jobs.append(Job(request, i, row, decoded=False))
        self._enqueue(jobs)
        return torch.stack([torch.from_numpy(job.result().codes) for job in jobs])

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Audio [batch, channels, n] float32 of codes [batch, codebooks, frames]."""
        return self._codec.decode(codes.to(self.device)).cpu()

    @torch.inference_mode()
    def _read(self, ids: Tensor, there: Tensor | None = None, *, seconds: float = 0) -> Tensor:
        """[tokens, text_hidden] of a text's tokens [tokens], without those that are not there."""
        ids, gaps = (ids, None) if there is None else without_padding(ids, there)
        check_text(ids, entries=self._text_encoder.config.vocab_size)
        try:
            mask = None if gaps is None else gaps[None].to(self.device)
            states = self._text_encoder(input_ids=ids[None].to(self.device), attention_mask=mask).last_hidden_state[0]
            return states if mask is None else states[mask[0]]
        except Exception as e:
            raise told(e, seconds=seconds, config=self.config, device=self.device) from e

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            if self._closed:
                raise GenerationError("The engine is closed.")
            self._waiting.extend(jobs)
            self._changed.notify()

    # -- the thread that runs the batch ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except Exception as e:  # not even cleaned up after, such as when a CUDA error makes every call fail
            with self._changed:
                self._closed = True
                left = [*self._waiting, *self._running.values()]
            for job in left:
                self._fail(job, e)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._running or self._closed)
                if self._closed:
                    left = [*self._waiting, *self._running.values()]
                    break
                given_up = [job for job in self._waiting if job.cancelled]
                for job in given_up:
                    self._waiting.remove(job)
                joining = [self._waiting.popleft() for _ in range(min(self._batch.free, len(self._waiting)))]
            for job in given_up:
                fail(job, GenerationError("It was cancelled."))
            for job in joining:
                self._join(job)
            if self._running:
                self._step()
        for job in left:
            fail(job, GenerationError("The engine was closed before this was done."))

    def _join(self, job: Job) -> None:
        try:
            self._batch.join(job.row)
        except Exception as e:
            self._fail(job, e)
            return
        self._running[id(job.row)] = job

    def _step(self) -> None:
        for job in [j for j in self._running.values() if j.cancelled]:
            self._leave(job)
            fail(job, GenerationError("It was cancelled."))
        if not self._running:
            return
        try:
            finished = self._batch.step()
        except Exception as e:  # what broke the step may be in any of them
            for job in list(self._running.values()):
                self._leave(job)
                self._fail(job, e)
            return
        for job in list(self._running.values()):
            job.ready = self._batch.ready(job.row)
            last = job.row in finished
            try:
                if job.row.error is not None:
                    raise job.row.error
                if job.stream is not None and (last or job.ready >= job.stream.due):
                    self._batch.collect(job.row)
                    self._send(job)
            except GpuError as e:
                self._leave(job)
                fail(job, e)
                continue
            if last:
                self._leave(job)
                self._decoding.submit(self._finish, job)

    def _fail(self, job: Job, e: Exception) -> None:
        fail(job, told(e, seconds=job.frames / self.config.frame_rate, config=self.config, device=self.device))

    def _leave(self, job: Job) -> None:
        self._batch.leave(job.row)
        del self._running[id(job.row)]

    def _send(self, job: Job) -> None:
        """Hands the new codes of a stream to the thread that decodes."""
        stream = job.stream
        assert stream is not None
        codes = job.row.codes[:, stream.sent : job.row.done].clone()
        stream.sent = job.row.done
        stream.due = min(stream.sent + ceil(_CHUNK_S * self.config.frame_rate), job.frames)
        self._decoding.submit(self._decode_chunk, job, codes)

    def _decode_chunk(self, job: Job, codes: Tensor) -> None:
        stream = job.stream
        assert stream is not None
        try:
            with torch.inference_mode():
                stream.codec = stream.codec or self._codec.stream()
                samples = stream.codec.push(codes.to(self.device)).cpu().numpy()
            if samples.shape[1]:
                stream.chunks.put(samples)
        except Exception as e:
            job.cancelled = True
            self._fail(job, e)

    def _finish(self, job: Job) -> None:
        """Decodes what is complete. (On the thread that decodes.)"""
        if job.done:
            return
        try:
            codes = job.row.codes
            with torch.inference_mode():
                if job.stream is not None:
                    assert job.stream.codec is not None
                    job.stream.chunks.put(job.stream.codec.finish().cpu().numpy())
                samples = np.zeros((self.config.channels, 0), np.float32)
                if job.decoded and job.stream is None:
                    samples = self.decode(codes[None])[0].numpy()
            take = Take(job.request, job.number, codes.numpy(), samples, self.config.sample_rate)
        except Exception as e:
            self._fail(job, e)
            return
        job.future.set_result(take)
        if job.stream is not None:
            job.stream.chunks.put(None)
