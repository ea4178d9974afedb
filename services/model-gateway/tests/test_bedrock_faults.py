"""Every fault of Bedrock has one outcome, whole and streamed: `test_fault_table.py` over the library's road.

The servers here write bytes by hand, after the API reference of Converse and AWS's event stream encoding. A client of
boto3 costs more than all these calls: one serves a whole table, and what differs is shown together.
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pagi_gateway.adapters.bedrock_provider import BedrockProvider
from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.adapters.http_stream import Patience
from pagi_gateway.convert import plan_to_proto
from pagi_gateway.domain.call_ids import fresh_ids
from pagi_gateway.domain.errors import ProviderFaultError, outcome_of
from pagi_gateway.domain.model import Message, Plan, PlanRequest, Role, TextDelta
from pagi_gateway.testing import asking

Exchange = Any
Answer = Callable[[Exchange], Awaitable[None]]
STREAM_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
WHOLE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "The heron waits."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13},
    "metrics": {"latencyMs": 5},
}


def frame(kind: str, payload: dict[str, Any], *, message_type: str = "event") -> bytes:
    """One message of AWS's event stream: lengths, their checksum, headers, JSON, checksum."""
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in (
            (f":{message_type}-type", kind),
            (":content-type", "application/json"),
            (":message-type", message_type),
        )
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


START = frame("messageStart", {"role": "assistant"})
TEXT = [
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}) for text in ("The heron ", "waits.")
]
STOP_BLOCK = frame("contentBlockStop", {"contentBlockIndex": 0})
USAGE = frame("metadata", {"usage": WHOLE["usage"], "metrics": {"latencyMs": 5}})
CALL = [
    frame("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "c1", "name": "math"}}}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": '{"e": "2+'}}}),
]


def stop(reason: str) -> bytes:
    return frame("messageStop", {"stopReason": reason})


GOOD = [START, *TEXT, STOP_BLOCK, stop("end_turn"), USAGE]


def said(body: object, *, status: str = "200 OK", kind: str = "application/json", headers: str = "") -> Answer:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return lambda exchange: exchange.reply(text, status=status, kind=kind, headers=headers)


def sent(frames: Sequence[bytes]) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        for each in frames:
            await exchange.send(f"{len(each):x}\r\n".encode() + each + b"\r\n")
        await exchange.end_stream()

    return answer


def cut(*pieces: str | bytes, hang: bool = False) -> Answer:
    """Writes so much, and then resets the connection or says nothing more."""

    async def answer(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)
        if hang:
            await exchange.hung_up()
        exchange.reset()

    return answer


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def flood(exchange: Exchange) -> None:
    await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {50 << 20}\r\n\r\n")
    for _ in range(50):
        await exchange.send(b" " * (1 << 20))


STATUSES = {
    400: "ProviderRejected",
    401: "ProviderAccess",
    402: "ProviderAccess",
    403: "ProviderAccess",
    404: "ModelNotFound",
    408: "ProviderTimeout",
    409: "ProviderDown 1",
    413: "ProviderRejected",
    422: "ProviderRejected",
    424: "ProviderDown 1",
    429: "ProviderBusy 1",
    500: "ProviderDown 1",
    502: "ProviderDown 1",
    503: "ProviderDown 1",
    504: "ProviderDown 1",
    529: "ProviderDown 1",
}
REFUSAL = {"message": "herons everywhere"}
PAGE = said("<html><body>Bad <b>Gateway</b></body></html>", kind="text/html")
COMMON: dict[str, tuple[Answer, str]] = {
    **{str(status): (said(REFUSAL, status=f"{status} X"), told) for status, told in STATUSES.items()},
    **{
        f"{status} with Retry-After": (
            said(REFUSAL, status=f"{status} X", headers="Retry-After: 7\r\n"),
            told.replace(" 1", " 7"),
        )
        for status, told in STATUSES.items()
    },
    "reset before the head": (cut(), "ProviderDown 1"),
    "an HTML error page": (said("<html>Bad Gateway</html>", status="502 X", kind="text/html"), "ProviderDown 1"),
    "an HTML page": (PAGE, "ProviderAnswer 1"),
    "50 MB of nothing": (flood, "ProviderAnswer 1"),
}
TABLES: dict[str, dict[str, tuple[Answer, str]]] = {
    "whole": {
        **COMMON,
        "reset in the head": (cut("HTTP/1.1 200 OK\r\nContent-Ty"), "ProviderDown 1"),
        "reset in the body": (
            cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"),
            "ProviderDown 1",
        ),
        "no first byte": (cut(hang=True), "ProviderTimeout"),
        "truncated JSON": (said(json.dumps(WHOLE)[:-20]), "ProviderAnswer 1"),
        "another content type": (said(WHOLE, kind="text/plain"), "The heron waits. stop end_turn 9+4"),
        "nothing": (said({}), "ProviderAnswer 1"),
        "unknown reason": (said({**WHOLE, "stopReason": "eclipse"}), "The heron waits. other eclipse 9+4"),
        "no usage": (
            said({name: value for name, value in WHOLE.items() if name != "usage"}),
            "The heron waits. stop end_turn unknown",
        ),
    },
    "stream": {
        **COMMON,
        "reset in the head": (cut("HTTP/1.1 200 OK\r\nContent-Ty"), "ProviderDown 1"),
        "reset after the head": (cut(STREAM_HEAD), "ProviderDown 1"),
        "reset in the body": (cut(STREAM_HEAD, chunk(START)), "ProviderDown 1"),
        "no first byte": (cut(hang=True), "ProviderTimeout"),
        "silent after its beginning": (cut(STREAM_HEAD, chunk(START), chunk(TEXT[0]), hang=True), "ProviderTimeout"),
        "cut between events": (sent([START, TEXT[0]]), "ProviderDown 1"),
        "cut in an event": (sent([START, TEXT[0], TEXT[1][:20]]), "ProviderDown 1"),
        "a wrong checksum": (sent([START, TEXT[0][:-1] + b"x"]), "ProviderAnswer 1"),
        "no event": (sent([]), "ProviderDown 1"),
        "good": (sent(GOOD), "The heron waits. stop end_turn 9+4"),
        "unknown reason": (
            sent([START, *TEXT, STOP_BLOCK, stop("eclipse"), USAGE]),
            "The heron waits. other eclipse 9+4",
        ),
        "no usage": (sent(GOOD[:-1]), "The heron waits. stop end_turn unknown"),
        "arguments that are not JSON": (
            sent([START, *CALL, STOP_BLOCK, stop("tool_use"), USAGE]),
            ' [math {"e": "2+] tool_calls tool_use 9+4',
        ),
        **{
            kind: (sent([START, TEXT[0], frame(kind, {"message": "herons"}, message_type="exception")]), told)
            for kind, told in {
                "throttlingException": "ProviderBusy 1",
                "serviceUnavailableException": "ProviderDown 1",
                "internalServerException": "ProviderDown 1",
                "modelStreamErrorException": "ProviderDown 1",
                "validationException": "ProviderRejected",
            }.items()
        },
    },
}


