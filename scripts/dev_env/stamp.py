"""Remembers what the virtual environment was made from, so that an unchanged one is left alone at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PROFILES: dict[str, tuple[str, ...]] = {
    "run": ("build", "run"),
    "dev": ("build", "run", "dev"),
}
"""The locks that each profile installs, in order; `dev` holds all of `run`."""

_NAME = "pagi-setup.json"


def inputs_digest(root: Path, profile: str) -> str:
    """sha256 over the profile's locks and the local `pyproject.toml` files."""
    digest = hashlib.sha256()
    locks = [root / "requirements" / f"{name}.txt" for name in PROFILES[profile]]
    for path in [*locks, *sorted(root.glob("proto/pyproject.toml")), *sorted(root.glob("services/*/pyproject.toml"))]:
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def is_current(root: Path, venv: Path, profile: str) -> bool:
    """Whether the environment was set up for this profile from what lies there now."""
    stamps = _read(venv)
    fresh = stamps.get(profile) == inputs_digest(root, profile)
    return fresh and stamps.get("root") == str(root) and (venv / "bin" / "python").exists()


def write(root: Path, venv: Path, profile: str) -> None:
    """Records that the profile, and every profile that it holds, is set up."""
    held = [name for name, locks in PROFILES.items() if set(locks) <= set(PROFILES[profile])]
    stamps = _read(venv) | {name: inputs_digest(root, name) for name in held} | {"root": str(root)}
    (venv / _NAME).write_text(json.dumps(stamps, indent=1, sort_keys=True), encoding="utf-8")


def belongs_elsewhere(root: Path, venv: Path) -> bool:
    """Whether the environment was made for another place: its programs name the old one, as after a move or a copy."""
    return _read(venv).get("root", str(root)) != str(root)


def forget(root: Path, venv: Path) -> None:
    """Makes the next set-up do its work: called before anything is changed, so that a broken one is not believed."""
    if _read(venv):
        (venv / _NAME).write_text(json.dumps({"root": str(root)}), encoding="utf-8")


def _read(venv: Path) -> dict[str, str]:
    try:
        stamps = json.loads((venv / _NAME).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return stamps if isinstance(stamps, dict) else {}
