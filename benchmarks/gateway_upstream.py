"""The upstream of the gateway's bench: a provider that answers at once, by raw HTTP, over both dialects and Bedrock's.

Says its port on standard output, and ends when its standard input does. A stream is a hundred pieces, sent all at
once, so that what the gateway does for each can be told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

PIECES = 100
_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"


def _answer(path: str) -> bytes:
    text = "It is 300. " * 10
    if "messages" in path:
        answer: object = {
            "model": "claude-x",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 900, "output_tokens": 40},
        }
    elif "converse" in path:
        answer = {
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 900, "outputTokens": 40, "totalTokens": 940},
            "metrics": {"latencyMs": 1},
        }
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 900, "completion_tokens": 40}
        answer = {"id": "x", "model": "gpt-x", "choices": [choice], "usage": usage}
    body = json.dumps(answer)
    return f"{_HEAD.format(kind='application/json')}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _events(path: str) -> list[bytes]:
    """The chunks of a stream, each with one event."""
    if "messages" in path:
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
        events: list[object] = [{"type": "message_start", "message": {"model": "claude-x"}}, *[delta] * PIECES]
        events += [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]
    else:
        piece = {"id": "x", "model": "gpt-x", "choices": [{"index": 0, "delta": {"content": "word "}}]}
        events = [*[piece] * PIECES, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    written = [f"data: {json.dumps(event)}\n\n" for event in events]
    if "messages" not in path:
        written.append("data: [DONE]\n\n")
    return [f"{len(event):x}\r\n{event}\r\n".encode() for event in written]


_PATHS = ("/v1/chat/completions", "/v1/messages")
_ANSWERS = {path: _answer(path) for path in (*_PATHS, "/model/m/converse")}
_STREAMS = {path: _events(path) for path in _PATHS}


class Upstream(asyncio.Protocol):
    """One connection; requests come one after the other, and none is larger than a few reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        # uvloop's transport is not asyncio's class, only its like.
        self._transport = cast("asyncio.Transport", transport)
        self._got = b""

    def data_received(self, data: bytes) -> None:
        """Answers when a request is whole."""
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or b"0")
        if len(body) < size:
            return
        self._got = b""
        path = head.split(b" ", 2)[1].decode()
        if b'"stream":true' not in body:
            self._transport.write(_ANSWERS[path])
            return
        self._transport.write(
            f"{_HEAD.format(kind='text/event-stream')}Transfer-Encoding: chunked\r\n\r\n".encode()
            + b"".join(_STREAMS[path])
            + b"0\r\n\r\n"
        )


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
