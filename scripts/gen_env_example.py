#!/usr/bin/env python3
"""Writes .env.example from the settings classes of the services; `--check` says whether it is fresh."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev_env.interpreter import use_venv

use_venv()

from pagi_chassis.settings import ServiceSettings, variables_of
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".env.example"
SERVICES = {
    "agent-planner": "pagi_planner.settings:PlannerSettings",
    "model-gateway": "pagi_gateway.settings:GatewaySettings",
    "memory": "pagi_memory.settings:MemorySettings",
    "sandbox": "pagi_sandbox.settings:SandboxSettings",
    "notification-subscriber": "pagi_notifier.settings:NotifierSettings",
}
HEADER = """\
# Every variable that PAGI Mesh reads, with its default. All are optional: copy this file to .env and take the
# "#" away before what you change. The environment goes before .env; an empty value counts as unset.
# Made by `make env` from the services' settings; do not edit.
"""


@dataclass(frozen=True)
class Variable:
    """One variable as it stands in the file."""

    name: str
    aliases: tuple[str, ...]
    default: str
    description: str

    def render(self) -> str:
        """A wrapped comment and the assignment, commented out."""
        text = self.description + (f" Also read as {', '.join(self.aliases)}." if self.aliases else "")
        comment = textwrap.fill(text, width=110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        return f"{comment}\n#{self.name}={self.default}"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 where the file is stale")
    options = parser.parse_args(arguments)
    text = render({service: _settings_class(place) for service, place in SERVICES.items()})
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(".env.example is stale. Run: make env", file=sys.stderr)
    return 1


def render(services: dict[str, type[ServiceSettings]]) -> str:
    """The text of the file: what all services read, what several read, then a section for each.

    Raises:
        ValueError: Two services give one variable different defaults.
    """
    own = {service: _variables(settings) for service, settings in services.items()}
    users = Counter(variable.name for variables in own.values() for variable in variables)
    several: dict[str, Variable] = {}
    for service, variables in own.items():
        for variable in variables:
            first = several.setdefault(variable.name, variable) if users[variable.name] > 1 else variable
            if first.default != variable.default:
                raise ValueError(
                    f"{variable.name}: {service} has the default {variable.default!r}, not {first.default!r}"
                )
    sections = [("all services", _common()), ("several services", list(several.values()))]
    sections += [(name, [one for one in variables if one.name not in several]) for name, variables in own.items()]
    return HEADER + "".join(_section(title, variables) for title, variables in sections if variables)


def _section(title: str, variables: Iterable[Variable]) -> str:
    rule = "-" * (106 - len(title))
    return f"\n# {title} {rule}\n\n" + "\n\n".join(variable.render() for variable in variables) + "\n"


def _common() -> list[Variable]:
    return [_variable(ServiceSettings, name, field) for name, field in ServiceSettings.model_fields.items()]


def _variables(settings: type[ServiceSettings]) -> list[Variable]:
    fields = settings.model_fields.items()
    return [_variable(settings, name, field) for name, field in fields if name not in ServiceSettings.model_fields]


def _variable(settings: type[ServiceSettings], name: str, field: FieldInfo) -> Variable:
    first, *others = variables_of(settings, name)
    return Variable(first, tuple(others), _shown(field.default), field.description or "")


def _shown(default: Any) -> str:
    """A default as it would be written; nothing where there is none, or where it is made at the start."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str | int | float | Path):
        return str(default)
    if isinstance(default, list | tuple | set | frozenset | dict) and default:
        return json.dumps(default if isinstance(default, dict) else sorted(default))
    return ""


def _settings_class(place: str) -> type[ServiceSettings]:
    module, _, name = place.partition(":")
    found: type[ServiceSettings] = getattr(importlib.import_module(module), name)
    return found


if __name__ == "__main__":
    sys.exit(main())
