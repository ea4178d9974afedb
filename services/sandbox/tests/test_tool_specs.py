"""What tools say of themselves, from the class to the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pagi_chassis.settings import load
from pagi_sandbox import Effects, Permission
from pagi_sandbox.convert import spec_to_proto
from pagi_sandbox.domain.describing import describe
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.tools import BuiltInOptions, built_in
from pagi_sandbox.settings import SandboxSettings
from pagi_sandbox.testing import AnyArguments, InProcessRunner


class Plain:
    name = "plain"
    description = "Does nothing."
    parameters: Mapping[str, Any] = {"type": "object"}
    effects = Effects.READ_ONLY

    def run(self, arguments: Any, context: Any) -> Any:
        return {}


def test_a_tool_that_says_little_gets_careful_defaults() -> None:
    spec = describe(Plain(), "somewhere", version="2.1")
    assert (spec.permissions, spec.requires_approval, spec.minimum_profile) == ((), False, "L1")
    assert (spec.version, spec.origin) == ("2.1", "somewhere")


def test_all_that_a_tool_says_reaches_the_wire() -> None:
    class Full(Plain):
        permissions = (Permission.NETWORK, Permission.WORKSPACE_READ)
        requires_approval = True
        minimum_profile = "L2"
        version = "7"

    tool = spec_to_proto(describe(Full(), "x"))
    assert list(tool.permissions) == ["network", "workspace-read"]
    assert (tool.requires_approval, tool.minimum_profile, tool.version) == (True, "L2", "7")


@pytest.mark.parametrize(
    ("attribute", "value", "complaint"),
    [
        ("permissions", ("network",), "not one of pagi_sandbox.Permission"),
        ("requires_approval", "no", "not True or False"),
        ("minimum_profile", "L9", "not one of L0, L1, L2, L3"),
    ],
)
def test_what_it_says_wrongly_is_named(attribute: str, value: object, complaint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        describe(type("Wrong", (Plain,), {attribute: value})(), "x")


@pytest.mark.parametrize(
    ("patterns", "asked"),
    [("", set()), ("shell", {"shell"}), (" python , *d_file,", {"python", "read_file"})],
)
def test_the_operator_may_ask_for_approval(monkeypatch: pytest.MonkeyPatch, patterns: str, asked: set[str]) -> None:
    monkeypatch.setenv("SANDBOX_APPROVAL_TOOLS", patterns)
    registry = ToolRegistry(approval=load(SandboxSettings).sandbox_approval_tools)
    registry.add_all([InProcessRunner(built_in(BuiltInOptions(shell=True)))], AnyArguments())
    assert {spec.name for spec in registry.specs() if spec.requires_approval} == asked
