"""What of the machine a tool may see: the interpreter, the libraries, the programs; read only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

_ALWAYS = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/fonts",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls",
)
# For names and addresses; not secret, but of no use without a network.
_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")
# Of the machine's /proc, where a tool has none of its own: nothing about other processes.
PROC = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/version")
# Of the process itself, there: not its mounts, groups and network tables, which are the machine's.
OWN = ("maps", "smaps", "smaps_rollup", "status", "stat", "statm", "cmdline", "comm", "limits", "auxv")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def oversight(private: Mapping[str, str]) -> str:
    """What a tool would see of what is private, for people; empty where it is nothing.

    Args:
        private: absolute paths, by what they are.
    """
    for path in read_only(network=True):
        seen = Path(path).resolve()
        for name, place in private.items():
            if seen in (real := Path(place).resolve()).parents or seen == real:
                return (
                    f"{name}: every tool could read {place}, for it lies in {path}, which tools see because the "
                    "interpreter, its libraries or tools are there; move one of the two"
                )
    return ""


def read_only(*, network: bool) -> list[str]:
    """Absolute paths, none of which lies in another."""
    found: list[str] = []
    paths = [*_ALWAYS, sys.base_prefix, sys.base_exec_prefix, sys.prefix, *sys.path, *(_NETWORK if network else ())]
    for path in sorted(set(paths), key=len):
        place = Path(path)
        inside = any(Path(one) in place.parents or one == path for one in found if not Path(one).is_symlink())
        # A path of the interpreter that is the root itself, or none at all, would show everything.
        if place.is_absolute() and len(place.parts) > 1 and place.exists() and not inside:
            found.append(path)
    return found
