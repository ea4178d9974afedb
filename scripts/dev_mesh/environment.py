"""The variables that the services will see: the environment, then `.env`; read here to learn ports and addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from dev_mesh.errors import MeshError

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")


class Environment:
    """Variables by name; an empty one counts as unset, as it does for the services.

    Args:
        inherited: The variables of this process.
        from_file: Those of `.env`; the inherited ones go first.
    """

    def __init__(self, inherited: Mapping[str, str], from_file: Mapping[str, str] | None = None) -> None:
        self._inherited = dict(inherited)
        filled = {name: value for name, value in (from_file or {}).items() if value}
        self._values = filled | {name: value for name, value in inherited.items() if value}
        self._derived: dict[str, str] = {}

    def get(self, *names: str, default: str = "") -> str:
        """The value of the first variable that is set."""
        return next((self._values[name] for name in names if name in self._values), default)

    def port(self, *names: str, default: int) -> int:
        """A port number.

        Raises:
            MeshError: The variable holds something else; the text names it.
        """
        for name in names:
            if value := self._values.get(name):
                if value.isdigit() and 0 < int(value) < 65_536:
                    return int(value)
                raise MeshError(f"{name}={value}: a port is a number from 1 to 65535")
        return default

    def derive(self, names: tuple[str, ...], value: str) -> None:
        """Sets the first of the variables for the services where none of them is set."""
        if not self.get(*names):
            self._derived[names[0]] = value

    def override(self, values: Mapping[str, str]) -> None:
        """Sets variables for the services whatever the environment says."""
        self._derived.update(values)

    def for_process(self) -> dict[str, str]:
        """What a service is started with; it reads `.env` by itself."""
        # Unbuffered, so that the last words of a dying process are not lost.
        values = self._inherited | self._derived | {"PYTHONUNBUFFERED": "1"}
        # Compiled modules are kept whatever the shell says: without them a killed service is back half as fast.
        values.pop("PYTHONDONTWRITEBYTECODE", None)
        return values


def load_environment(root: Path) -> Environment:
    """The variables of this process and of `root/.env`."""
    path = root / ".env"
    return Environment(os.environ, parse_dotenv(path.read_text(encoding="utf-8")) if path.is_file() else {})


def parse_dotenv(text: str) -> dict[str, str]:
    """`NAME=value` lines; quotes around a value and a comment after it are taken off."""
    found = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not (match := _LINE.match(line)):
            continue
        name, value = match.groups()
        quoted = re.match(r"""(["'])(.*?)\1""", value)
        found[name] = quoted[2] if quoted else re.split(r"\s+#|^#", value)[0].strip()
    return found
