"""What a call holds on a disk where nobody who walks its workspace finds it.

That is its folder for temporary files, where it has no file system of its own for that, and files that have no name any
more: deleted ones live on in descriptors, in mappings, and in messages that nobody has received yet.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from pagi_sandbox.zygote import kernel

_BLOCK = 512  # st_blocks counts these, whatever the file system
_LEAST_FILES = 1024
_TMPFS = 0x01021994
# What has no name by its nature, and is memory.
_NEVER_NAMED = (b"/dev/zero", b"/memfd:", b"/SYSV", b"[")
# Files of which only the number can be seen. So many may be there; of more each is taken for as large as it may be.
_UNSEEN = 8
_LOOKED_AT = 4096


def folder_bytes(folder: str, most: int) -> int:
    """What is in a folder, in bytes as the disk counts them; no further than to more than `most`.

    So many names as a file system in memory of that size would have room for are taken for `most`, and so is a tree
    too deep to be walked. A folder that is closed to us is closed to the tool, and so is empty.
    """
    files, used, waiting, linked = max(_LEAST_FILES, most >> 12), 0, [folder], set()
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        if status.st_nlink == 1 or status.st_ino not in linked:
                            used += status.st_blocks * _BLOCK
                            linked.add(status.st_ino)
                        files -= 1
                        if files < 0:
                            return max(used, most + 1)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError:
            return max(used, most + 1)
        if used > most:
            return used
    return used


def too_many_names(folder: str, most: int) -> bool:
    """Whether a file system in memory has more names than it would have room for; false where it is gone."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_files - status.f_ffree > max(_LEAST_FILES, most >> 12)


def unnamed_bytes(pids: list[int], most: int) -> int:
    """What processes hold in files that have been deleted; those in memory are counted elsewhere.

    Only so many descriptors are looked at, of the first processes: whoever has more of them shall not keep us busy.
    """
    files: dict[tuple[int, int], int] = {}
    unseen, left = 0, _LOOKED_AT
    for pid in pids:
        if left < 0:
            break
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 the cheapest way, taken every 50 ms
        except PermissionError:
            if _is_over(pid):
                continue
            return most + 1  # a program that cannot be read is closed to us: what it holds may be anything
        except OSError:
            continue  # it has ended
        left -= len(numbers)
        for number in numbers:
            with suppress(OSError):
                unseen += _look(f"/proc/{pid}", number, files)
        unseen += len(_mapped(pid) - files.keys())
    return sum(files.values()) + max(0, unseen - _UNSEEN) * most


def _look(process: str, number: str, files: dict[tuple[int, int], int]) -> int:
    """Adds a deleted file to `files`; how many descriptors wait in a socket."""
    status = os.stat(f"{process}/fd/{number}")  # noqa: PTH116 as above
    if stat.S_ISSOCK(status.st_mode):
        text = _read(f"{process}/fdinfo/{number}")
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(b"scm_fds:"))
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
        in_memory = status.st_blocks == 0 or _is_tmpfs(f"{process}/fd/{number}")
        files[status.st_dev, status.st_ino] = 0 if in_memory else status.st_blocks * _BLOCK
    return 0


def _mapped(pid: int) -> set[tuple[int, int]]:
    """Device and inode of the deleted files that it has mapped; semaphores, for example, are such, in memory."""
    found = set()
    for line in _read(f"/proc/{pid}/maps").splitlines():
        if line.endswith(b" (deleted)"):
            _, _, _, device, inode, path = line.split(None, 5)
            if not path.startswith(_NEVER_NAMED):
                major, _, minor = device.partition(b":")
                found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return {one for one in found if one[0] not in _in_memory(pid)} if found else found


def _in_memory(pid: int) -> set[int]:
    """The devices of the file systems in memory that it has."""
    devices = set()
    for line in _read(f"/proc/{pid}/mountinfo").splitlines():
        if b" - tmpfs " in line:
            major, _, minor = line.split()[2].partition(b":")
            devices.add(os.makedev(int(major), int(minor)))
    return devices


def _is_over(pid: int) -> bool:
    """Whether it has no memory any more, and so is ending: then its files are closed to all but root."""
    return not int((_read(f"/proc/{pid}/statm").split() or [b"0"])[0])


def _is_tmpfs(path: str) -> bool:
    # struct statfs begins with its f_type, a long.
    answer = kernel.buffer(256)
    kernel.syscall("statfs", path.encode(), answer)
    return int.from_bytes(bytes(answer)[:8], "little") == _TMPFS


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # it has ended
    try:
        parts = []
        while part := os.read(descriptor, 65_536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
