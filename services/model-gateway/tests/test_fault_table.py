"""Every fault of a provider has one outcome, whole and streamed, over the OpenAI and the Anthropic road alike.

The servers here write bytes by hand. What they answer is the shape of the errors that the official SDKs read: OpenAI's
`{"error": {"message", "type", "code"}}` and Anthropic's `{"type": "error", "error": {"type", "message"}}`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pagi_chassis.errors import PagiError
from pagi_gateway.adapters.http_provider import HttpProvider
from pagi_gateway.adapters.http_road import watched_socket
from pagi_gateway.adapters.http_stream import Patience
from pagi_gateway.domain.errors import (
    ModelNotFoundError,
    ProviderAccessError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderDownError,
    ProviderRejectedError,
    ProviderTimeoutError,
)
from pagi_gateway.domain.model import FinishReason, Plan, TextDelta
from pagi_gateway.testing import asking

Exchange = Any
Serve = Callable[[Callable[[Exchange], Awaitable[None]]], Awaitable[Any]]
Start = Callable[..., Awaitable[HttpProvider]]
WORDS = ("The heron ", "waits.")
USAGE = {
    "openai": {"prompt_tokens": 9, "completion_tokens": 4},
    "responses": {"input_tokens": 9, "output_tokens": 4},
    "anthropic": {"input_tokens": 9, "output_tokens": 4},
}

over = pytest.mark.parametrize("dialect", ["openai", "responses", "anthropic"])
both = pytest.mark.parametrize("how", ["whole", "stream"])


def whole(dialect: str, text: str = "".join(WORDS), *, finish: str | None = None, usage: bool = True) -> dict[str, Any]:
    """An answer as the dialect's provider writes it."""
    if dialect == "openai":
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish or "stop"}
        answer: dict[str, Any] = {"model": "m-1", "choices": [choice]}
    elif dialect == "responses":
        item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
        answer = {"model": "m-1", "status": "completed", "output": [item]}
        if finish:
            answer |= {"status": "incomplete", "incomplete_details": {"reason": finish}}
    else:
        answer = {"model": "m-1", "content": [{"type": "text", "text": text}], "stop_reason": finish or "end_turn"}
    return {**answer, "usage": USAGE[dialect]} if usage else answer


