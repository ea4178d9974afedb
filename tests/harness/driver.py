"""A harness as run_all_dev.py starts one, but for a folder and services that a test names.

Usage: driver.py ROOT PIDS READY_TIMEOUT NAME:PORT[:FAULT,...] ...; a service named valkey is the real one.
"""

import queue
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from dev_mesh import launch
from dev_mesh.console import Console
from dev_mesh.errors import MeshError
from dev_mesh.ports import Port
from dev_mesh.probes import HttpProbe
from dev_mesh.services import ServiceSpec, valkey_service
from dev_mesh.valkey import RedisAddress

FAKE = Path(__file__).with_name("fake_service.py")


def spec(text, pids):
    name, port, faults = [*text.split(":"), ""][:3]
    if name == "valkey":
        return valkey_service(Path(root), RedisAddress("127.0.0.1", int(port)))
    return ServiceSpec(
        name=name,
        command=(sys.executable, str(FAKE), port, pids, *filter(None, faults.split(","))),
        ports=(Port("HTTP", f"{name.upper()}_PORT", int(port)),),
        probe=HttpProbe("127.0.0.1", int(port)),
    )


root, pids, ready_timeout, *services = sys.argv[1:]
signals = queue.SimpleQueue()
launch.catch_signals(signals)
console = Console(sys.stdout, on_closed=lambda: signals.put(0))
try:
    options = launch.Options(Path(root), ready_timeout_s=float(ready_timeout))
    sys.exit(launch.run(options, console, signals, plan=lambda *_: [spec(text, pids) for text in services]))
except MeshError as error:
    console.warn(str(error))
    sys.exit(1)
