"""The language model's server misbehaves: every way ends in time, in a prompt, and in one warning that says why."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from reprompt_core import Pipeline, Reprompt, Settings
from reprompt_core.refining.breaker import Breaker
from reprompt_core.refining.endpoint import Endpoint, ModelError
from reprompt_core.testing import ModelReply, ModelRequest, ModelServer, says

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Reply = ModelReply | Callable[[ModelRequest], ModelReply]

STALLED = ModelReply(says("calm piano").body, stall_after=20)
FAILING = ModelReply(b'{"error": {"message": "out of order"}}', status=500)
CLOSED = ModelReply(b"{}", status=401)  # fails at once: it is not retried


def brief_of(request: ModelRequest) -> dict[str, Any]:
    return json.loads(request.body["messages"][1]["content"].removeprefix("<brief>\n").removesuffix("\n</brief>"))


def answer_for(request: ModelRequest, **changes: Any) -> str:
    """The rules plan with these changes, and a prompt in music words for it."""
    plan = brief_of(request)["rules_plan"] | changes
    players = " and ".join([plan["lead"], *plan["accompaniment"]])
    said = (
        f"{' and '.join(plan['moods'])} {plan['genre']} at {plan['tempo_bpm']} BPM in a {plan['mode']} key, {players}."
    )
    return json.dumps(plan | {"prompt": said} | changes)


def good(request: ModelRequest) -> ModelReply:
    return says(answer_for(request))


@pytest.fixture(scope="module")
def run(environment: None) -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def settings(server: ModelServer, **changes: Any) -> Settings:
    told = {"llm_base_url": server.url, "llm_model": "fake", "llm_api_key": "test-key", "llm_cache_size": 0}
    return Settings(**(told | {"llm_timeout_s": 10.0} | changes))


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        await asyncio.sleep(0.005)


def ours() -> list[Any]:
    """The coroutines of the package that are under way as tasks."""
    running = [t.get_coro() for t in asyncio.all_tasks()]
    return [c for c in running if "reprompt_core" in c.cr_code.co_filename]


# -- what a server may do ----------------------------------------------------------------------------------------


def broken(**changes: Any) -> Reply:
    """A right answer but for these changes."""
    return lambda request: says(answer_for(request, **changes))


def cut(finish: str) -> Reply:
    return lambda request: says(answer_for(request)[:-20], finish=finish)


def status(code: int, **headers: str) -> ModelReply:
    return ModelReply(
        b'{"error": {"message": "no"}}', status=code, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


# name: (replies in turn, what the warning must say, how many requests)
BAD: dict[str, tuple[list[Reply], str, int]] = {
    "429": ([status(429)], "429; its rate limit", 3),
    "429 for long": ([status(429, Retry_After="60")], "429; its rate limit", 1),
    "429 until a date": ([status(429, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")], "429; its rate limit", 1),
    "500": ([FAILING], "status 500", 3),
    "reset": ([ModelReply(reset=True)], "no connection to its server 127.0.0.1:", 3),
    "no choices": ([ModelReply(b'{"choices": []}')], "empty", 1),
    "content null": ([says(None)], "empty", 1),
    "content empty": ([says("")], "empty", 1),
    "content blank": ([says(" \n")], "empty", 1),
    "cut by length": ([cut("length")], "cut off", 1),
    "cut anyhow": ([cut("stop")], "schema", 2),
    "refusal": ([says(None, refusal="I will not.")], "refused", 1),
    "filtered": ([says("{}", finish="content_filter")], "refused", 1),
    "another schema": ([says('{"music": "calm"}')], "schema", 2),
    "a field more": ([broken(comment="nice")], "schema", 2),
    "a megabyte": ([says("x" * 1_000_000)], "over 256 KiB", 1),
    "no JSON": ([ModelReply(b"<html>It works!</html>")], "no chat completion", 1),
    "no text": ([ModelReply(b"\xff\xfe\x00")], "no chat completion", 1),
    "no completion": ([ModelReply(b'{"ok": true}')], "no chat completion", 1),
    "an error with 200": ([ModelReply(b'{"error": {"message": "no"}}')], "no chat completion", 1),
    "a list": ([ModelReply(b"[]")], "no chat completion", 1),
    "brackets": ([ModelReply(b"[" * 100_000)], "no chat completion", 1),
    "odd choices": ([ModelReply(b'{"choices": [null]}')], "no chat completion", 1),
    "401": ([CLOSED], "401; check REPROMPT_LLM_API_KEY", 1),
    "403": ([status(403)], "403; check REPROMPT_LLM_API_KEY", 1),
    "404": ([status(404)], "404; check REPROMPT_LLM_MODEL", 1),
    "400": ([status(400)], "refused the request (400)", 2),  # the second without a schema
    "a foreign word": ([broken(prompt="Visit our shop for calm piano music at home.")], "checks twice: ", 2),
    "another tempo": ([broken(tempo_bpm=7)], "checks twice: ", 2),
}  # fmt: skip

FENCED = "<think>The {brief} asks for rain.</think>\nHere it is:\n```json\n%s\n```\n"
GOOD: dict[str, tuple[list[Reply], int]] = {
    "429 and then well": ([status(429, Retry_After="0"), good], 2),
    "500 and then well": ([FAILING, good], 2),
    "reset and then well": ([ModelReply(reset=True), good], 2),
    "thoughts and fences": ([lambda request: says(FENCED % answer_for(request))], 1),
    "wrong and then well": ([broken(tempo_bpm=7), good], 2),
}

Said = dict[str, tuple[Reprompt, Reprompt, list[ModelRequest]]]


@pytest.fixture(scope="module")
def said(run: Run) -> Said:
    """For each case (the rules' answer, the answer, the requests); all are asked at once, so that waits are shared."""
    replies = {f"walking in the rain, number {i}": list(c[0]) for i, c in enumerate([*BAD.values(), *GOOD.values()])}

    def script(request: ModelRequest) -> ModelReply:
        turn = replies[brief_of(request)["words"]]
        reply = turn.pop(0) if len(turn) > 1 else turn[0]
        return reply if isinstance(reply, ModelReply) else reply(request)

    async def ask() -> Said:
        with ModelServer() as server:
            server.obeys(script)
            async with Pipeline(settings(server, llm_breaker_failures=1000, llm_max_concurrency=100)) as p:
                rules = [await p.reprompt(words, refiner="rules") for words in replies]
                answers = await asyncio.gather(*(p.reprompt(words) for words in replies))
            sent = [[r for r in server.requests if brief_of(r)["words"] == words] for words in replies]
            return dict(zip([*BAD, *GOOD], zip(rules, answers, sent, strict=True), strict=True))

    return run(ask())


def assert_rules_wrote(answer: Reprompt, rules: Reprompt, why: str) -> None:
    assert (answer.refiner, answer.prompt, answer.plan) == ("rules", rules.prompt, rules.plan)
    assert answer.reasons == rules.reasons
    (warning,) = answer.warnings
    assert why in warning
    assert "the rules did" in warning
    assert rules.warnings == ()


@pytest.mark.parametrize("case", BAD)
def test_the_rules_write_where_the_server_fails(said: Said, case: str) -> None:
    (rules, answer, requests), (_, why, count) = said[case], BAD[case]
    assert_rules_wrote(answer, rules, why)
    assert len(requests) == count
    assert answer.trace
    assert answer.trace.attempts
    assert (answer.trace.candidates, answer.trace.cached) == ((), False)


@pytest.mark.parametrize("case", GOOD)
def test_what_can_be_overcome_is_overcome(said: Said, case: str) -> None:
    (rules, answer, requests), (_, count) = said[case], GOOD[case]
    assert (answer.refiner, answer.warnings, len(requests)) == ("llm", (), count)
    assert answer.prompt == json.loads(answer_for(requests[0]))["prompt"] != rules.prompt


def test_a_failed_answer_is_mended(said: Said) -> None:
    _, answer, (first, second) = said["wrong and then well"]
    assert answer.trace is not None
    assert [(a.repair, a.outcome, a.failed) for a in answer.trace.attempts] == [
        (False, "failed checks", ("schema",)),
        (True, "accepted", ()),
    ]
    *before, failed, problem = second.body["messages"]
    assert before == first.body["messages"]
    assert (failed["role"], json.loads(failed["content"])["tempo_bpm"]) == ("assistant", 7)
    assert (problem["role"], "tempo_bpm" in problem["content"]) == ("user", True)


def test_nothing_listens(run: Run, server: ModelServer) -> None:
    async def ask() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with Pipeline(settings(server, llm_base_url=f"http://127.0.0.1:{port}/v1")) as p:
            rules = await p.reprompt("rain", refiner="rules")
            assert_rules_wrote(await p.reprompt("rain"), rules, f"no connection to its server 127.0.0.1:{port}")

    run(ask())


def test_a_server_that_needs_no_key_is_sent_none(run: Run, server: ModelServer) -> None:
    async def ask() -> Reprompt:
        async with Pipeline(settings(server, llm_api_key=None)) as p:
            return await p.reprompt("rain")

    server.obeys(good)
    assert run(ask()).refiner == "llm"
    assert "authorization" not in server.requests[0].headers


# -- what a server may not know ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [status(400), ModelReply(b'{"detail": "response_format: unexpected"}', status=422)])
def test_a_server_without_schemas_is_asked_without(run: Run, server: ModelServer, reply: ModelReply) -> None:
    async def ask() -> list[Reprompt]:
        async with Pipeline(settings(server)) as p:
            return [await p.reprompt(words) for words in ("rain", "snow")]

    server.obeys(lambda request: reply if "response_format" in request.body else good(request))
    answers = run(ask())
    assert ["response_format" in r.body for r in server.requests] == [True, False, False]
    assert [(a.refiner, a.trace is not None and a.trace.structured) for a in answers] == [("llm", False)] * 2
    others = [{k: v for k, v in r.body.items() if k not in {"response_format", "messages"}} for r in server.requests]
    assert set(others[0]) == set(others[1]) == {"model", "max_tokens", "seed"}


@pytest.mark.parametrize(
    ("name", "key"),
    [("max_tokens", None), ("temperature", None), ("seed", None), ("max_tokens", "x")],  # as local servers are given
)
def test_what_a_server_names_is_left_out(run: Run, server: ModelServer, name: str, key: str | None) -> None:
    refusal = json.dumps({"error": {"message": f"Unsupported parameter: '{name}' is not supported with this model."}})
    server.obeys(lambda r: ModelReply(refusal.encode(), status=400) if name in r.body else says("yes"))

    async def ask() -> list[str]:
        endpoint = Endpoint(settings(server, llm_temperature=0.5, llm_api_key=key))
        asked = [{"role": "user", "content": "well?"}]
        end = time.monotonic() + 10
        try:
            return [await endpoint.complete(asked, schema={}, seed=1, deadline=end) for _ in range(2)]
        finally:
            await endpoint.close()

    assert run(ask()) == ["yes", "yes"]
    everything = {"model", "messages", "response_format", "max_tokens", "temperature", "seed"}
    assert [set(r.body) for r in server.requests] == [everything, everything - {name}, everything - {name}]
    assert server.requests[0].body["temperature"] == 0.5


# -- the deadline ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [16, 1])
def test_no_answer_outlasts_the_deadline(run: Run, server: ModelServer, slots: int) -> None:
    """The one bound of time that is promised: .4 s and .05 s, what the rules need, and .15 s for a busy machine."""

    async def ask(p: Pipeline, words: str) -> tuple[Reprompt, float]:
        started = time.perf_counter()
        answer = await p.reprompt(words)
        return answer, time.perf_counter() - started

    async def check() -> None:
        async with Pipeline(
            settings(server, llm_timeout_s=0.4, llm_max_concurrency=slots, llm_breaker_failures=99)
        ) as p:
            rules = {words: await p.reprompt(words, refiner="rules") for words in ("rain", "snow", "sun")}
            for reply in (STALLED, ModelReply(b"{}", delay_s=30)):
                server.answers(reply)
                for answer, took in await asyncio.gather(*(ask(p, words) for words in rules)):
                    assert_rules_wrote(answer, rules[answer.words], "no answer within 0.4 s")
                    others = sum(v for k, v in answer.timings_ms.items() if k not in {"total", "refining"})
                    assert 0.3 < took < 0.45 + others / 1000 + 0.15
                await until(lambda r=reply: not ours() and (r is not STALLED or server.open == 0))

    run(check())


# -- the breaker -------------------------------------------------------------------------------------------------


def test_a_server_that_fails_again_and_again_is_left_alone(run: Run, server: ModelServer) -> None:
    async def check() -> None:
        server.answers(CLOSED)
        async with Pipeline(settings(server, llm_breaker_failures=5, llm_breaker_s=60.0)) as p:
            rules = await p.reprompt("rain", refiner="rules")
            for n in range(1, 6):
                assert_rules_wrote(await p.reprompt("rain"), rules, "status 401")
                assert len(server.requests) == n
            server.obeys(good)
            for _ in range(3):
                assert_rules_wrote(await p.reprompt("rain"), rules, "failed 5 times in a row and is left alone")
            assert not server.requests

    run(check())


def test_after_the_pause_one_is_let_through_and_success_closes_it(run: Run, server: ModelServer) -> None:
    async def check() -> None:
        server.answers(CLOSED)
        async with Pipeline(settings(server, llm_breaker_failures=2, llm_breaker_s=0.05)) as p:
            for words in ("rain", "snow"):
                await p.reprompt(words)
            await asyncio.sleep(0.06)
            server.obeys(lambda r: ModelReply(good(r).body, delay_s=0.01))
            assert (await p.reprompt("sun")).refiner == "llm"
            server.answers(CLOSED)
            assert "401" in (await p.reprompt("wind")).warnings[0]  # one failure is one again
            server.obeys(good)
            assert (await p.reprompt("fog")).refiner == "llm"

    run(check())


def test_answers_that_fail_the_checks_do_not_open_it(run: Run, server: ModelServer) -> None:
    async def check() -> None:
        async with Pipeline(settings(server, llm_breaker_failures=1, llm_breaker_s=60.0)) as p:
            for reply, count in ((says("no music"), 2), (says(""), 1), (says("x" * 300_000), 1)):
                server.answers(reply)
                assert (await p.reprompt("rain")).refiner == "rules"
                assert len(server.requests) == count
            server.obeys(good)
            assert (await p.reprompt("rain")).refiner == "llm"

    run(check())


def test_the_breaker_by_its_clock() -> None:
    now = 100.0
    breaker = Breaker(failures=3, pause_s=10, clock=lambda: now)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert (breaker.admits(), breaker.rest_s) == (True, 0)
        breaker.failed()  # three in a row
    assert (breaker.admits(), breaker.rest_s) == (False, 10)
    now += 9.5
    assert (breaker.admits(), breaker.rest_s) == (False, 0.5)
    now += 0.5
    assert [breaker.admits(), breaker.admits()] == [True, False]  # one, not all who wait
    now += 10
    assert breaker.admits()  # the one who tried never told
    breaker.failed()
    assert (breaker.admits(), breaker.rest_s) == (False, 10)
    now += 10
    assert breaker.admits()
    breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True] * 3
    breaker.failed()
    assert breaker.admits()  # counted from nothing