@pytest.fixture
async def bedrock(monkeypatch: pytest.MonkeyPatch, raw_server: Any) -> AsyncIterator[tuple[BedrockProvider, Any]]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "sk-very-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    server = await raw_server(said({}))
    url = server.base_url.removesuffix("/v1")
    provider = BedrockProvider("eu-north-1", "m", base_url=url, patience=Patience(first_s=0.3, piece_s=0.3))
    await provider.start()
    yield provider, server
    await provider.stop()


@asynccontextmanager
async def patient(server: Any) -> AsyncIterator[BedrockProvider]:
    """One that waits as long as it takes."""
    provider = BedrockProvider("eu-north-1", "m", base_url=server.base_url.removesuffix("/v1"), patience=Patience())
    await provider.start()
    yield provider
    await provider.stop()


async def outcome(provider: BedrockProvider, how: str, timeout_s: float, request: PlanRequest | None = None) -> str:
    asked = request or asking("hello", model="m")
    try:
        if how == "whole":
            plan = await provider.plan(asked, timeout_s=timeout_s)
        else:
            *deltas, last = [event async for event in provider.stream(asked, timeout_s=timeout_s)]
            assert isinstance(last, Plan)
            assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == last.text
            plan = last
    except ProviderFaultError as error:
        wait = f" {error.retry_after_s:g}" if hasattr(error, "retry_after_s") else ""
        return outcome_of(error) + wait
    calls = "".join(f" [{call.name} {call.arguments_json}]" for call in plan.tool_calls)
    usage = f"{plan.usage.input_tokens}+{plan.usage.output_tokens}" if plan.usage.reported else "unknown"
    return f"{plan.text}{calls} {plan.finish_reason} {plan.finish_reason_raw} {usage}"


@pytest.mark.parametrize("how", ["whole", "stream"])
async def test_every_fault_has_its_outcome(bedrock: tuple[BedrockProvider, Any], how: str) -> None:
    provider, server = bedrock
    seen: dict[str, str] = {}
    for name, (answer, _) in TABLES[how].items():
        server.answer = answer
        late = how == "whole" and name == "no first byte"
        seen[name] = await asyncio.wait_for(outcome(provider, how, 0.15 if late else 10), 10)
    assert seen == {name: expected for name, (_, expected) in TABLES[how].items()}
    # Nothing below the gateway asks again.
    assert len(server.exchanges) == len(seen)
    assert server.exchanges[0].headers["authorization"].startswith("AWS4-HMAC-SHA256")


