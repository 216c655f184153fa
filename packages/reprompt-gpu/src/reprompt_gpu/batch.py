"""The running batch: sequences of different lengths, texts and options, one step at a time, in fixed slots.

All that a step reads and writes lies in tensors that are allocated once; the host only counts. The delay pattern of
MusicGen puts the code of frame f and codebook k at position f + delay[k]; the input of a position is what stands at the
one before.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import GenerationError
from .graphs import Graphs
from .model import Cache, Decoder, Span, Spans
from .sampling import Options, sample

__all__ = ["Batch", "Sequence"]

_WINDOW = 1 << 20  # numbers of the noise stream that each window of a long piece may use


@dataclass(eq=False, slots=True)
class Sequence:
    """One take in the making."""

    text: Tensor  # [tokens, text_hidden], of the text encoder
    frames: int  # of the whole piece
    key: int  # of the noise
    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250  # 0: all
    top_p: float = 0.0  # 0: off
    greedy: bool = False
    codes: Tensor = field(init=False)  # [K, frames]; the first `done` of them are there
    done: int = field(init=False, default=0)
    # the window in hand
    start: int = field(init=False, default=0)  # frame of the piece at which it starts
    known: int = field(init=False, default=0)  # frames that were there before
    length: int = field(init=False, default=0)  # frames of it
    windows: int = field(init=False, default=0)
    position: int = field(init=False, default=0)
    error: GenerationError | None = field(init=False, default=None)  # why it ends early
    reading: "_Reading | None" = field(init=False, default=None)  # of the codes that it goes on from


@dataclass(slots=True)
class _Reading:
    """Known tokens on their way through the decoder, a layer with each step: all at once they would stall the others.

    Until they are through, what the sequence's slot computes with the others is written over.
    """

    x: Tensor  # [R, T, H] before the next layer
    token: Tensor  # [K] with which the sequence goes on
    layer: int = 0


class Batch:
    """Slots of a decoder.

    Args:
        decoder: the model.
        slots: sequences at once.
        window: frames that the model looks at; longer pieces go on from the end of what they have.
        stride: frames by which a long piece advances with each window.
        text: tokens of the longest text.
    """

    def __init__(self, decoder: Decoder, *, slots: int, window: int, stride: int, text: int) -> None:
        if not 0 < stride <= window:
            raise ValueError(f"stride {stride} of a window of {window} frames")
        self.decoder, self.config = decoder, decoder.config
        self.window, self.stride = window, stride
        self._delay = max(self.config.delays)
        self._positions = window + self._delay
        self.cache: Cache = decoder.new_cache(slots=slots, positions=self._positions, text=text)
        device, codebooks = decoder.device, self.config.codebooks
        self._delays = torch.tensor(self.config.delays, device=device)  # [K]
        self._slots = torch.arange(slots, device=device)
        self._tokens = torch.full((slots, codebooks), self.config.start, device=device)
        self._at = torch.zeros(slots, dtype=torch.int64, device=device)  # position of the next step
        self._base = torch.zeros_like(self._at)  # of the noise
        self._known = torch.zeros_like(self._at)
        self._length = torch.ones_like(self._at)
        self._texts = torch.ones_like(self._at)  # tokens of each text
        # [slots, positions, K]: codes in the delay pattern, as far as they are known, the start token elsewhere
        self._history = torch.full((slots, self._positions, codebooks), self.config.start, device=device)
        self._bad = torch.zeros(slots, dtype=torch.bool, device=device)
        self._options = Options(
            keys=torch.zeros_like(self._at),
            guidance=torch.ones(slots, device=device),
            temperature=torch.ones(slots, device=device),
            top_k=torch.ones_like(self._at),
            top_p=torch.ones(slots, device=device),
            greedy=torch.zeros(slots, dtype=torch.bool, device=device),
        )
        if device.type == "cpu":  # no request is to wait until this is compiled
            sample(torch.zeros(2, slots, codebooks, self.config.vocabulary), self._at, self._options)
        self.active: list[Sequence] = []
        self._graphs = (
            Graphs(self._masked, self._saved, limits=(slots, self._positions, text))
            if (device.type == "cuda")
            else None
        )

    @property
    def free(self) -> int:
        """Slots that wait for a sequence."""
        return self.cache.slots - len(self.active)

    @torch.inference_mode()
    def join(self, sequence: Sequence) -> None:
        """Takes a sequence in; it is part of the next step."""
        assert self.free
        s, slot = sequence, len(self.active)
        s.codes = torch.zeros(self.config.codebooks, s.frames, dtype=torch.int64)
        self.decoder.read_text(s.text, self.cache, slot)
        self._texts[slot] = len(s.text)
        o, entries = self._options, self.config.vocabulary
        o.keys[slot], o.guidance[slot], o.temperature[slot], o.greedy[slot] = s.key, s.guidance, s.temperature, s.greedy
        o.top_k[slot] = min(s.top_k or entries, entries)
        o.top_p[slot] = s.top_p or 2.0  # never reached
        self._bad[slot] = False
        self.active.append(s)
        self._open_window(slot)

    @torch.inference_mode()
    def leave(self, sequence: Sequence) -> None:
        """Gives its slot back."""
        slot, last = self.active.index(sequence), len(self.active) - 1
        if bool(self._bad[slot]):  # a captured step weighs what it must not see by zero, and NaN stays NaN
            self.cache.states[:, 2 * slot : 2 * slot + 2] = 0
            self.cache.text_states[:, slot] = 0
        if slot != last:
            moved = self.active[last]
            self.cache.move(last, slot, positions=moved.position, text=len(moved.text))
            o = self._options
            for state in (
                self._tokens, self._at, self._base, self._known, self._length, self._texts, self._history, self._bad,
                o.keys, o.guidance, o.temperature, o.top_k, o.top_p, o.greedy,
            ):  # fmt: skip
                state[slot] = state[last]
            self.active[slot] = moved
        self.active.pop()
        self._at[last] = 0  # an empty slot of a captured step writes where no one reads

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Advances every sequence by one position; those whose last frame is there, or that have an error.

        Finished sequences stay until they leave.
        """
        for s in self.active:
            if s.reading is not None:
                self._read_layer(s, s.reading)
        if all(s.reading is not None for s in self.active):
            return []
        guided = any(s.guidance != 1 for s in self.active)
        lengths, texts = [s.position + 1 for s in self.active], [len(s.text) for s in self.active]
        if self._graphs is not None:
            self._graphs.run(len(self.active), max(lengths), max(texts), guided=guided)
        else:  # each looks at its own keys and no more: what it computes does not depend on the others
            self._advance(len(self.active), guided=guided, spans=_spans(lengths), text_spans=_spans(texts))
        finished: list[Sequence] = []
        for slot, s in enumerate(self.active):
            if s.reading is not None:
                continue
            s.position += 1
            if s.position < s.length + self._delay:
                continue
            try:  # the window is full
                self.collect(s)
            except GenerationError as e:  # the others have nothing to do with it
                s.error = e
            if s.error is not None or s.done == s.frames:
                finished.append(s)
            else:
                self._open_window(slot)
        return finished

    def ready(self, sequence: Sequence) -> int:
        """Frames of a sequence of which every code is there, whether collected or not."""
        return sequence.start + max(min(sequence.position - self._delay, sequence.length), sequence.known)

    @torch.inference_mode()
    def collect(self, sequence: Sequence) -> None:
        """Brings the codes that are there to the host.

        Raises:
            GenerationError: the model gave values that are no numbers.
        """
        s, slot = sequence, self.active.index(sequence)
        if bool(self._bad[slot]):
            raise GenerationError(
                "The model gave values that are no numbers. Load it with dtype float32 or bfloat16; if that does not "
                "help, its weights are broken."
            )
        ready = self.ready(s)
        first = s.done - s.start  # of the window
        for k, delay in enumerate(self.config.delays):
            s.codes[k, s.done : ready] = self._history[slot, first + delay : ready - s.start + delay, k].cpu()
        s.done = ready

    def _open_window(self, slot: int) -> None:
        """Starts the next stretch of a piece, from the codes of the last one."""
        s = self.active[slot]
        s.start = 0 if s.windows == 0 else s.start + self.stride
        s.known = s.done - s.start
        s.length = min(s.frames - s.start, self.window)
        history = self._history[slot]
        history.fill_(self.config.start)
        for k, delay in enumerate(self.config.delays):
            history[delay : delay + s.known, k] = s.codes[k, s.start : s.done].to(history.device)
        self._base[slot] = s.windows * _WINDOW
        self._known[slot], self._length[slot] = s.known, s.length
        s.position, s.windows = s.known, s.windows + 1
        self._at[slot] = s.position
        inputs = torch.cat([torch.full_like(history[:1], self.config.start), history[: s.known]])  # [known + 1, K]
        if s.known:
            s.reading = _Reading(self.decoder.embed(inputs[:-1], guided=s.guidance != 1), inputs[-1])
        self._tokens[slot] = inputs[-1]

    def _read_layer(self, s: Sequence, reading: _Reading) -> None:
        slot = self.active.index(s)
        reading.x = self.decoder.prefill(reading.x, reading.layer, self.cache, slot, text_length=len(s.text))
        reading.layer += 1
        self._at[slot], self._tokens[slot], self._bad[slot] = s.position, reading.token, False
        if reading.layer == self.config.layers:
            s.reading = None

    def _masked(self, b: int, length: int, text: int, guided: bool) -> None:
        """A step of the first b slots that looks at so many keys, whichever of them are there."""
        device = self._at.device
        seen = torch.arange(length, device=device) <= self._at[:b, None]
        told = torch.arange(text, device=device) < self._texts[:b, None]
        self._advance(b, guided=guided, spans=[Span(0, b, length, seen)], text_spans=[Span(0, b, text, told)])

    def _saved(self) -> list[Tensor]:
        """What a step changes and a later one does not write anew."""
        return [self._tokens, self._at, self._history, self._bad]

    def _advance(self, b: int, *, guided: bool, spans: Spans, text_spans: Spans) -> None:
        """The step itself: tensors only, nothing depends on their values."""
        at, slots = self._at[:b], self._slots[:b]
        logits = self.decoder.step(self._tokens[:b], at, self.cache, guided=guided, spans=spans, text_spans=text_spans)
        o = self._options
        options = Options(o.keys[:b], o.guidance[:b], o.temperature[:b], o.top_k[:b], o.top_p[:b], o.greedy[:b])
        drawn, bad = sample(logits, self._base[:b] + at, options)  # [B, K], [B]
        self._bad[:b] |= bad
        frame = at[:, None] - self._delays  # [B, K] of the window, for which a code was drawn
        new = (frame >= self._known[:b, None]) & (frame < self._length[:b, None])
        tokens = torch.where(new, drawn, self._history[slots, at])
        self._history[slots, at] = tokens
        self._tokens[:b] = tokens
        self._at[:b] += 1
        self._at[:b].clamp_(max=self._positions - 1)  # an empty slot of a captured step stays within its tensors


def _spans(lengths: Many[int]) -> list[Span]:
    """Neighbours that look at as many keys share a call."""
    spans: list[Span] = []
    for slot, length in enumerate(lengths):
        if spans and spans[-1].length == length:
            spans[-1] = spans[-1]._replace(stop=slot + 1)
        else:
            spans.append(Span(slot, slot + 1, length))
    return spans
