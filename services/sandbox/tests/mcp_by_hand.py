"""A server that speaks the protocol of 2025 by hand, badly where it is told to."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

EMPTY = {"type": "object"}
TOOLS = {
    "good": [{"name": "good", "inputSchema": EMPTY}],
    "bad_schema": [
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "objekt"}}}},
        {"name": "good", "inputSchema": EMPTY},
    ],
    "bad_list": [{"name": "bad", "inputSchema": {"type": "array"}}],
    "twice": [{"name": "Good", "inputSchema": EMPTY, "description": "first"}, {"name": "good", "inputSchema": EMPTY}],
    "long_name": [{"name": "x" * 80, "inputSchema": EMPTY}, {"name": "good", "inputSchema": EMPTY}],
    "large_schemas": [{"name": f"t{i}", "inputSchema": {**EMPTY, "description": "x" * 400_000}} for i in range(4)],
    "no_number": [
        {"name": "bad", "inputSchema": {**EMPTY, "default": float("nan")}},
        {"name": "good", "inputSchema": EMPTY},
    ],
    "many": [{"name": f"{i:080}", "inputSchema": EMPTY} for i in range(1_000)],
    "not_finite": [{"name": "good", "inputSchema": EMPTY}],
    "half_a_character": [{"name": "good", "inputSchema": EMPTY}],
    "large_messages": [{"name": "good", "inputSchema": EMPTY}],
    "endless_pages": [{"name": "good", "inputSchema": EMPTY}],
}

_PARAMS = {"level": "info", "data": [0] * 300_000}
LARGE = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": _PARAMS}) + "\n"


def misbehave(mode: str) -> None:
    if mode == "silent":
        time.sleep(600)
    if mode == "dead":
        print("no licence", file=sys.stderr)
        sys.exit(3)
    while mode == "flood":
        sys.stdout.write("x" * 65536)


def answer(mode: str, method: str, params: dict[str, Any], listed: int) -> dict[str, Any] | None:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "x", "version": ""},
        }
    if method == "tools/list":
        return {"tools": TOOLS[mode], **({"nextCursor": str(listed)} if mode == "endless_pages" else {})}
    if method == "tools/call":
        say(method="notifications/tools/list_changed")
        if mode == "not_finite":
            return {"content": [], "structuredContent": {"mean": float("nan")}}
        if mode == "half_a_character":
            return {"content": [{"type": "text", "text": "cut here: \ud83d"}]}
        return {"content": [{"type": "text", "text": f"listed {listed} times"}]}
    return None


def say(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main(mode: str) -> None:
    misbehave(mode)
    print("this is no message")
    listed = 0
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        listed += request["method"] == "tools/list"
        result = answer(mode, request["method"], request.get("params", {}), listed)
        if result is None:
            say(id=request["id"], error={"code": -32601, "message": "no such method"})
        else:
            say(id=request["id"], result=result)
        while mode == "large_messages" and request["method"] == "tools/list":
            sys.stdout.write(LARGE)


main(sys.argv[1])
