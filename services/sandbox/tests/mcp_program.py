"""A server that the tests start: `python mcp_program.py stdio` or `python mcp_program.py http <port>`."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("test", version="3.1")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="Read-File", annotations=ToolAnnotations(idempotent_hint=True), structured_output=False)
def read_file(path: str) -> str:
    """Read a file of the machine."""
    return Path(path).read_text()


@server.tool(annotations=ToolAnnotations(destructive_hint=True), structured_output=False)
def write_file(path: str) -> str:
    """Write a file of the machine."""
    Path(path).write_text("written")
    return "done"


@server.tool(structured_output=False)
def environment() -> str:
    """Show the environment."""
    return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))


@server.tool()
def who() -> dict[str, object]:
    """Tell what it runs as."""
    try:
        seen = os.listdir("/proc")
    except PermissionError:
        seen = []
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "capabilities": status["CapEff"],
        "no_new_privs": status["NoNewPrivs"],
        "filter": status["Seccomp"],
        "processes": sorted(int(one) for one in seen if one.isdigit()),
        "namespaces": {one: os.readlink(f"/proc/self/ns/{one}") for one in ("pid", "mnt", "ipc", "net")},
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "tasks": resource.getrlimit(resource.RLIMIT_NPROC)[0],
    }


@server.tool(structured_output=False)
def change_mode(mode: int) -> str:
    """Change the mode of a file of its own."""
    mine = Path.home() / "mine"
    mine.touch()
    mine.chmod(mode)
    return oct(mine.stat().st_mode)


@server.tool(structured_output=False)
def fill(mebibytes: int) -> str:
    """Fill its private directory, by small files."""
    for number in range(mebibytes):
        (Path.home() / f"full-{number}").write_bytes(bytes(2**20))
    return "full"


@server.tool(structured_output=False)
def hold(mebibytes: int) -> str:
    """Use memory in processes that each use little."""
    code = "import time; held = b'x' * (16 * 2**20); print(len(held), flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code]
    held = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(mebibytes // 16)]
    return str(sum(one.stdout is not None and bool(one.stdout.read(1)) for one in held))


@server.tool(structured_output=False)
def connect(port: int) -> str:
    """Connect to a port of this machine."""
    import socket

    socket.create_connection(("127.0.0.1", port), 2).close()
    return "connected"


@server.tool(structured_output=False)
def picture() -> list[object]:
    """Draw something."""
    return ["a picture", Image(data=b"\x89PNG\r\n\x1a\nnot really", format="png")]


@server.tool(structured_output=False)
def fail() -> str:
    """Fail."""
    raise ToolError("this cannot be done")


@server.tool(structured_output=False)
async def hang() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return ""


@server.tool(structured_output=False)
def crash() -> str:
    """End in the middle."""
    print("the disk is on fire", file=sys.stderr, flush=True)
    os._exit(7)


@server.tool(structured_output=False)
def leave() -> str:
    """End after the answer."""
    threading.Timer(0.3, os._exit, (5,)).start()
    return "good bye"


@server.tool(structured_output=False)
def long_line(size: int) -> str:
    """Answer much."""
    return "x" * size


@server.tool(structured_output=False)
def chatter(seconds: float) -> str:
    """Talk about nothing, on every channel, as fast as it goes."""
    line = '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}\n'
    code = f"import os, time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: os.write(1, {line!r}"
    subprocess.Popen([sys.executable, "-c", f"{code}.encode() * 100); os.write(2, b'noise\\n' * 100)"])
    return "begun"


@server.tool(structured_output=False)
def daemons(seconds: str) -> str:
    """Leave processes behind, in sessions of their own."""
    for _ in range(3):
        subprocess.Popen(["/bin/sleep", seconds], start_new_session=True, stdout=subprocess.DEVNULL)
    return "begun"


@server.tool(structured_output=False)
async def grow(context: Context) -> str:
    """Learn another tool."""
    server.add_tool(add, name="grown", description="A tool that came later.")
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return "grown"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
