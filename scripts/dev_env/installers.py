"""Installs into the virtual environment: through uv, which is fast, or through plain pip."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]


class InstallError(Exception):
    """Something could not be installed; the text says what the installer said."""


@dataclass(frozen=True)
class Installer:
    """One way to install.

    Attributes:
        name: What people know it by.
        command: How it starts, up to and including "install".
        environment: Variables that it gets in addition to ours.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]

    def install_locked(self, locks: Sequence[Path]) -> None:
        """Installs lock files; every file that is fetched must have a hash that a lock names."""
        self._run(["--require-hashes", *(part for lock in locks for part in ("-r", str(lock)))])

    def install_editable(self, folders: Sequence[Path]) -> None:
        """Installs local distributions in place: no dependencies (the locks brought them), nothing fetched."""
        places = [part for folder in folders for part in ("--editable", str(folder))]
        self._run(["--no-deps", "--no-build-isolation", *places])

    def _run(self, arguments: Sequence[str]) -> None:
        done = subprocess.run(
            [*self.command, *arguments],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InstallError(f"{self.name} failed:\n{_last_lines(done.stdout)}")


def pip(venv: Path) -> Installer:
    """The pip of the environment; it reads the user's own pip configuration by itself."""
    command = (str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    return Installer("pip", (*command, "--no-input"), {})


def find_uv(venv: Path, uv_lock: Path, say: Say) -> Installer | None:
    """Finds uv in the environment or on PATH; where there is none, the pinned one is put into the environment.

    Returns:
        None where uv cannot be had, which is no reason to stop: pip does the same, only slower.
    """
    for candidate in (venv / "bin" / "uv", shutil.which("uv")):
        if candidate and Path(candidate).is_file():
            return uv(venv, Path(candidate))
    try:
        pip(venv).install_locked([uv_lock])
    except InstallError as error:
        say(f"uv is not to be had, going on with pip. {error}")
        return None
    return uv(venv, venv / "bin" / "uv")


def uv(venv: Path, program: Path) -> Installer:
    """A given uv, told of the package index that pip is configured for unless it has its own configuration."""
    command = (str(program), "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"))
    # Without it uv warns wherever its cache lies on another file system than the environment.
    environment = {"UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "copy" if _cache_elsewhere(venv) else "hardlink")}
    if not any(name in os.environ for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_CONFIG_FILE")):
        environment |= _index_of_pip(venv)
    return Installer("uv", command, environment)


def _index_of_pip(venv: Path) -> dict[str, str]:
    """What uv must be told so that it asks the index that pip would ask."""
    translated = {}
    for key, variable in (("global.index-url", "UV_DEFAULT_INDEX"), ("global.cert", "SSL_CERT_FILE")):
        name = f"PIP_{key.removeprefix('global.').replace('-', '_').upper()}"
        value = os.environ.get(name) or _pip_config(venv, key)
        if value and variable not in os.environ:
            translated[variable] = value
    return translated


def _pip_config(venv: Path, key: str) -> str:
    command = [str(venv / "bin" / "python"), "-m", "pip", "config", "get", key]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _cache_elsewhere(venv: Path) -> bool:
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache")
    while not cache.exists():
        cache = cache.parent
    return cache.stat().st_dev != venv.stat().st_dev


def _last_lines(output: str, count: int = 15) -> str:
    return "\n".join(f"  {line}" for line in output.strip().splitlines()[-count:])
