"""`--detach`: the harness in the background; this process stays until all is ready."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from dev_mesh.console import Console
from dev_mesh.launch import lock_and_state


def start_detached(command: list[str], root: Path, console: Console) -> int:
    """Starts the command as a harness of its own session, shows what it says until it is ready.

    Returns:
        0 when everything is ready, else the harness's exit status.
    """
    log = root / "data" / "logs" / "mesh.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    _, state = lock_and_state(root)
    with log.open("wb") as output:
        harness = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with log.open(encoding="utf-8", errors="replace") as shown:
        while True:
            code = harness.poll()
            # Asked before the text is read, so that what led to the answer is shown.
            ready = (written := state.read()).get("ready") and written["harness"][0] == harness.pid
            if ready:
                time.sleep(0.1)  # the banner follows the mark at once
            for line in shown:
                console.say(line.rstrip("\n"))
            if ready:
                return 0
            if code is not None:
                return code
            time.sleep(0.05)
