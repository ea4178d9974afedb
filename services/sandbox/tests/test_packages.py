"""Tools that packages bring: found by entry point, loaded apart, described by themselves."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from pagi_chassis.lifecycle import StartError
from pagi_sandbox.adapters.entry_point_tools import find_tools
from pagi_sandbox.adapters.fork_process import ForkServerOptions
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.bootstrap import build
from pagi_sandbox.domain.model import Limits, ToolCall, Verdict
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.settings import SandboxSettings

SHOUT = """
    from pagi_sandbox import Effects, ToolContext, ToolFailedError

    class Shout:
        name = "shout"
        description = "Say it in capital letters."
        parameters = {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        }
        effects = Effects.READ_ONLY

        def run(self, arguments, context: ToolContext):
            if not arguments["text"]:
                raise ToolFailedError("there is nothing to shout")
            return {"text": arguments["text"].upper(), "session": context.session_id}
"""


THREADS = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"


def install(site: Path, name: str, source: str, entry: str = "{module}:Shout", version: str = "1.0") -> None:
    """A distribution as pip would leave it: a module and a dist-info directory."""
    site.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(source))
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[pagi.tools]\n{name} = {entry.format(module=module)}\n")


async def started(site: Path) -> ForkRunner:
    path = (str(site),)
    runner = ForkRunner(ForkServerOptions(references=find_tools(path), path=path))
    await runner.start()
    return runner


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


async def test_an_installed_package_brings_its_tool(site: Path, tmp_path: Path) -> None:
    install(site, "shout-tool", SHOUT)
    runner = await started(site)
    try:
        [spec] = [spec for spec in runner.tools() if spec.name == "shout"]
        assert spec.origin == "shout-tool 1.0 (entry point 'shout-tool')"
        assert spec.parameters["required"] == ["text"]
        limits = Limits(5000, 256, 1000)
        outcome = await runner.run(ToolCall("shout", {"text": "hey"}, limits, tmp_path, "s-1"))
        assert json.loads(outcome.output_json) == {"text": "HEY", "session": "s-1"}
        outcome = await runner.run(ToolCall("shout", {"text": ""}, limits, tmp_path, "s-1"))
        assert (outcome.verdict, outcome.error) == (Verdict.FAILED, "there is nothing to shout")
    finally:
        await runner.stop()


@pytest.mark.parametrize(
    ("source", "entry", "reason"),
    [
        ("import does_not_exist", "{module}:Shout", "No module named 'does_not_exist'"),
        ("x = 1 / 0", "{module}:Shout", "ZeroDivisionError"),
        ("x = 1", "{module}:Shout", "has no attribute 'Shout'"),
        (SHOUT.replace('name = "shout"', 'name = "Not A Name"'), "{module}:Shout", "Not A Name"),
        (SHOUT.replace("effects = Effects.READ_ONLY", 'effects = "read_only"'), "{module}:Shout", "effects"),
        (SHOUT.replace("def run", "def walk"), "{module}:Shout", "has no 'run'"),
        (SHOUT.replace("Say it in capital letters.", ""), "{module}:Shout", "no description"),
        (THREADS + textwrap.dedent(SHOUT), "{module}:Shout", "starts threads"),
    ],
)
async def test_a_package_that_does_not_load_is_named_and_left_out(
    site: Path, source: str, entry: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "broken-tool", source, entry)
    install(site, "good-tool", SHOUT.replace('"shout"', '"good"'))
    runner = await started(site)
    await runner.stop()
    names = {spec.name for spec in runner.tools()}
    assert names >= {"good", "math", "python"}
    assert "shout" not in names
    assert "broken-tool 1.0" in caplog.text
    assert reason in caplog.text


async def test_a_package_that_ends_the_process_stops_the_start(site: Path) -> None:
    install(site, "killer-tool", "import os\nos._exit(1)")
    with pytest.raises(StartError, match="ended while it loaded the tools"):
        await started(site)


async def test_two_packages_with_one_name_stop_the_start(site: Path, tmp_path: Path) -> None:
    install(site, "first-tool", SHOUT)
    install(site, "second-tool", SHOUT)
    settings = SandboxSettings(
        SANDBOX_PORT=0,
        SANDBOX_GRPC_PORT=0,
        sandbox_workspaces_dir=tmp_path / "w",
        sandbox_db_path=tmp_path / "db",
        sandbox_tools_path=(str(site),),
        _env_file=None,
    )
    components = await build(settings)
    registration = next(one for one in components if type(one).__name__ == "_Registration")
    before = components[: components.index(registration)]
    for component in before:
        await component.start()
    try:
        with pytest.raises(StartError, match=r"named 'shout': one from first-tool .* one from second-tool"):
            await registration.start()
    finally:
        for component in reversed(before):
            await component.stop()


async def test_a_broken_schema_costs_only_that_tool(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(site, "odd-tool", SHOUT.replace('"type": "object"', '"type": "objekt"'))
    runner = await started(site)
    await runner.stop()
    registry = ToolRegistry()
    registry.add_all([runner], JsonSchemaArguments())
    assert "shout" not in {spec.name for spec in registry.specs()}
    assert "odd-tool 1.0" in caplog.text


def test_a_package_that_shadows_an_installed_one_is_found_once(site: Path, tmp_path: Path) -> None:
    install(site, "shout-tool", SHOUT)
    install(tmp_path / "other", "shout-tool", SHOUT, version="2.0")
    found = find_tools((str(site), str(tmp_path / "other"), str(site)))
    assert [one.origin for one in found] == ["shout-tool 1.0 (entry point 'shout-tool')"]
