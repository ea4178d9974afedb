"""What a tool says of itself, checked."""

from __future__ import annotations

import json
import re

from pagi_sandbox.domain.model import ToolSpec
from pagi_sandbox.domain.tool import PROFILES, Describes, Effects, Permission

BUILT_IN = "pagi-sandbox"
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")


def describe(tool: Describes, origin: str, *, version: str = "1") -> ToolSpec:
    """The tool as ListTools shows it.

    Args:
        tool: the tool; a package's may be anything.
        origin: where it comes from, for people.
        version: where it does not say its own.

    Raises:
        TypeError: it lacks something that a tool needs, or has it in another type.
        ValueError: what it says of itself is not allowed.
    """
    for attribute in ("name", "description", "parameters", "effects", "run"):
        if not hasattr(tool, attribute):
            raise TypeError(f"{type(tool).__name__} has no {attribute!r}, which a tool needs")
    if not isinstance(tool.name, str) or not _NAME.fullmatch(tool.name):
        raise ValueError(f'a tool\'s name is lower case letters, digits, "_" and ".", at most 64: {tool.name!r}')
    if not isinstance(tool.description, str) or not tool.description.strip():
        raise ValueError(f"tool {tool.name!r} has no description")
    if not isinstance(tool.effects, Effects):
        raise TypeError(f"tool {tool.name!r}: effects is {tool.effects!r}, not one of pagi_sandbox.Effects")
    if not callable(tool.run):  # type: ignore[attr-defined] # seen above
        raise TypeError(f"tool {tool.name!r}: run cannot be called")
    return ToolSpec(
        name=tool.name,
        description=tool.description,
        parameters=json.loads(json.dumps(dict(tool.parameters))),
        effects=tool.effects,
        origin=origin,
        permissions=_permissions(tool),
        requires_approval=_approval(tool),
        minimum_profile=_profile(tool),
        version=str(getattr(tool, "version", version)),
        # Only of our own code is it known that it runs nobody else's.
        pure=origin == BUILT_IN and bool(getattr(tool, "pure", False)),
    )


def _permissions(tool: Describes) -> tuple[str, ...]:
    permissions = tuple(getattr(tool, "permissions", ()))
    for one in permissions:
        if not isinstance(one, Permission):
            raise TypeError(f"tool {tool.name!r}: permissions holds {one!r}, not one of pagi_sandbox.Permission")
    return tuple(one.value for one in permissions)


def _approval(tool: Describes) -> bool:
    asked = getattr(tool, "requires_approval", False)
    if not isinstance(asked, bool):
        raise TypeError(f"tool {tool.name!r}: requires_approval is {asked!r}, not True or False")
    return asked


def _profile(tool: Describes) -> str:
    profile = getattr(tool, "minimum_profile", "L1")
    if profile not in PROFILES:
        raise ValueError(f"tool {tool.name!r}: minimum_profile is {profile!r}, not one of {', '.join(PROFILES)}")
    return str(profile)
