"""Profiles: how much has to stand between a tool and the machine, and what is missing where it does not."""

from __future__ import annotations

from pagi_sandbox.domain.errors import IsolationError
from pagi_sandbox.domain.model import Isolation, ToolSpec
from pagi_sandbox.domain.tool import PROFILES

# Which layers make a profile, beside those of the lower ones.
_LAYERS = {"L1": ("landlock", "seccomp"), "L2": ("namespaces",), "L3": ("cgroups",)}


def check_isolation(spec: ToolSpec, isolation: Isolation, minimum: str) -> None:
    """Lets a tool pass that has what it needs.

    Args:
        spec: the tool, with the least profile that it asks for.
        isolation: what there is.
        minimum: what the operator asks for, for every tool.

    Raises:
        IsolationError: names the missing layer and how to get it.
    """
    needed = max(spec.minimum_profile, minimum)
    if isolation.profile >= needed:
        return
    wanted = [name for profile in PROFILES[1 : PROFILES.index(needed) + 1] for name in _LAYERS[profile]]
    missing = [f"{one.name} ({one.detail})" for one in isolation.layers if one.name in wanted and not one.active]
    raise IsolationError(spec.name, needed, isolation.profile, "; ".join(missing) or "see GetIsolation")
