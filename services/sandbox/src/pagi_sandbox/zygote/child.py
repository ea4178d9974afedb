"""What a child does between its fork and its end."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.zygote import wire
from pagi_sandbox.zygote.answering import answer, finish, rehearse
from pagi_sandbox.zygote.jail import Jail

MAX_FILES = 256


def run(
    work: int, generation: int, jail: Jail, tools: Mapping[str, Tool], pure_orders: dict[str, Any] | None
) -> NoReturn:
    """Prepares itself, waits for work, does it, and ends the process without ever returning.

    Args:
        work: the descriptor of the slot's work socket.
        generation: of this child; work for another is not its own.
        jail: the layers to put on.
        tools: by name.
        pure_orders: with them the child serves many calls of pure tools.
    """
    status = 1
    try:
        os.environ.update(jail.prepare())
        rehearse(tools)
        if pure_orders is not None:
            _serve_pure(work, jail, tools, pure_orders)
            status = 0
        else:
            status = _serve_one(work, generation, jail, tools)
    except MemoryError:
        status = wire.EXIT_MEMORY
    finally:
        # Not sys.exit: nothing of the fork server (its exit handlers, its buffers) is the child's to end.
        os._exit(status)


def _serve_one(work: int, generation: int, jail: Jail, tools: Mapping[str, Tool]) -> int:
    orders, descriptors = take_work(work, generation)
    if len(descriptors) != 3:
        return 0  # the service went away
    call, stdout, stderr = descriptors
    if not _jailed(jail, orders):
        return 1
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    channel = _only(call)
    request = read_request(channel)
    told = answer(tools, request, processes=orders["processes"])
    finish()
    channel.sendall(told)
    return 0


def forget(variable: str) -> None:
    """Takes a variable out of the environment of this process, and so of what the tool starts."""
    os.environ.pop(variable, None)


def take_work(work: int, generation: int) -> tuple[dict[str, Any], list[int]]:
    """Waits for the orders and the call's socket, output and errors; nothing where the service went away."""
    with socket.socket(fileno=work) as waiting:
        packet, descriptors = _work_for(generation, waiting)
    return (json.loads(packet[wire.HEADER.size :]), descriptors) if len(descriptors) == 3 else ({}, [])


def _work_for(generation: int, waiting: socket.socket) -> tuple[bytes, list[int]]:
    """The first packet for this child; nothing where the service went away.

    A call that is stopped before its child has read it leaves its packet behind: it is over, and must not begin here.
    """
    while True:
        packet, descriptors, _, _ = socket.recv_fds(waiting, wire.MAX_PACKET, 3)
        if len(packet) < wire.HEADER.size or wire.HEADER.unpack_from(packet)[1] == generation:
            return packet, descriptors
        for descriptor in descriptors:
            os.close(descriptor)


def _serve_pure(work: int, jail: Jail, tools: Mapping[str, Tool], orders: dict[str, Any]) -> None:
    """Answers one request after the other.

    Why one process may serve many calls, of several tenants: a pure tool is our own code and computes on data only. It
    runs no code of a model or a package, and has neither workspace nor network, so that there is nothing to leave for
    the next call and nothing to take from the last. Were there a fault in it all the same, the process is jailed like
    any other, holds no secret, is ended at the first call that does not end well, and is replaced every so many calls.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if not _jailed(jail, orders):
        os._exit(1)
    answer_all(_only(work), tools)


def answer_all(channel: socket.socket, tools: Mapping[str, Tool]) -> NoReturn:
    """Answers requests of pure tools, in their order, until there are no more.

    Raises:
        EOFError: the service went away.
    """
    received = bytearray()
    while True:
        for request in _whole_requests(received):
            # Each by itself: what is not answered is what was being worked on.
            told = answer(tools, request, processes=0)
            channel.sendall(wire.LENGTH.pack(len(told)) + told)
        data = channel.recv(65_536)
        if not data:
            raise EOFError("the service went away")
        received += data


def _whole_requests(received: bytearray) -> Iterator[dict[str, Any]]:
    """Takes out what is whole."""
    while len(received) >= wire.LENGTH.size:
        end = wire.LENGTH.size + wire.LENGTH.unpack_from(received)[0]
        if len(received) < end:
            return
        told = bytes(received[wire.LENGTH.size : end])
        del received[:end]
        yield json.loads(told)


def _only(descriptor: int) -> socket.socket:
    """The socket, as number 3, with nothing else left open but 0, 1 and 2."""
    if descriptor != 3:
        os.dup2(descriptor, 3, inheritable=False)
    os.closerange(4, MAX_FILES)
    return socket.socket(fileno=3)


def _jailed(jail: Jail, orders: dict[str, Any]) -> bool:
    try:
        jail.enter(orders)
    except OSError:
        # Said on the service's own error output; nothing of the tool has run.
        sys.excepthook(*sys.exc_info())
        jail.refuse()
        return False
    return True


def read_request(channel: socket.socket) -> dict[str, Any]:
    """What a model wrote: which tool, with which arguments.

    Raises:
        EOFError: the service went away before it was whole.
    """
    (length,) = wire.LENGTH.unpack(_exactly(channel, wire.LENGTH.size))
    request: dict[str, Any] = json.loads(_exactly(channel, length))
    return request


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = channel.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        raise EOFError("the service went away before the request was whole")
    return data
