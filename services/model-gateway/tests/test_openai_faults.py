"""The OpenAI adapter against a server that breaks the rules, byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pagi_chassis.errors import PagiError
from pagi_gateway.adapters.http_errors import retry_after_s
from pagi_gateway.adapters.http_provider import HttpProvider
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
)
from pagi_gateway.domain.model import FinishReason, Message, Plan, PlanRequest, Role, TextDelta, ToolCall
from pagi_gateway.testing import asking

Exchange = Any
Serve = Callable[[Callable[[Exchange], Awaitable[None]]], Awaitable[Any]]
Start = Callable[..., Awaitable[HttpProvider]]
REQUEST = asking("hello", model="gpt-4o-mini")


def whole(text: str = "hi", **choice: Any) -> str:
    message = choice.pop("message", {"role": "assistant", "content": text})
    return json.dumps(
        {"model": "m-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    )


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}]}


async def collected(provider: HttpProvider, request: PlanRequest = REQUEST, timeout_s: float = 5) -> list[Any]:
    return [event async for event in provider.stream(request, timeout_s=timeout_s)]


async def asked(provider: HttpProvider, how: str, timeout_s: float = 5) -> Plan:
    if how == "whole":
        return await provider.plan(REQUEST, timeout_s=timeout_s)
    plan: Plan = (await collected(provider, timeout_s=timeout_s))[-1]
    return plan


both = pytest.mark.parametrize("how", ["whole", "stream"])


@both
@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "said"),
    [
        ("400 Bad Request", "", '{"error": {"message": "too long"}}', ProviderRejectedError, "too long"),
        ("422 Unprocessable", "", '{"detail": "bad field"}', ProviderRejectedError, "bad field"),
        ("401 Unauthorized", "", '{"error": {"message": "no sk-very-secret"}}', ProviderAccessError, "OPENAI_API_KEY"),
        ("402 Payment Required", "", '{"error": "pay"}', ProviderAccessError, "no credit"),
        ("403 Forbidden", "", "", ProviderAccessError, "OPENAI_API_KEY"),
        ("404 Not Found", "", '{"error": "model \\"x\\" not found"}', ModelNotFoundError, "gpt-4o-mini"),
        ("408 Request Timeout", "", "", ProviderTimeoutError, "in time"),
        ("429 Too Many", "Retry-After: 7\r\n", '{"error": {"message": "slow down"}}', ProviderBusyError, "slow down"),
        ("500 Oops", "", "<html><title>Boom</title><style>x{}</style></html>", ProviderDownError, "Boom"),
        ("503 Busy", "Retry-After: 7\r\n", '{"message": "loading"}', ProviderDownError, "loading"),
        ("307 Moved", "Location: https://else.where/\r\n", "", ProviderAccessError, "OPENAI_BASE_URL"),
    ],
)
async def test_statuses_become_typed_errors(
    raw_server: Serve, openai_at: Start, how: str, status: str, headers: str, body: str, error: type, said: str
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(body, status=status, headers=headers, kind="text/plain")

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    with pytest.raises(error) as caught:
        await asked(provider, how)
    assert said in caught.value.message
    assert "sk-very-secret" not in caught.value.message
    assert "<" not in caught.value.message
    if headers.startswith("Retry-After"):
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "9999999"}, 3600.0),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after_s({"Retry-After": moment}) == pytest.approx(60, abs=2)


@both
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", "<html><body>Sign in to the hotel network</body></html>"),
        ("application/json", '{"choices": [{"message": {"content": "hi'),
        ("application/json", '{"choices": []}'),
        ("application/json", '{"choices": 7}'),
        ("application/json", "[" * 100_000),
        ("application/json", ""),
        ("application/json", '"\\ud83d"'),
    ],
)
async def test_what_is_no_answer_is_unavailable_and_shown(
    raw_server: Serve, openai_at: Start, how: str, kind: str, body: str
) -> None:
    server = await raw_server(lambda exchange: exchange.reply(body, kind=kind))
    provider = await openai_at(server.base_url)
    with pytest.raises(ProviderAnswerError) as caught:
        await asked(provider, how)
    assert kind in caught.value.message
    assert len(caught.value.message) < 700


@both
async def test_a_refused_connection_is_unavailable(openai_at: Start, unused_tcp_port: int, how: str) -> None:
    provider = await openai_at(f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(ProviderDownError, match="cannot be reached"):
        await asked(provider, how)
    with pytest.raises(ProviderDownError):
        await provider.check()


@both
async def test_a_reset_before_or_in_the_answer_is_unavailable(raw_server: Serve, openai_at: Start, how: str) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(server.exchanges) == 2:
            await exchange.begin_stream()
            await exchange.event(delta("half"))
        exchange.reset()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    for _ in range(2):
        with pytest.raises(ProviderDownError):
            await asked(provider, how)


async def test_a_body_that_is_cut_is_unavailable(raw_server: Serve, openai_at: Start) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
        exchange.writer.close()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    with pytest.raises(ProviderDownError):
        await provider.plan(REQUEST, timeout_s=5)


@both
async def test_a_server_that_says_nothing_runs_out_of_time(raw_server: Serve, openai_at: Start, how: str) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    with pytest.raises(ProviderTimeoutError):
        await asked(provider, how, timeout_s=0.05)
    await asyncio.wait_for(closed.wait(), 5)


@both
async def test_cancelling_closes_the_upstream_socket(raw_server: Serve, openai_at: Start, how: str) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(delta("one "))
        begun.set()
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    task = asyncio.create_task(asked(provider, how))
    await asyncio.wait_for(begun.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(closed.wait(), 5)


async def test_closing_the_stream_closes_the_upstream_socket(raw_server: Serve, openai_at: Start) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(delta("one "))
        await exchange.hung_up()
        closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    stream = provider.stream(REQUEST, timeout_s=5)
    assert await anext(stream) == TextDelta("one ")
    await stream.aclose()
    await asyncio.wait_for(closed.wait(), 5)


@both
async def test_an_answer_without_end_is_refused(raw_server: Serve, openai_at: Start, how: str) -> None:
    closed = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        try:
            while True:
                await exchange.event(delta("x" * 10_000))
        finally:
            closed.set()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url, largest_bytes=100_000)
    with pytest.raises(ProviderAnswerError, match="MiB"):
        await asked(provider, how)
    await asyncio.wait_for(closed.wait(), 5)


async def test_connections_are_used_again(raw_server: Serve, openai_at: Start) -> None:
    async def answer(exchange: Exchange) -> None:
        if not exchange.json.get("stream"):
            await exchange.reply(whole())
            return
        await exchange.begin_stream()
        await exchange.event(delta("hi", "stop"))
        await exchange.event("[DONE]")
        await exchange.end_stream()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    for how in ("whole", "stream", "whole", "stream", "whole"):
        assert (await asked(provider, how)).text == "hi"
    assert len(server.exchanges) == 5
    assert server.connections == 1


async def test_what_is_sent(raw_server: Serve, openai_at: Start) -> None:
    server = await raw_server(lambda exchange: exchange.reply(whole()))
    provider = await openai_at(server.base_url, output_limit_name="max_completion_tokens")
    then = (
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "math", '{"expression": "2+2"'),)),
        Message(Role.TOOL, "4", tool_call_id="c1"),
    )
    request = asking("h\u00e9", system="S", tools=["math"], then=then, model="m-1")
    request = PlanRequest(request.messages, request.tools, "m-1", max_output_tokens=5, temperature=0.0)
    await provider.plan(request, timeout_s=5)
    sent = server.exchanges[0]
    assert sent.line == "POST /v1/chat/completions HTTP/1.1"
    assert sent.headers["authorization"] == "Bearer sk-very-secret"
    call = {"id": "c1", "type": "function", "function": {"name": "math", "arguments": '{"expression": "2+2"'}}
    tool = {"name": "math", "description": "does math", "parameters": {"type": "object"}}
    assert sent.json == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "h\u00e9"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "4"},
        ],
        "tools": [{"type": "function", "function": tool}],
        "temperature": 0.0,
        "max_completion_tokens": 5,
    }
    await provider.plan(asking("hello"), timeout_s=5)
    assert set(server.exchanges[1].json) == {"model", "messages"}


@pytest.mark.parametrize(
    ("message", "plan"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, Plan("ab")),
        ({"content": None, "refusal": "I will not."}, Plan("I will not.")),
        (
            {"content": "", "tool_calls": [{"function": {"name": "math", "arguments": {"e": 1}}}]},
            Plan(tool_calls=(ToolCall("call_1", "math", '{"e":1}'),), finish_reason=FinishReason.TOOL_CALLS),
        ),
        (
            {"tool_calls": [{"id": "x", "function": {"name": "todo", "arguments": ""}}]},
            Plan(tool_calls=(ToolCall("x", "todo", "{}"),), finish_reason=FinishReason.TOOL_CALLS),
        ),
        ({"content": "half \ud83d."}, Plan("half \ufffd.")),
    ],
)
async def test_what_other_servers_send_is_understood(
    raw_server: Serve, openai_at: Start, message: dict[str, Any], plan: Plan
) -> None:
    server = await raw_server(lambda exchange: exchange.reply(whole(message=message)))
    provider = await openai_at(server.base_url)
    got = await provider.plan(REQUEST, timeout_s=5)
    assert (got.text, got.tool_calls, got.finish_reason) == (plan.text, plan.tool_calls, plan.finish_reason)
    # A server that does not stream is understood too.
    assert (await collected(provider))[-1] == got


@pytest.mark.parametrize(("reports", "cost"), [(True, 0.002), (False, None)])
async def test_cost_is_told_where_it_is_dollars(
    raw_server: Serve, openai_at: Start, reports: bool, cost: float | None
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "cost": 0.002}
    body = json.dumps({**json.loads(whole()), "usage": usage})
    server = await raw_server(lambda exchange: exchange.reply(body))
    provider = await openai_at(server.base_url, reports_cost=reports)
    assert (await provider.plan(REQUEST, timeout_s=5)).usage.cost_usd == cost


@pytest.mark.parametrize(
    ("code", "error"), [(429, ProviderBusyError), ("server_error", ProviderDownError), (400, ProviderRejectedError)]
)
async def test_an_error_in_the_middle_of_a_stream_is_typed(
    raw_server: Serve, openai_at: Start, code: object, error: type[PagiError]
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(delta("half"))
        await exchange.event({"error": {"code": code, "message": "herons"}})
        await exchange.end_stream()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    with pytest.raises(error, match="herons"):
        await collected(provider)


async def test_a_stream_without_its_end_is_no_answer(raw_server: Serve, openai_at: Start) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(delta("half"))
        await exchange.end_stream()

    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    with pytest.raises(ProviderDownError, match="before the answer was whole"):
        await collected(provider)


async def test_deltas_are_gathered_but_never_held_for_long(raw_server: Serve, openai_at: Start) -> None:
    heard = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream(headers="")
        await exchange.event(delta("first "))
        await heard.wait()
        for number in range(100):
            await exchange.event(delta(f"{number} "))
        # Nothing more comes until the client has shown that it does not wait for more.
        await sent_on.wait()
        await exchange.event(delta(None, "stop"))
        await exchange.event("[DONE]")
        await exchange.end_stream()

    sent_on = asyncio.Event()
    server = await raw_server(answer)
    provider = await openai_at(server.base_url)
    stream = provider.stream(REQUEST, timeout_s=5)
    assert await anext(stream) == TextDelta("first ")
    heard.set()
    text, deltas = "", 0
    while not text.endswith("99 "):
        event = await anext(stream)
        assert isinstance(event, TextDelta)
        text, deltas = text + event.text, deltas + 1
    assert deltas < 50
    sent_on.set()
    rest = [event async for event in stream]
    assert isinstance(rest[-1], Plan)
    assert rest[-1].text == "first " + text


async def test_models_without_a_list_are_the_default(raw_server: Serve, openai_at: Start) -> None:
    server = await raw_server(lambda exchange: exchange.reply("no", status="404 Not Found"))
    provider = await openai_at(server.base_url)
    assert [(each.name, each.is_default) for each in await provider.models(timeout_s=5)] == [("gpt-4o-mini", True)]
    await provider.check()


@pytest.mark.parametrize("end", ["closed", "reset", "rubbish"])
async def test_what_happens_after_the_last_event_takes_nothing_from_the_answer(
    raw_server: Serve, openai_at: Start, end: str
) -> None:
    """It was given already: an error after it would have it asked again, or counted as a failure beside the answer."""

    given = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(delta("hi", "stop"))
        await exchange.event("[DONE]")
        await given.wait()
        if end == "rubbish":
            await exchange.send(b"no chunk\r\n")
        elif end == "reset":
            exchange.reset()
        else:
            exchange.writer.close()

    provider = await openai_at((await raw_server(answer)).base_url)
    texts = []
    async for event in provider.stream(REQUEST, timeout_s=5):
        texts.append(event.text)
        if isinstance(event, Plan):
            given.set()
    assert texts == ["hi", "hi"]


@pytest.mark.parametrize("end", ["reset", "silence"])
async def test_an_answer_with_its_last_piece_is_whole_though_the_stream_never_ends(
    raw_server: Serve, openai_at: Start, end: str
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(delta("hi", "stop"))
        if end == "reset":
            await began.wait()
            exchange.reset()
        else:
            await exchange.hung_up()

    began = asyncio.Event()
    provider = await openai_at((await raw_server(answer)).base_url)
    texts = []
    async for event in provider.stream(REQUEST, timeout_s=0.3):
        texts.append(event.text)
        began.set()
    assert texts == ["hi", "hi"]
