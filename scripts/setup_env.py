#!/usr/bin/env python3
"""Sets up .venv with pinned dependencies, or finds at once that there is nothing to do.

`--profile run` brings what the mesh needs, `--profile dev` the test tools as well. Needs Python 3.11 or newer
with nothing installed. PAGI_INSTALLER=pip does without uv.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python reads this far, and must be told
    sys.exit(
        "PAGI Mesh needs Python 3.11 or newer; "
        + sys.executable
        + " is "
        + sys.version.split()[0]
        + ". Install one, or name it: make PYTHON=/path/to/python3.11 ..."
    )

import argparse
import os
import shutil
import subprocess
import time
from pathlib import Path

from dev_env import stamp

ROOT = Path(__file__).resolve().parent.parent


class SetupError(Exception):
    """The environment could not be set up; the text says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=sorted(stamp.PROFILES), default="run")
    options = parser.parse_args(arguments)
    venv = ROOT / ".venv"
    if stamp.is_current(ROOT, venv, options.profile):
        return 0
    try:
        set_up(venv, options.profile)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; the next call goes on from here", file=sys.stderr)
        return 130
    return 0


def set_up(venv: Path, profile: str) -> None:
    """Brings the environment to what the locks say."""
    started = time.monotonic()
    names = stamp.PROFILES[profile]
    locks = [ROOT / "requirements" / f"{name}.txt" for name in names]
    if missing := [lock.name for lock in locks if not lock.is_file()]:
        raise SetupError(f"requirements/{missing[0]} is missing. `make lock` makes it.")
    if stamp.belongs_elsewhere(ROOT, venv) or not _works(venv):
        # Not the environment that is about to be replaced, should it be running this.
        python = getattr(sys, "_base_executable", sys.executable)
        _say(f"making .venv with {python}")
        _make_venv(venv, python)
    stamp.forget(ROOT, venv)
    _say(f"installing {_count(locks)} pinned packages for the profile {profile!r} (some minutes the first time)")
    _install(venv, locks)
    stamp.write(ROOT, venv, profile)
    _say(f"ready after {time.monotonic() - started:.0f} s")


def _works(venv: Path) -> bool:
    """Whether the environment's Python starts and is new enough; it breaks when that Python is removed."""
    probe = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([str(venv / "bin" / "python"), "-c", probe], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _make_venv(venv: Path, python: str) -> None:
    command = [python, "-m", "venv", "--clear", str(venv)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if uv := shutil.which("uv"):  # Debian's python3 lacks ensurepip; uv can do without
        command = [uv, "venv", "--quiet", "--clear", "--seed", "--python", python, str(venv)]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0:
            return
    shutil.rmtree(venv, ignore_errors=True)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise SetupError(
        f"{python} cannot make a virtual environment. On Debian and Ubuntu: apt install python{version}-venv\n"
        + (done.stdout + done.stderr).strip()
    )


def _install(venv: Path, locks: list[Path]) -> None:
    # Late: this is not needed where nothing is to be done.
    from dev_env import installers
    from dev_env.distributions import pyprojects

    folders = [path.parent for path in pyprojects(ROOT)]
    chosen = os.environ.get("PAGI_INSTALLER", "uv")
    if chosen not in {"uv", "pip"}:
        raise SetupError(f"PAGI_INSTALLER={chosen}: it may be uv or pip")
    found = installers.find_uv(venv, ROOT / "requirements" / "uv.txt", _say) if chosen == "uv" else None
    installer = found or installers.pip(venv)
    try:
        try:
            installer.install_locked(locks)
        except installers.InstallError as error:
            if found is None:
                raise
            _say(f"{error}\ntrying once more with pip")
            installer = installers.pip(venv)
            installer.install_locked(locks)
    except installers.InstallError as error:
        raise SetupError(
            f"{error}\nIs the package index within reach? Behind a proxy or with a mirror, configure pip or uv"
            " as usual (HTTPS_PROXY, pip.conf, UV_DEFAULT_INDEX); both are honoured."
        ) from None
    try:
        installer.install_editable(folders)
    except installers.InstallError as error:
        raise SetupError(f"{error}\nOne of {', '.join(str(one.relative_to(ROOT)) for one in folders)}.") from None


def _count(locks: list[Path]) -> int:
    lines = {
        line.split("==")[0] for lock in locks for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line
    }
    return len(lines)


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
