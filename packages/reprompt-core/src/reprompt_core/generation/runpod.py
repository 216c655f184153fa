"""RunPod serverless as a maker: submitted once, followed to its end, never billed twice unseen.

How far a submission is stands in the generation's row, so that another attempt goes on from there:
`waiting` (nothing is out), `submitting` (it may be), `submitted` (it is, with its id).
"""

import asyncio
import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec

from ..errors import DatabaseError, MakingError, PromptError, SettingsError
from .contract import Place, RemoteJob, RemoteResult, from_json, from_object
from .jobs import Jobs
from .runpod_client import Answer, NotTaken, RunPodClient, Unheard, plain_numbers, unknown
from .runpod_result import read_audio, read_result, sound_of
from .work import Made, Work

__all__ = ["RunPodMaker"]

_log = logging.getLogger(__name__)
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 8.0  # between two submissions that were not taken
_POLL_S, _LONGEST_POLL_S, _POLL_GROWTH = 0.5, 5.0, 1.5
_SUBMIT_S, _ANSWER_S, _LAST_LOOK_S = 60.0, 20.0, 2.0  # for one answer
_CANCEL_S = 2.0  # whoever cancels waits for it
_LAST_S = 5.0  # that a stopping worker waits for the answer to a submission
_LOST = 3  # times in a row that an endpoint refuses to speak of a job before it is given up
_LOST_CODES = {401: "refused", 403: "refused", 404: "expired"}


@dataclass(slots=True)
class _Submitted:
    """A job at RunPod."""

    id: str
    at: float  # epoch seconds
    attempt: int  # of ours that submitted it: uploaded audio lies in its folder
    kept: bool = False  # in the row


