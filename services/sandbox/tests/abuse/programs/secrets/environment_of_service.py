"""Reads the environment that the service, the fork server and the parent were started with: /proc/<pid>/environ."""

import os
from pathlib import Path

from probe import TARGET, attempt

for name, pid in (("service", TARGET["service"]), ("fork server", TARGET["fork_server"]), ("parent", os.getppid())):
    attempt(f"read the environment of the {name}", Path(f"/proc/{pid}/environ").read_text)