async def test_the_recordings(bedrock: tuple[BedrockProvider, Any]) -> None:
    provider, server = bedrock
    for path in sorted(Path(__file__).parent.glob("recordings/bedrock_*.json")):
        recording = json.loads(path.read_text())
        events = recording.get("events")
        server.answer = said(recording["answer"]) if events is None else sent([frame(*event) for event in events])
        request = replace(
            asking(recording["ask"], system="Be brief.", tools=["math"], model=recording.get("model", "m")),
            max_output_tokens=300,
        )
        assert await outcome(provider, "stream" if events else "whole", 5, request) == recording["plan"], path.stem
        body = server.exchanges[-1].json
        assert {name: body.get(name) for name in recording["sent"]} == recording["sent"]
        assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["math"]
        if "back" in recording:
            *_, plan = [event async for event in provider.stream(request, timeout_s=5)]
            assert isinstance(plan, Plan)
            turn = Message(Role.ASSISTANT, plan.text, plan.tool_calls, reasoning=plan.reasoning)
            result = Message(Role.TOOL, "4", tool_call_id=plan.tool_calls[0].id)
            again = replace(request, messages=(*request.messages, turn, result))
            await outcome(provider, "stream", 5, again)
            assert server.exchanges[-1].json["messages"][1:2] == recording["back"]


@pytest.mark.parametrize("how", ["whole", "stream", "closed"])
async def test_a_call_that_is_left_closes_the_socket_within_100_ms(
    bedrock: tuple[BedrockProvider, Any], how: str
) -> None:
    """boto3's thread is told on its way; left alone it would wait for the answer."""
    _, server = bedrock
    begun, closed = asyncio.Event(), asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        if how != "whole":
            await exchange.send(STREAM_HEAD)
            await exchange.send(chunk(START) + chunk(TEXT[0]))
        begun.set()
        await exchange.hung_up()
        closed.set()

    async with patient(server) as provider:
        server.answer = hang
        stream = provider.stream(asking("hello", model="m"), timeout_s=60)
        if how == "closed":
            assert await anext(stream) == TextDelta("The heron ")
            leaving = stream.aclose()
        else:
            task = asyncio.create_task(outcome(provider, how, 60))
            await asyncio.wait_for(begun.wait(), 5)
            task.cancel()
            leaving = asyncio.wait([task])
        left = asyncio.get_running_loop().time()
        await leaving
        await asyncio.wait_for(closed.wait(), 5)
        assert asyncio.get_running_loop().time() - left < 0.1
        await stream.aclose()
        # Its thread has ended, so that there is one for the next call.
        server.answer = said(WHOLE)
        assert await asyncio.wait_for(outcome(provider, "whole", 5), 5) == "The heron waits. stop end_turn 9+4"


async def test_calls_at_once_keep_to_their_own(bedrock: tuple[BedrockProvider, Any]) -> None:
    _, server = bedrock

    async def echo(exchange: Exchange) -> None:
        said_ = exchange.json["messages"][0]["content"][0]["text"]
        if "converse-stream" in exchange.line:
            text = frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": said_}})
            await sent([START, text, STOP_BLOCK, stop("end_turn"), USAGE])(exchange)
        else:
            content = {"message": {"role": "assistant", "content": [{"text": said_}]}}
            await exchange.reply(json.dumps({**WHOLE, "output": content}))

    server.answer = echo
    asked = [(how, f"{how} {number}") for number in range(12) for how in ("whole", "stream")]
    async with patient(server) as provider:
        calls = [outcome(provider, how, 30, asking(text, model="m")) for how, text in asked]
        assert [text.split(" stop ")[0] for text in await asyncio.gather(*calls)] == [text for _, text in asked]


async def test_what_is_sent_is_what_was_signed(bedrock: tuple[BedrockProvider, Any]) -> None:
    """A signature holds for the very path, headers and body: nothing on the way may write them anew."""
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    provider, server = bedrock
    server.answer = said(WHOLE)
    model = "us.amazon.nova-lite-v1:0"
    await provider.plan(asking("h\u00e9ron?", model=model), timeout_s=5)
    exchange = server.exchanges[-1]
    path = exchange.line.split()[1]
    assert path == "/model/us.amazon.nova-lite-v1%3A0/converse"
    told = exchange.headers["authorization"]
    signed = told.split("SignedHeaders=")[1].split(",")[0].split(";")
    request = AWSRequest(
        "POST",
        f"http://{exchange.headers['host']}{path}",
        data=exchange.body,
        headers={name: exchange.headers[name] for name in signed if name != "host"},
    )
    request.context["timestamp"] = exchange.headers["x-amz-date"]
    auth = SigV4Auth(Credentials("AKIAEXAMPLE", "sk-very-secret"), "bedrock", "eu-north-1")
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert told.endswith(f"Signature={expected}")


def test_half_a_character_and_two_calls_of_one_id_can_be_handed_on() -> None:
    # Imported here: a second that only this road costs.
    from pagi_gateway.adapters.pydantic_ai_messages import plan_of
    from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

    half = "\ud83d"
    calls = [ToolCallPart(half, {"text": half, half: [half]}, "x"), ToolCallPart(half, half, "x")]
    parts = [TextPart(half), ThinkingPart(half, signature=half), *calls]
    endpoint = Endpoint("bedrock", "https://house", "m")
    plan = plan_of(ModelResponse(parts), asking("hello"), endpoint, fresh_ids(()), takes_thoughts=True)
    plan_to_proto(plan).SerializeToString()
    assert [call.id for call in plan.tool_calls] == ["x", "call_1"]
