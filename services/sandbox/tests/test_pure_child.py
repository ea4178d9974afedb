"""The line of requests in one child for pure tools; the test plays the child."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from pagi_sandbox.adapters.fork_answer import Answer, read_answer
from pagi_sandbox.adapters.fork_pure_child import ForkPureChild
from pagi_sandbox.adapters.fork_slot import ForkSlot
from pagi_sandbox.domain.model import Limits, Verdict
from pagi_sandbox.zygote import wire

LIMITS = Limits(timeout_ms=5_000, memory_mb=64)
PATIENCE = "pagi_sandbox.adapters.fork_pure_child._PATIENCE_S"


class PlayedSlot:
    """A slot whose child is the test."""

    def __init__(self) -> None:
        self.work, self.child = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.work.setblocking(False)
        self.child.settimeout(5)
        self.waits = True
        self.ended = 0
        self.line: ForkPureChild

    def kill(self) -> None:
        self.ended += 1

    def lose(self) -> None:
        if self.waits:
            self.waits = False
            asyncio.get_running_loop().remove_reader(self.work.fileno())
            self.work.close()
            self.line.lost()

    def hears(self) -> list[str]:
        data, texts = self.child.recv(65_536), []
        while data:
            (length,) = wire.LENGTH.unpack_from(data)
            texts.append(data[4 : 4 + length].decode())
            data = data[4 + length :]
        return texts

    def says(self, *tolds: bytes) -> None:
        self.child.sendall(b"".join(map(framed, tolds)))


def framed(told: bytes) -> bytes:
    return wire.LENGTH.pack(len(told)) + told


def ok(**members: Any) -> bytes:
    return wire.OK + json.dumps(members).encode()


@pytest_asyncio.fixture(loop_scope="module")
async def slot() -> AsyncIterator[PlayedSlot]:
    slot = PlayedSlot()
    slot.line = ForkPureChild(cast(ForkSlot, slot))
    yield slot
    slot.lose()
    slot.child.close()


async def asked(slot: PlayedSlot, *texts: str, limits: Limits = LIMITS) -> list[asyncio.Task[Answer | None]]:
    """Calls that have been sent."""
    tasks = [asyncio.create_task(slot.line.ask(framed(text.encode()), limits)) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def results(tasks: list[asyncio.Task[Answer | None]]) -> list[Any]:
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*tasks)
    return [json.loads(answer.output_json) if answer and answer.output_json else answer for answer in answers]


async def test_all_are_sent_at_once_and_each_gets_its_own_answer(slot: PlayedSlot) -> None:
    tasks = await asked(slot, "a", "b", "c")
    assert slot.hears() == ["a", "b", "c"]
    whole = framed(ok(n=1)) + framed(wire.FAILED + b"division by zero") + framed(ok(n=3))
    # However the stream cuts them.
    for at in range(0, len(whole), 7):
        slot.child.sendall(whole[at : at + 7])
        await asyncio.sleep(0)
    first, second, third = await results(tasks)
    assert (first, third) == ({"n": 1}, {"n": 3})
    assert (second.verdict, second.error) == (Verdict.FAILED, "division by zero")
    assert (slot.line.served, slot.ended) == (3, 0)


async def test_one_that_takes_too_long_is_told_so_and_those_behind_go_another_way(slot: PlayedSlot) -> None:
    slow = await asked(slot, "slow", limits=Limits(timeout_ms=20, memory_mb=64))
    behind = await asked(slot, "b", "c")
    (answer,) = await results(slow)
    assert answer.verdict is Verdict.TIMEOUT
    assert "did not end within 20 ms" in answer.error
    assert await results(behind) == [None, None]
    assert slot.ended == 1


async def test_answers_that_the_loop_has_not_come_to_are_read_before_a_child_is_called_slow(slot: PlayedSlot) -> None:
    # As after a stall, in a loop whose timers run before its sockets: uvloop's.
    asyncio.get_running_loop().remove_reader(slot.work.fileno())
    whole = framed(ok(text="x" * 50_000))
    tasks = await asked(slot, "a", "b", "c")
    slot.child.sendall(whole * 3)
    assert [each["text"][:1] for each in await results(tasks)] == ["x", "x", "x"]
    assert slot.line.has_room(b"x")
    assert slot.ended == 0


async def test_an_end_that_the_loop_has_not_come_to_is_not_called_slow(slot: PlayedSlot) -> None:
    asyncio.get_running_loop().remove_reader(slot.work.fileno())
    tasks = await asked(slot, "a", limits=Limits(timeout_ms=20, memory_mb=64))
    slot.child.close()
    assert await results(tasks) == [None]
    assert slot.ended == 1


async def test_a_call_gets_no_more_time_by_an_answer_that_trickles(slot: PlayedSlot) -> None:
    (call,) = await asked(slot, "a", limits=Limits(timeout_ms=60, memory_mb=64))
    for byte in framed(ok(text="x" * 200)):
        if call.done():
            break
        slot.child.sendall(bytes([byte]))
        await asyncio.sleep(0.01)
    answer = await call
    assert answer
    assert answer.verdict is Verdict.TIMEOUT


async def test_the_time_of_a_call_begins_with_its_turn(slot: PlayedSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PATIENCE, 5.0)
    first = await asked(slot, "a")
    second = await asked(slot, "b", limits=Limits(timeout_ms=100, memory_mb=64))
    await asyncio.sleep(0.15)
    slot.says(ok(n=1))
    assert await results(first) == [{"n": 1}]
    slot.says(ok(n=2))
    assert await results(second) == [{"n": 2}]


async def test_who_waits_behind_a_slow_one_goes_another_way_and_the_child_serves_on(slot: PlayedSlot) -> None:
    slow, behind = await asked(slot, "slow", "behind")
    assert await results([behind]) == [None]
    assert not slot.line.has_room(b"x"), "nobody is put behind it"
    # The second answer has nobody who waits for it.
    slot.says(ok(n=1), ok(n=2))
    assert await results([slow]) == [{"n": 1}]
    assert slot.line.has_room(b"x")
    (third,) = await asked(slot, "third")
    slot.says(ok(n=3))
    assert await results([third]) == [{"n": 3}]
    assert slot.ended == 0


async def test_a_caller_that_leaves_ends_the_child_only_where_it_may_be_at_work_for_it(slot: PlayedSlot) -> None:
    first, second, third = await asked(slot, "a", "b", "c")
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert slot.ended == 0
    slot.says(ok(n=1), ok(n=2), ok(n=3))
    assert await results([first, third]) == [{"n": 1}, {"n": 3}]
    (fourth, fifth) = await asked(slot, "d", "e")
    fourth.cancel()
    assert await results([fifth]) == [None]
    assert slot.ended == 1


@pytest.mark.parametrize(
    "told", [wire.MEMORY, wire.OK + b"no JSON", b"", b"x" * 60_001], ids=["memory", "no object", "nothing", "too long"]
)
async def test_a_child_that_does_not_end_a_call_well_is_ended(slot: PlayedSlot, told: bytes) -> None:
    tasks = await asked(slot, "a", "b")
    slot.says(told, ok(n=2))
    assert await results(tasks) == [None, None], "what it says after that is not believed"
    assert slot.ended == 1


@pytest.mark.parametrize("kind", [wire.FAILED, wire.MEMORY])
def test_a_complaint_is_no_longer_than_can_be_sent(kind: bytes) -> None:
    said = read_answer(kind + b"begins " + b"\xff" * 4 * 2**20 + b" ends", memory_mb=64)
    assert said is not None
    assert ("begins" in said.error, said.error.endswith(" ends")) == (True, True)
    assert len(said.error.encode()) < 2**20


async def test_a_child_that_talks_without_being_asked_is_ended(slot: PlayedSlot) -> None:
    slot.says(ok(n=1))
    await asyncio.sleep(0.01)
    assert slot.ended == 1
    assert not slot.line.has_room(b"x")


async def test_a_retired_child_answers_those_in_line_first(slot: PlayedSlot) -> None:
    tasks = await asked(slot, "a", "b")
    slot.line.retire()
    slot.says(ok(n=1))
    assert await results(tasks[:1]) == [{"n": 1}]
    assert slot.ended == 0
    slot.says(ok(n=2))
    assert await results(tasks[1:]) == [{"n": 2}]
    assert slot.ended == 1


async def test_what_does_not_fit_into_the_line_is_not_put_there(slot: PlayedSlot) -> None:
    assert not slot.line.has_room(b"x" * 60_001)
    tasks = await asked(slot, *"x" * 64)
    assert not slot.line.has_room(b"x")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