class RunPodMaker:
    """Sends generations to a RunPod serverless endpoint that runs `reprompt-worker runpod`. Close it at the end.

    Args:
        jobs: open, with an endpoint in their settings.
        slots: generations at once.

    Raises:
        SettingsError: no endpoint is configured.
    """

    place: Place = "runpod"

    def __init__(self, jobs: Jobs, *, slots: int = 32) -> None:
        if jobs.settings.runpod_endpoint is None:
            raise SettingsError("RunPod is not configured: set REPROMPT_RUNPOD_ENDPOINT and REPROMPT_RUNPOD_API_KEY.")
        self._jobs, self.slots = jobs, slots
        self._timeout_s = jobs.settings.runpod_timeout_s
        self._client: RunPodClient | None = None
        self.model: str | None = None  # what the endpoint loaded; each result says it
        self.model_revision: str | None = None

    async def close(self) -> None:
        """Gives up the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def make(self, work: Work) -> Made:
        """Submits the generation, or goes on with what an earlier attempt submitted, and keeps its takes.

        Cancelled by the person who asked, it is cancelled at RunPod; stopped with its worker, it is not.

        Raises:
            MakingError: why there is no result.
            DatabaseError: it could not be remembered that something is submitted; nothing is.
        """
        self._client = client = self._client or RunPodClient(self._jobs.settings)
        remote = work.remote or {"state": "waiting"}
        if remote["state"] == "submitting":
            raise unknown(work.generation.id, "the worker that sent it died before the answer was kept")
        if remote["state"] == "submitted":
            job = _Submitted(remote["id"], remote["at"], remote["attempt"], kept=True)
        else:
            job = await self._submit(client, work)
        try:
            answer = await self._follow(client, work, job)
        except asyncio.CancelledError:
            await self._leave(client, work, job)
            raise
        return await self._take(client, work, job, answer)

    # -- submitting ------------------------------------------------------------------------------------------------

    async def _submit(self, client: RunPodClient, work: Work) -> _Submitted:
        """Sends it until it is taken or refused; not again when that is not known."""
        content = msgspec.to_builtins(_remote_job(work))
        deadline = time.monotonic() + self._timeout_s
        for tried in count():
            try:
                await work.remember({"state": "submitting"})
            except asyncio.CancelledError:  # perhaps it was remembered, but nothing was sent
                await self._wait(work)
                raise
            try:
                id = await self._post(client, work, content, timeout_s=deadline - time.monotonic())
                return _Submitted(id, time.time(), work.attempt)
            except NotTaken as e:
                await self._wait(work)
                pause = _backoff(tried, e.after_s)
                if time.monotonic() + pause >= deadline:
                    raise MakingError(
                        f"Nothing was submitted to RunPod: {e}, and {self._timeout_s:g} s do not suffice. Try again "
                        "later.",
                        code="timeout",
                    ) from None
            await asyncio.sleep(pause)
        raise AssertionError

    async def _post(self, client: RunPodClient, work: Work, content: dict[str, Any], *, timeout_s: float) -> str:
        """One submission. Stopped meanwhile, it still waits a little for the id."""
        posting = asyncio.create_task(client.run(content, timeout_s=min(_SUBMIT_S, max(timeout_s, _LAST_LOOK_S))))
        try:
            return await asyncio.shield(posting)
        except asyncio.CancelledError:
            await asyncio.wait([posting], timeout=_CANCEL_S if work.cancelled else _LAST_S)
            posting.cancel()
            await self._settle(client, work, posting)
            raise

    async def _settle(self, client: RunPodClient, work: Work, posting: "asyncio.Task[str]") -> None:
        """What came of a submission whose attempt stops. Where nothing came, the row says that it may be out."""
        try:
            job = _Submitted(await posting, time.time(), work.attempt)
        except MakingError as e:
            taken = e.code != "refused"
        except NotTaken:
            taken = False
        except asyncio.CancelledError:
            taken = True
            if work.cancelled:
                _log.warning("generation %s was cancelled while RunPod took it: it may run there", work.generation.id)
        else:
            await self._leave(client, work, job)
            return
        if not taken:
            await self._wait(work)

    async def _wait(self, work: Work) -> None:
        """Remembers that nothing is out; where that fails, a person is asked in the end."""
        with suppress(DatabaseError, MakingError):
            await work.remember({"state": "waiting"})

    async def _leave(self, client: RunPodClient, work: Work, job: _Submitted) -> None:
        """The attempt stops: the job ends with it where a person cancelled it, else it waits for the next attempt."""
        if work.cancelled:
            await client.cancel(job.id, timeout_s=_CANCEL_S)
            return
        with suppress(MakingError):
            await self._remember(client, work, job)

    async def _remember(self, client: RunPodClient, work: Work, job: _Submitted) -> None:
        """Puts the id into the row; while the database is away it is only here.

        Raises:
            MakingError: another attempt has taken over, which does not know of this job.
        """
        if job.kept:
            return
        try:
            await work.remember({"state": "submitted", "id": job.id, "at": job.at, "attempt": job.attempt})
            job.kept = True
        except DatabaseError as e:
            _log.warning("RunPod's job %s of generation %s is not written down: %s", job.id, work.generation.id, e)
        except MakingError:
            await client.cancel(job.id, timeout_s=_CANCEL_S)
            raise

    # -- following -------------------------------------------------------------------------------------------------

    async def _follow(self, client: RunPodClient, work: Work, job: _Submitted) -> Answer:
        """Asks until it is final or the time is over; at least once, for it may have ended while nobody asked."""
        elapsed = max(0.0, time.time() - job.at)  # a clock that was set back gives no more than the whole
        deadline = time.monotonic() + self._timeout_s - elapsed
        pause, lost, why = _POLL_S, 0, ""
        while True:
            await self._remember(client, work, job)
            left, after_s = deadline - time.monotonic(), None
            try:
                answer = await client.status(job.id, timeout_s=min(_ANSWER_S, max(left, _LAST_LOOK_S)))
                if answer.status not in {"IN_QUEUE", "IN_PROGRESS", "RUNNING"}:
                    return answer
                lost, why = 0, f"it is {answer.status}"
                work.progress = max(work.progress, _progress(answer.output))
            except Unheard as e:
                lost = lost + 1 if e.status in _LOST_CODES else 0
                why, after_s = str(e), e.after_s
                if e.status is not None and lost >= _LOST:
                    raise _gone(e.status, job) from None
            left = deadline - time.monotonic()
            if left <= 0:
                await client.cancel(job.id, timeout_s=_CANCEL_S)
                raise MakingError(
                    f"RunPod had no result within {self._timeout_s:g} s ({why}); its job {job.id} was asked to end. "
                    "Ask for less, or set REPROMPT_RUNPOD_TIMEOUT_S higher.",
                    code="timeout",
                )
            await asyncio.sleep(min(max(pause * random.uniform(0.9, 1.1), after_s or 0.0), left))  # noqa: S311
            pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_S)

    async def _take(self, client: RunPodClient, work: Work, job: _Submitted, answer: Answer) -> Made:
        """Keeps the takes of a job that ended."""
        request, id = work.generation.request, work.generation.id
        if answer.status != "COMPLETED":
            raise await self._failure(client, job, answer)
        result = read_result(answer.output, request)
        contents: list[bytes | None] = []
        for remote in result.takes:  # all are looked at before one is told of
            content = await read_audio(remote, store=self._jobs.store, generation=id, attempt=job.attempt)
            contents.append(content if remote.audio is not None else None)
        for remote, content in zip(result.takes, contents, strict=True):
            if content is None and job.attempt == work.attempt:
                await work.kept(remote.take)
                continue
            if content is None:  # uploaded for an earlier attempt, whose folder is deleted in the end
                content = await read_audio(remote, store=self._jobs.store, generation=id, attempt=job.attempt)
            await work.keep(sound_of(remote.take, content))
        self.model, self.model_revision = result.model, result.model_revision
        known = {k: v for k, v in result.timings_ms.items() if k == "making"}
        return Made(result.model, result.model_revision, {**answer.timings_ms, **plain_numbers(known)})

    async def _failure(self, client: RunPodClient, job: _Submitted, answer: Answer) -> MakingError:
        """Why a job ended without a result, without what RunPod says of it: that may be a traceback."""
        if answer.status == "FAILED":
            if answer.error is not None and _log.isEnabledFor(logging.DEBUG):
                _log.debug("RunPod's job %s failed: %s", job.id, client.without_key(str(answer.error))[:10_000])
            return _told(answer.error) or MakingError(
                f"The job failed at RunPod; the log of its worker says why (job {job.id}).", code="crashed"
            )
        if answer.status == "CANCELLED":
            return MakingError(f"The job was cancelled at RunPod, not here (job {job.id}).", code="refused")
        if answer.status == "TIMED_OUT":
            return MakingError(
                f"RunPod ended the job because it took too long (job {job.id}). Ask for less, or set the endpoint's "
                "execution timeout and REPROMPT_RUNPOD_TIMEOUT_S higher.",
                code="timeout",
            )
        await client.cancel(job.id, timeout_s=_CANCEL_S)  # nobody follows it any more
        return MakingError(f"RunPod gave the job {job.id} a status that is not known here.", code="bad_result")


def _remote_job(work: Work) -> RemoteJob:
    request = work.generation.request
    job = RemoteJob(
        id=work.generation.id,
        attempt=work.attempt,
        prompt=work.generation.prompt,
        seconds=request.seconds,
        takes=request.takes,
        seed=request.seed,
        guidance=request.guidance,
        temperature=request.temperature,
        top_k=request.top_k,
        format=request.format,
    )
    try:
        return from_object(msgspec.to_builtins(job), RemoteJob)
    except PromptError as e:
        raise MakingError(f"It cannot be sent to RunPod: {e}", code="invalid") from e


def _backoff(tried: int, after_s: float | None) -> float:
    """Seconds until the next submission."""
    if after_s is not None:
        return after_s * random.uniform(1.0, 1.1)  # noqa: S311 - so that not all come back at once
    return min(_BACKOFF_S * 2**tried, _LONGEST_BACKOFF_S) * random.uniform(0.5, 1.0)  # noqa: S311


def _progress(output: object) -> float:
    """What a running job says of how far it is; 0 when it says nothing that can be understood."""
    fields: dict[str, Any] = output if isinstance(output, dict) else {}
    return min(1.0, plain_numbers({"progress": fields.get("progress")}).get("progress", 0.0))


def _told(error: object) -> MakingError | None:
    """The error that our worker gave; None for anything else, such as a traceback."""
    try:
        result = from_json(error, RemoteResult) if isinstance(error, str) else from_object(error, RemoteResult)
    except PromptError:
        return None
    if result.error is None or "\n" in result.error.message:
        return None
    return MakingError(result.error.message, code=result.error.code)


def _gone(status: int, job: _Submitted) -> MakingError:
    if status == 404:
        return MakingError(
            f"RunPod no longer knows the job {job.id}: a result is kept for 30 minutes, and a job for as long as "
            "REPROMPT_RUNPOD_TIMEOUT_S. It may have been made, and billed.",
            code="expired",
        )
    return MakingError(
        f"RunPod no longer lets the job {job.id} be seen ({status}): check REPROMPT_RUNPOD_API_KEY. It may have been "
        "made, and billed.",
        code="refused",
    )
