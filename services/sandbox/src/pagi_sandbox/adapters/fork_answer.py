"""A child's answer and end, read as a verdict. The child has run a model's code: nothing of it is believed unseen."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import NoReturn

from pagi_sandbox.domain.model import Limits, Verdict
from pagi_sandbox.zygote import wire

# What a jailer ends a call for.
_EXCESS = {
    wire.TIME: (
        Verdict.TIMEOUT,
        "the tool's processes used {used} ms of the {limits.cpu_ms} ms of processor time that they may have together, "
        "and were stopped",
    ),
    wire.MEMORY: (
        Verdict.MEMORY,
        "the tool's processes held {used} MiB, of the {limits.memory_mb} MiB of memory that they may have together, "
        "and were stopped",
    ),
    wire.PROCESSES: (
        Verdict.PROCESSES,
        "the tool had {used} processes and threads, where it may have {limits.processes}, and was stopped",
    ),
    wire.DISK: (
        Verdict.DISK,
        "the tool had {used} MiB in its folder for temporary files, where it may have {limits.disk_mb}, "
        "and was stopped",
    ),
    wire.UNNAMED: (
        Verdict.DISK,
        "the tool held {used} MiB in files that it had deleted, where it may add {limits.disk_mb}, and was stopped",
    ),
}
# Besides 4 MiB of output, each byte of which may become three of U+FFFD, an answer has to fit into 16 MiB.
_LONGEST_COMPLAINT = 2**18
_OF_BYTES = {wire.MEMORY, wire.DISK, wire.UNNAMED}
_LIMITED = {wire.MEMORY: Verdict.MEMORY, wire.DISK: Verdict.DISK, wire.PROCESSES: Verdict.PROCESSES}


@dataclass(frozen=True, slots=True)
class Answer:
    """What ended a call, with its answer or the reason."""

    verdict: Verdict
    output_json: str
    error: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended, as its jailer tells.

    Attributes:
        status: as wait(2) gives it.
        memory_kills: how many processes of the call the control group ended for memory.
        refused: how many processes or threads the control group refused.
        excess: what all of the call used too much of, where its jailer ended it for that (a letter of wire.py).
        amount: how much of it.
    """

    status: int
    memory_kills: int = 0
    refused: int = 0
    excess: bytes = b""
    amount: int = 0


def read_answer(told: bytes, memory_mb: int) -> Answer | None:
    """The answer; None where it is none."""
    kind, text = told[:1], told[1:]
    if kind == wire.OK and text.isascii() and _is_object(output := text.decode("ascii")):
        return Answer(Verdict.OK, output, "")
    if kind == wire.FAILED:
        return Answer(Verdict.FAILED, "", _complaint(text) or "the tool failed")
    if kind in _LIMITED:
        reason = _reason(_LIMITED[kind], memory_mb)
        detail = _complaint(text)
        return Answer(_LIMITED[kind], "", f"{reason}\n{detail}" if detail else reason)
    return None


def _complaint(text: bytes) -> str:
    """What a tool says is wrong, for people: its beginning and its end."""
    if len(text) > _LONGEST_COMPLAINT:
        half = _LONGEST_COMPLAINT // 2
        text = b"%b\n...\n%b" % (text[:half], text[-half:])
    return text.decode("utf-8", "replace")


def read_ending(ending: Ending, told: bytes, limits: Limits) -> Answer:
    """The verdict on a call that nobody stopped."""
    code = os.waitstatus_to_exitcode(ending.status)
    answer = read_answer(told, limits.memory_mb) if code == 0 else None
    if answer is not None:
        return _with_totals(answer, ending, limits)
    if code == -signal.SIGKILL and ending.excess in _EXCESS:
        verdict, words = _EXCESS[ending.excess]
        return Answer(verdict, "", words.format(used=_amount(ending), limits=limits))
    if code == -signal.SIGXCPU:
        return Answer(Verdict.TIMEOUT, "", "one of the tool's processes used more processor time than it may have")
    if code == wire.EXIT_MEMORY or (ending.memory_kills and code == -signal.SIGKILL):
        return Answer(Verdict.MEMORY, "", _reason(Verdict.MEMORY, limits.memory_mb))
    if code == -signal.SIGKILL and ending.refused:
        return Answer(Verdict.PROCESSES, "", _reason(Verdict.PROCESSES, limits.memory_mb))
    if code == -signal.SIGXFSZ:
        return Answer(Verdict.DISK, "", _reason(Verdict.DISK, limits.memory_mb))
    if code == -signal.SIGSYS:
        return Answer(Verdict.DENIED, "", "the tool made a system call that no tool may make, and was ended for it")
    return Answer(Verdict.CRASH, "", f"the tool's process {_manner(code)} without an answer")


def _with_totals(answer: Answer, ending: Ending, limits: Limits) -> Answer:
    """A failure for which the control group knows the reason."""
    if answer.verdict is not Verdict.FAILED:
        return answer
    verdict = Verdict.MEMORY if ending.memory_kills else Verdict.PROCESSES if ending.refused else None
    if verdict is None:
        return answer
    return Answer(verdict, "", f"{_reason(verdict, limits.memory_mb)}\n{answer.error}")


def _amount(ending: Ending) -> str:
    return f"{ending.amount / 2**20:.1f}" if ending.excess in _OF_BYTES else str(ending.amount)


def _reason(verdict: Verdict, memory_mb: int) -> str:
    return {
        Verdict.MEMORY: f"the tool needed more than its {memory_mb} MiB of memory",
        Verdict.DISK: "the tool wrote more than it may",
        Verdict.PROCESSES: "the tool started more processes or threads than it may have",
    }[verdict]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not in JSON")


# Made once: json.loads() would make one for each answer.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _is_object(text: str) -> bool:
    try:
        return isinstance(_DECODER.decode(text), dict)
    except (ValueError, RecursionError):
        return False


def _manner(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