def events(dialect: str, *, finish: str | None = None, usage: bool = True) -> list[dict[str, Any] | str]:
    """The same as a stream: the first is its first piece of text, the last its end."""
    if dialect == "openai":
        pieces = [{"model": "m-1", "choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS]
        end = {"model": "m-1", "choices": [{"index": 0, "delta": {}, "finish_reason": finish or "stop"}]}
        counted = [{"choices": [], "usage": USAGE[dialect]}] if usage else []
        return [*pieces, end, *counted, "[DONE]"]
    if dialect == "responses":
        words = [{"type": "response.output_text.delta", "output_index": 0, "delta": word} for word in WORDS]
        last = whole(dialect, finish=finish, usage=usage)
        return [*words, {"type": f"response.{last['status']}", "response": last}]
    counts: dict[str, Any] = {"usage": USAGE[dialect]} if usage else {}
    text = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS
    ]
    return [
        {"type": "message_start", "message": {"model": "m-1", "content": [], **counts}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *text,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": finish or "end_turn"}, **counts},
        {"type": "message_stop"},
    ]


def refusal(dialect: str, message: str, kind: str = "some_error") -> str:
    error = {"message": message, "type": kind, "code": None}
    return json.dumps({"type": "error", "error": error} if dialect == "anthropic" else {"error": error})


async def answer(provider: HttpProvider, how: str, timeout_s: float = 5) -> tuple[list[str], Plan]:
    request = asking("hello", model=provider.default_model)
    if how == "whole":
        return [], await provider.plan(request, timeout_s=timeout_s)
    got = [event async for event in provider.stream(request, timeout_s=timeout_s)]
    assert isinstance(got[-1], Plan)
    return [event.text for event in got if isinstance(event, TextDelta)], got[-1]


async def write(exchange: Exchange, dialect: str, **options: Any) -> None:
    """Answers as asked: whole, or as a stream."""
    if not exchange.json.get("stream"):
        await exchange.reply(json.dumps(whole(dialect, **options)))
        return
    await exchange.begin_stream()
    for event in events(dialect, **options):
        await exchange.event(event)
    await exchange.end_stream()


STATUSES: list[tuple[int, type[PagiError]]] = [
    (400, ProviderRejectedError),
    (401, ProviderAccessError),
    (402, ProviderAccessError),
    (403, ProviderAccessError),
    (404, ModelNotFoundError),
    (408, ProviderTimeoutError),
    (409, ProviderDownError),
    (413, ProviderRejectedError),
    (422, ProviderRejectedError),
    (429, ProviderBusyError),
    (500, ProviderDownError),
    (502, ProviderDownError),
    (503, ProviderDownError),
    (504, ProviderDownError),
    (529, ProviderDownError),
]


@over
@both
@pytest.mark.parametrize("retry", ["", "Retry-After: 7\r\n"], ids=["", "retry-after"])
async def test_every_status(raw_server: Serve, provider_at: Start, dialect: str, how: str, retry: str) -> None:
    """One server and one provider for all of them: making these costs more than the calls."""
    body = refusal(dialect, "herons everywhere, sk-very-secret")
    statuses, wait_s = iter(STATUSES), 7 if retry else 1
    server = await raw_server(lambda exchange: exchange.reply(body, status=f"{next(statuses)[0]} X", headers=retry))
    provider = await provider_at(dialect, server.base_url)
    for status, error in STATUSES:
        with pytest.raises(PagiError) as caught:
            await answer(provider, how)
        assert type(caught.value) is error, status
        assert "herons everywhere" in caught.value.message, status
        assert "sk-very-secret" not in caught.value.message, status
        assert getattr(caught.value, "retry_after_s", wait_s) == wait_s, status
    assert len(server.exchanges) == len(STATUSES)


@over
@both
@pytest.mark.parametrize("status", [200, 500])
async def test_an_html_page(raw_server: Serve, provider_at: Start, dialect: str, how: str, status: int) -> None:
    page = "<html><head><style>b{}</style></head><body>Bad <b>Gateway</b></body></html>"
    server = await raw_server(lambda exchange: exchange.reply(page, status=f"{status} X", kind="text/html"))
    provider = await provider_at(dialect, server.base_url)
    with pytest.raises(ProviderAnswerError if status == 200 else ProviderDownError, match="Bad Gateway"):
        await answer(provider, how)


@over
@both
async def test_a_refused_connection(provider_at: Start, unused_tcp_port: int, dialect: str, how: str) -> None:
    provider = await provider_at(dialect, f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(ProviderDownError, match="cannot be reached"):
        await answer(provider, how)


@over
@both
@pytest.mark.parametrize("stage", ["before the head", "in the head", "after the head", "in the body"])
async def test_a_reset(raw_server: Serve, provider_at: Start, dialect: str, how: str, stage: str) -> None:
    async def break_off(exchange: Exchange) -> None:
        if stage == "in the head":
            await exchange.send("HTTP/1.1 200 OK\r\nContent-Ty")
        elif stage != "before the head":
            kind = "text/event-stream" if how == "stream" else "application/json"
            await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")
            if stage == "in the body":
                if how == "stream":
                    await exchange.event(events(dialect)[0])
                else:
                    await exchange.chunk(json.dumps(whole(dialect))[:20])
        exchange.reset()

    provider = await provider_at(dialect, (await raw_server(break_off)).base_url)
    with pytest.raises(ProviderDownError):
        await answer(provider, how)


@over
@both
async def test_a_slow_first_byte(raw_server: Serve, provider_at: Start, dialect: str, how: str) -> None:
    server = await raw_server(lambda exchange: exchange.hung_up())
    provider = await provider_at(dialect, server.base_url, patience=Patience(first_s=0.05))
    expected = "began no answer within 0.05 s" if how == "stream" else "in the time that was left"
    with pytest.raises(ProviderTimeoutError, match=expected):
        await answer(provider, how, timeout_s=5 if how == "stream" else 0.05)


@over
async def test_a_stream_that_opens_and_says_nothing(raw_server: Serve, provider_at: Start, dialect: str) -> None:
    async def open_only(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.hung_up()

    server = await raw_server(open_only)
    provider = await provider_at(dialect, server.base_url, patience=Patience(first_s=0.05))
    with pytest.raises(ProviderTimeoutError, match=r"began no answer within 0\.05 s"):
        await answer(provider, "stream")


@over
async def test_a_stream_that_dies_in_the_middle(raw_server: Serve, provider_at: Start, dialect: str) -> None:
    async def die(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in events(dialect)[:4]:
            await exchange.event(event)
            if "heron" in json.dumps(event):
                break
        await exchange.hung_up()

    server = await raw_server(die)
    provider = await provider_at(dialect, server.base_url, patience=Patience(between_s=0.05))
    with pytest.raises(ProviderTimeoutError, match=r"sent nothing for 0\.05 s"):
        await answer(provider, "stream")


@over
@pytest.mark.parametrize("stalled", [False, True], ids=["and goes on", "for ever"])
async def test_a_silent_provider_is_not_a_dead_one(
    raw_server: Serve, provider_at: Start, dialect: str, stalled: bool
) -> None:
    """Keepalives hold a stream open past the time between bytes, but not past the time between pieces."""
    pings = 0

    async def ping(exchange: Exchange) -> None:
        nonlocal pings
        await exchange.begin_stream()
        sent = events(dialect)
        first = next(index for index, event in enumerate(sent) if "heron" in json.dumps(event))
        for event in sent[: first + 1]:
            await exchange.event(event)
        while stalled or pings < 10:
            pings += 1
            await exchange.chunk(": keepalive\n\n")
            await asyncio.sleep(0.02)
        for event in sent[first + 1 :]:
            await exchange.event(event)
        await exchange.end_stream()

    server = await raw_server(ping)
    patience = Patience(between_s=0.15, piece_s=0.25 if stalled else 5)
    provider = await provider_at(dialect, server.base_url, patience=patience)
    if stalled:
        with pytest.raises(ProviderTimeoutError, match=r"went on with no answer for 0\.25 s"):
            await answer(provider, "stream")
        assert pings > 3
    else:
        assert (await answer(provider, "stream"))[1].text == "".join(WORDS)


@over
async def test_a_slow_stream_runs_out_of_the_callers_time(raw_server: Serve, provider_at: Start, dialect: str) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.begin_stream()
        word = next(event for event in events(dialect) if "heron" in json.dumps(event))
        while True:
            await exchange.event(word)
            await asyncio.sleep(0.01)

    provider = await provider_at(dialect, (await raw_server(drip)).base_url)
    with pytest.raises(ProviderTimeoutError, match="in the time that was left"):
        await answer(provider, "stream", timeout_s=0.1)


@over
async def test_truncated_json(raw_server: Serve, provider_at: Start, dialect: str) -> None:
    server = await raw_server(lambda exchange: exchange.reply(json.dumps(whole(dialect))[:-20]))
    provider = await provider_at(dialect, server.base_url)
    with pytest.raises(ProviderAnswerError):
        await answer(provider, "whole")


@over
@pytest.mark.parametrize("cut", ["between events", "in an event", "in the JSON of an event"])
async def test_a_truncated_stream(raw_server: Serve, provider_at: Start, dialect: str, cut: str) -> None:
    async def truncate(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in events(dialect)[:2]:
            await exchange.event(event)
        if cut == "in an event":
            await exchange.chunk('data: {"half": ')
        elif cut == "in the JSON of an event":
            await exchange.chunk('data: {"half": \n\n')
        await exchange.end_stream()

    provider = await provider_at(dialect, (await raw_server(truncate)).base_url)
    with pytest.raises(ProviderAnswerError if "JSON" in cut else ProviderDownError):
        await answer(provider, "stream")


@over
@both
async def test_another_content_type_for_a_good_answer(
    raw_server: Serve, provider_at: Start, dialect: str, how: str
) -> None:
    body = json.dumps(whole(dialect))
    server = await raw_server(lambda exchange: exchange.reply(body, kind="text/plain"))
    _, plan = await answer(await provider_at(dialect, server.base_url), how)
    assert plan.text == "".join(WORDS)


@over
@both
async def test_an_unknown_finish_reason(raw_server: Serve, provider_at: Start, dialect: str, how: str) -> None:
    server = await raw_server(lambda exchange: write(exchange, dialect, finish="eclipse"))
    deltas, plan = await answer(await provider_at(dialect, server.base_url), how)
    assert (plan.finish_reason, plan.finish_reason_raw) == (FinishReason.OTHER, "eclipse")
    assert plan.text == "".join(WORDS)
    assert how == "whole" or "".join(deltas) == plan.text


@over
@both
@pytest.mark.parametrize("usage", [True, False], ids=["usage", "no usage"])
async def test_usage_may_be_missing(raw_server: Serve, provider_at: Start, dialect: str, how: str, usage: bool) -> None:
    server = await raw_server(lambda exchange: write(exchange, dialect, usage=usage))
    _, plan = await answer(await provider_at(dialect, server.base_url), how)
    told = (plan.usage.reported, plan.usage.input_tokens, plan.usage.output_tokens)
    assert told == ((True, 9, 4) if usage else (False, 0, 0))


EMPTY = {"openai": {"choices": []}, "responses": {"status": "completed"}, "anthropic": {"model": "m-1"}}


@over
async def test_an_answer_without_an_answer(raw_server: Serve, provider_at: Start, dialect: str) -> None:
    server = await raw_server(lambda exchange: exchange.reply(json.dumps(EMPTY[dialect])))
    with pytest.raises(ProviderAnswerError):
        await answer(await provider_at(dialect, server.base_url), "whole")


async def test_a_stream_without_choices(raw_server: Serve, provider_at: Start) -> None:
    async def nothing(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event({"choices": []})
        await exchange.event("[DONE]")
        await exchange.end_stream()

    server = await raw_server(nothing)
    with pytest.raises(ProviderAnswerError, match="no choices"):
        await answer(await provider_at("openai", server.base_url), "stream")


@over
async def test_arguments_that_are_not_json_are_handed_on_as_they_are(
    raw_server: Serve, provider_at: Start, dialect: str
) -> None:
    broken = '{"expression": "2+'
    stream: dict[str, list[dict[str, Any] | str]] = {
        "openai": [
            {
                "choices": [
                    {
                        "delta": {
                            "tool_calls": [{"index": 0, "id": "c1", "function": {"name": "math", "arguments": x}}]
                        },
                        "finish_reason": "tool_calls",
                    }
                ]
            }
            for x in (broken,)
        ],
        "responses": [
            {
                "type": "response.completed",
                "response": {
                    "status": "completed",
                    "output": [{"type": "function_call", "call_id": "c1", "name": "math", "arguments": broken}],
                },
            }
        ],
        "anthropic": [
            {"type": "message_start", "message": {"content": []}},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "c1", "name": "math", "input": {}},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": broken},
            },
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            {"type": "message_stop"},
        ],
    }

    async def call(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in stream[dialect]:
            await exchange.event(event)
        await exchange.end_stream()

    _, plan = await answer(await provider_at(dialect, (await raw_server(call)).base_url), "stream")
    assert [(c.id, c.name, c.arguments_json) for c in plan.tool_calls] == [("c1", "math", broken)]
    assert plan.finish_reason is FinishReason.TOOL_CALLS


@over
@both
async def test_an_answer_of_fifty_megabytes(raw_server: Serve, provider_at: Start, dialect: str, how: str) -> None:
    closed = asyncio.Event()

    async def flood(exchange: Exchange) -> None:
        kind = "text/event-stream" if how == "stream" else "application/json"
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {50 << 20}\r\n\r\n")
        try:
            for _ in range(50):
                await exchange.send(b" " * (1 << 20))
        except ConnectionError:
            closed.set()

    provider = await provider_at(dialect, (await raw_server(flood)).base_url, largest_bytes=32 << 20)
    with pytest.raises(ProviderAnswerError, match="more than 32 MiB"):
        await answer(provider, how)
    await asyncio.wait_for(closed.wait(), 5)


INSIDE: list[tuple[str, str, type[PagiError]]] = [
    ("anthropic", "overloaded_error", ProviderDownError),
    ("anthropic", "rate_limit_error", ProviderBusyError),
    ("anthropic", "invalid_request_error", ProviderRejectedError),
    ("anthropic", "api_error", ProviderDownError),
    ("anthropic", "a_new_error", ProviderDownError),
    ("openai", "server_error", ProviderDownError),
    ("openai", "rate_limit_exceeded", ProviderBusyError),
    ("responses", "rate_limit_exceeded", ProviderBusyError),
    ("responses", "server_error", ProviderDownError),
]


@pytest.mark.parametrize(("dialect", "kind", "error"), INSIDE)
async def test_an_error_inside_a_stream(
    raw_server: Serve, provider_at: Start, dialect: str, kind: str, error: type[PagiError]
) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in events(dialect)[:1]:
            await exchange.event(event)
        told = {"message": "herons", "type": kind, "code": kind}
        await exchange.event({"error": told} if dialect == "openai" else {"type": "error", "error": told})
        await exchange.end_stream()

    provider = await provider_at(dialect, (await raw_server(fail)).base_url)
    with pytest.raises(error, match="herons"):
        await answer(provider, "stream")


async def test_a_quota_that_is_used_up_is_not_worth_waiting_for(raw_server: Serve, provider_at: Start) -> None:
    body = json.dumps({"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}})
    server = await raw_server(lambda exchange: exchange.reply(body, status="429 X"))
    with pytest.raises(ProviderAccessError, match="no credit"):
        await answer(await provider_at("openai", server.base_url), "whole")


@over
async def test_a_cancelled_call_closes_the_socket_within_100_ms(
    raw_server: Serve, provider_at: Start, dialect: str
) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(events(dialect)[0])
        begun.set()
        await exchange.hung_up()
        closed.set()

    provider = await provider_at(dialect, (await raw_server(hang)).base_url)
    task = asyncio.create_task(answer(provider, "stream"))
    await asyncio.wait_for(begun.wait(), 5)
    task.cancel()
    left = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(closed.wait(), 5)
    assert asyncio.get_running_loop().time() - left < 0.1


@over
async def test_a_connection_is_used_again_though_its_stream_ends_late(
    raw_server: Serve, provider_at: Start, dialect: str
) -> None:
    """The last chunk of HTTP comes in a packet of its own, after the last event."""

    async def end_late(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for event in events(dialect):
            await exchange.event(event)
        await asyncio.sleep(0.02)
        await exchange.end_stream()

    server = await raw_server(end_late)
    provider = await provider_at(dialect, server.base_url)
    for _ in range(3):
        assert (await answer(provider, "stream"))[1].text == "".join(WORDS)
    assert server.connections == 1


@over
async def test_a_slow_listener_slows_the_provider(raw_server: Serve, provider_at: Start, dialect: str) -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.begin_stream()
        for event in events(dialect)[:-2]:
            await exchange.event(event)
        while True:
            await exchange.chunk(": " + "x" * 65_536 + "\n\n")
            sent += 65_536

    provider = await provider_at(dialect, (await raw_server(flood)).base_url, largest_bytes=1 << 30)
    stream = provider.stream(asking("hello", model=provider.default_model), timeout_s=30)
    await anext(stream)
    before = -1
    # Nobody reads: what the server could send comes to a stand, at what the sockets' buffers hold.
    while before != sent:
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 16 << 20
    await stream.aclose()


def test_the_kernel_looks_after_a_silent_connection() -> None:
    """A server that vanished without a word is noticed, though nothing is sent to it."""
    made = watched_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1)))
    with made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert not made.getblocking()
