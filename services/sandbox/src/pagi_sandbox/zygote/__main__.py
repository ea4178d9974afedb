"""Entry of the fork server: `python -I -m pagi_sandbox.zygote <options as JSON>`; not for people to start."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from dataclasses import asdict
from typing import Any

from pagi_sandbox.domain.tools import BuiltInOptions
from pagi_sandbox.zygote import bubblewrap_profile, profile, scratch, sight, slots, wire
from pagi_sandbox.zygote.answering import warm_up
from pagi_sandbox.zygote.loading import LoadedTools, load
from pagi_sandbox.zygote.server import ForkServer


def main() -> None:
    """Loads the tools, says hello, and serves until the service goes away."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    sys.path.extend(options["path"])
    sys.argv[1:] = []
    chosen = BuiltInOptions(options["shell"], tuple(options["preload"]), options["monty"])
    tools = load([(origin, reference) for origin, reference in options["references"]], chosen)
    warm_up(tools.by_name)
    # Only now: a tool's import may have put something back. Children inherit nothing.
    os.environ.clear()
    channel = _lowest(options["channel"])
    if fault := sight.oversight(options["private"]):
        _say(channel, {"fault": fault})
        return
    slots.set_up(options["max_file_bytes"])
    bubblewrap = options["backend"] == bubblewrap_profile.NAME
    try:
        found = bubblewrap_profile.find(tools, options) if bubblewrap else profile.find(tools.by_name, options)
    except bubblewrap_profile.CannotWorkError as error:
        _say(channel, {"fault": str(error)})
        return
    # Never collected again and never written to, so that children share these pages.
    gc.collect()
    gc.disable()
    gc.freeze()
    _say(channel, _hello(tools, found) | {"backend": options["backend"]})
    try:
        ForkServer(channel, found.slots, found.plan).serve()
    finally:
        scratch.remove(found.plan.scratch)


def _say(channel: socket.socket, hello: dict[str, Any]) -> None:
    channel.send(wire.HEADER.pack(wire.HELLO, 0) + json.dumps(hello).encode())


def _lowest(descriptor: int) -> socket.socket:
    """The channel at the lowest free number: the service's may be above the limit that we set."""
    channel = socket.socket(fileno=os.dup(descriptor))
    os.close(descriptor)
    return channel


def _hello(tools: LoadedTools, found: profile.Found) -> dict[str, Any]:
    return {
        "tools": [{**asdict(spec), "effects": spec.effects.value} for spec in tools.specs],
        "left_out": [asdict(one) for one in tools.left_out],
        "profile": found.plan.profile,
        "own_user": found.plan.own_user,
        "layers": found.layers,
        "observations": found.observations,
    }


if __name__ == "__main__":
    main()
