"""What a server's private directory holds, measured while it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from pagi_sandbox.adapters.directory_walk import Walk, open_top

_MOST_NAMES = 500_000
_BLOCK = 512
_EVERY_S = 2.0
# So much longer than a look took is waited for the next one.
_REST = 20.0


async def watch_disk(home: Path, disk_mb: int, lose: Callable[[str], None]) -> None:
    """Gives a server up whose directory has outgrown its limit."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        fault = await asyncio.to_thread(over_limit, home, disk_mb)
        if fault:
            lose(fault)
            return
        await asyncio.sleep(max(_EVERY_S, _REST * (loop.time() - began)))


def over_limit(home: Path, disk_mb: int) -> str:
    """Why the directory is too large, for people; empty where it is not.

    What cannot be measured counts as too large: a server could hide there what it likes.
    """
    try:
        top = open_top(home)
    except FileNotFoundError:
        return ""
    except PermissionError as error:
        return f"its private directory {home} cannot be measured: {error.strerror}"
    try:
        walk, used = Walk(_MOST_NAMES), 0
        for found in walk.below(top):
            used += found.status.st_blocks * _BLOCK
            if used > disk_mb * 2**20:
                return f"its private directory {home} holds more than {disk_mb} MiB: make room, or raise jail.disk_mb"
    finally:
        os.close(top)
    return f"its private directory {home} cannot be measured: {walk.fault}" if walk.fault else ""