def test_who_is_not_asked_is_not_blamed(run: Run, server: ModelServer) -> None:
    """Questions that wait too long for a slot say nothing about the server."""

    async def check() -> None:
        endpoint = Endpoint(settings(server, llm_max_concurrency=1, llm_breaker_failures=1))
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "well?"}], "schema": {}, "seed": 1}
        server.answers(ModelReply(says("yes").body, delay_s=0.3))
        first = asyncio.create_task(endpoint.complete(**asked, deadline=time.monotonic() + 10))
        await until(lambda: len(server.requests) == 1)
        with pytest.raises(ModelError, match="too many requests") as caught:
            await endpoint.complete(**asked, deadline=time.monotonic() + 0.02)
        assert caught.value.faulty is None
        assert await first == await endpoint.complete(**asked, deadline=time.monotonic() + 10) == "yes"
        await endpoint.close()

    run(check())


# -- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [False, True])
def test_closing_leaves_nothing_behind(run: Run, server: ModelServer, fresh: bool) -> None:
    async def check() -> None:
        server.obeys(good)
        p = Pipeline(settings(server))
        await p.open()
        await asyncio.gather(p.reprompt("snow"), p.reprompt("sun"))  # so that a connection is idle
        server.answers(STALLED)
        rules = await p.reprompt("rain", refiner="rules")
        asking = asyncio.create_task(p.reprompt("rain", fresh=fresh))
        await until(lambda: len(server.requests) == 1)
        assert len(ours()) > 1
        await p.close()
        assert {c.__qualname__ for c in ours()} <= {"Pipeline.reprompt"}  # which `asking` ends
        assert_rules_wrote(await asyncio.wait_for(asking, 3), rules, "")
        assert not ours()
        await until(lambda: server.open == 0)

    run(check())
