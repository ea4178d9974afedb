"""200 calls at once at each of two gateways, one Valkey: never more than the budget, and settled to the exact sum."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from pagi_gateway.adapters.redis_spending import RedisSpending
from pagi_gateway.domain.budgets import Claims

# Beside this file, so that a process of its own can run it too.
sys.path.insert(0, str(Path(__file__).parent))
from racing_gateway import CALLER, CALLS, USD, race, rules


async def test_two_gateways_spend_exactly_what_they_say_and_never_more_than_there_is(valkey_url: str) -> None:
    name = f"race-{time.monotonic_ns()}"
    program = str(Path(__file__).with_name("racing_gateway.py"))
    other = await asyncio.create_subprocess_exec(
        sys.executable, program, valkey_url, name, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdin
    assert other.stdout
    assert await other.stdout.readline() == b"ready\n"
    # Both begin now.
    other.stdin.write(b"go\n")
    mine = await race(valkey_url, name)
    said, _ = await other.communicate()
    theirs = json.loads(said)
    store = RedisSpending(valkey_url)
    try:
        tenant, run = [await store.counted(claim) for claim in Claims(rules(name)).of(CALLER, time.time())]
    finally:
        await store.stop()
    # Every call ended in a known way, some in each, at both gateways.
    ways = ("answered", "refused", "failed", "left")
    assert sum(each[way] for each in (mine, theirs) for way in ways) == 2 * CALLS
    assert all(each["answered"] and each["failed"] and each["left"] for each in (mine, theirs))
    assert mine["refused"] + theirs["refused"]
    for counted, held in (tenant, run):
        assert held == (0, 0, 0)
        assert counted.usd_nano == mine["usd_nano"] + theirs["usd_nano"] <= USD
        assert counted.requests == mine["asked"] + theirs["asked"]
    # And it was used, not just guarded.
    assert tenant[0].usd_nano > USD / 2
