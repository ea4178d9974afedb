"""An interpreter with the sandbox in it that every user of the machine can read.

The interpreter of a checkout may lie below a home that only its owner enters. A virtual environment does not help, not
even with --copies: its standard library stays where it was. So the prefix is linked (or copied, on another file
system) into a folder that all may read, with the distributions that the sandbox needs and nothing else.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

# Of the standard library, what no tool imports and what is large.
_LEFT_OUT = {"site-packages", "test", "idlelib", "ensurepip", "lib2to3", "turtledemo", "pydoc_data"}
# Installed by some operators: programs use it where it is there.
_OPTIONAL = ("numpy",)
_PACKAGES = ("pagi_sandbox", "pagi_chassis", "pagi")


class NoReadableInterpreterError(Exception):
    """Says why an ordinary user cannot be given an interpreter here."""


def readable_interpreter(folder: Path, uid: int) -> Path:
    """An executable that the user can run and that imports the sandbox.

    Args:
        folder: where to build one, if need be; readable by all.
        uid: of the user.

    Raises:
        NoReadableInterpreterError: none could be made.
    """
    here = Path(sys.executable)
    if not _complaint(here, uid):
        return here
    there = _build(folder)
    complaint = _complaint(there, uid)
    if complaint:
        raise NoReadableInterpreterError(f"an ordinary user cannot run a copy of the interpreter: {complaint}")
    return there


def as_user(uid: int) -> list[str]:
    """The words before a command that make it run as an ordinary user; none where we are no other than that."""
    if os.geteuid() != 0 or uid == 0:
        return []
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def _complaint(python: Path, uid: int) -> str:
    """Why the user cannot run it; nothing where it can. Told by trying."""
    # The version too: an executable that does not find its library may find another Python's.
    code = "import sys, pagi_sandbox.bootstrap, pagi_sandbox.zygote.child; print(sys.version)"
    command = [*as_user(uid), str(python), "-I", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", env={"PATH": os.defpath})
    except OSError as error:
        return str(error)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return "" if done.stdout.strip() == sys.version.strip() else f"it runs as {done.stdout.strip()}"


def _build(folder: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = folder / "lib" / version
    packages = library / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    python = folder / "bin" / version
    shutil.copy(os.path.realpath(sys.executable), python)
    _find_library_beside(python)
    _take_tree(Path(sysconfig.get_path("stdlib")), library, _LEFT_OUT)
    for shared in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        _take(shared, folder / "lib" / shared.name)
    for distribution in _needed("pagi-sandbox", *_OPTIONAL):
        for file in distribution.files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file() and source.suffix != ".pth":
                _take(source, packages / file)
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for place in spec.submodule_search_locations or ():
            _take_tree(Path(place), packages / package, set())
    return python


def _needed(*roots: str) -> Iterator[importlib.metadata.Distribution]:
    """The distributions that these need, themselves included."""
    waiting, seen = [Requirement(root) for root in roots], set()
    while waiting:
        wanted = waiting.pop()
        found = {(re.sub(r"[-_.]+", "-", wanted.name).lower(), extra) for extra in ("", *wanted.extras)} - seen
        seen |= found
        try:
            distribution = importlib.metadata.distribution(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform, or optional
        if found:
            yield distribution
        for requirement in map(Requirement, distribution.requires or ()):
            if any(not requirement.marker or requirement.marker.evaluate({"extra": extra}) for _, extra in found):
                waiting.append(requirement)


def _take_tree(source: Path, target: Path, left_out: set[str]) -> None:
    for folder, names, files in os.walk(source):
        names[:] = [name for name in names if name not in left_out and not name.startswith("config-")]
        for file in files:
            path = Path(folder, file)
            if path.suffix not in {".a", ".proto"} and path.is_file():
                _take(path, target / path.relative_to(source))


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        if source.stat().st_mode & 0o004:
            os.link(source.resolve(), target)
            return
    except OSError:
        pass
    shutil.copy2(source, target)
    target.chmod(target.stat().st_mode | 0o444)


def _find_library_beside(python: Path) -> None:
    """Where the executable looks for libpython by an absolute path, lets it look beside itself."""
    before = (str(Path(sys.base_prefix, "lib")) + "\0").encode()
    after = b"$ORIGIN/../lib\0"
    content = python.read_bytes()
    if before in content and len(after) <= len(before):
        python.write_bytes(content.replace(before, after.ljust(len(before), b"\0")))
        python.chmod(0o755)
