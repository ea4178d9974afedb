"""The floor under test: a front and three processes that do nothing, see `floor_front` and `floor_server`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.children import Child, Children

# The process of the mesh that each one of the floor stands for.
FRONT = "agent-planner"
MEMORY = "memory"
SERVERS = (MEMORY, "model-gateway", "sandbox")


class Floor:
    """The running floor.

    Attributes:
        port: Of the front's HTTP.
        children: Its processes, each named after the service that it stands for.
        ready_after_s: From the start of the first process until the front listened.
    """

    def __init__(self, port: int, children: Sequence[Child], ready_after_s: float) -> None:
        self.port = port
        self.children = children
        self.ready_after_s = ready_after_s


def start_floor(children: Children, *, embeds: bool = False) -> Floor:
    """Starts the floor and waits until it listens.

    Args:
        children: Starts the processes.
        embeds: The one that stands for memory has its model read the prompt, and does nothing else.

    Raises:
        BenchError: A process ended.
    """
    began = time.perf_counter()
    servers = [
        children.start_module(name, "benchmarks.floor_server", *(["embed"] if embeds and name == MEMORY else []))
        for name in SERVERS
    ]
    ports = [str(server.listen()["port"]) for server in servers]
    front = children.start_module(FRONT, "benchmarks.floor_front", *ports)
    port = int(front.listen()["port"])
    return Floor(port, [front, *servers], time.perf_counter() - began)
