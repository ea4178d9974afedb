"""The file system of a server in a mount namespace of its own: what it may see, at the places where that really is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pagi_sandbox.zygote import kernel, namespaces

TMP = "/tmp"  # noqa: S108 its own
_NOSUID, _NODEV, _BIND, _RECURSIVE, _DETACH = 2, 4, 4096, 16384, 2


def build(system: Sequence[str], read: Sequence[str], write: Sequence[str], tmp_bytes: int) -> None:
    """Replaces the file system, for good.

    Args:
        system: programs and libraries, read only.
        read: what else may be read; absolute paths, those that are not there are passed over.
        write: what may be changed.
        tmp_bytes: how much fits into its /tmp, in memory.

    Raises:
        OSError: mounts do not work here.
    """
    # A path of the system that lies in /tmp would be hidden by ours.
    hidden = [path for path in system if _below(path, [TMP])]
    system = [path for path in system if path not in hidden]
    wanted = {path: False for path in (*hidden, *read) if os.path.exists(path) and not _below(path, system)}  # noqa: PTH110
    wanted |= {path: True for path in write if os.path.exists(path)}  # noqa: PTH110
    real = {path: os.path.realpath(path) for path in wanted}
    # Anywhere, for it is covered in this namespace only; and this is there on every system.
    namespaces.build_root(TMP, system, TMP)
    options = f"size={tmp_bytes},nr_inodes={max(1024, tmp_bytes >> 12)},mode=1777"
    kernel.mount("tmpfs", TMP, "tmpfs", _NOSUID | _NODEV, options)
    # Folders before what is in them.
    for path in sorted(wanted, key=len):
        _show(namespaces.HOST + real[path], path, change=wanted[path])
    kernel.syscall("umount2", namespaces.HOST.encode(), _DETACH)


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _show(source: str, path: str, *, change: bool) -> None:
    place = Path(path)
    if not place.exists():
        if Path(source).is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    kernel.mount(source, path, "", _BIND | _RECURSIVE)
    namespaces.restrict(path, _NOSUID | _NODEV if change else namespaces.READ_ONLY)
