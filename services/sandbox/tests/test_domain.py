"""Registry, limits, session ids, admission and workspaces, with fakes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pagi_chassis.errors import UnavailableError
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.jsonschema_arguments import JsonSchemaArguments
from pagi_sandbox.domain.admission import Admission
from pagi_sandbox.domain.disk import DiskGuard, DiskPolicy
from pagi_sandbox.domain.errors import (
    ArgumentsError,
    DuplicateToolError,
    LimitError,
    SchemaError,
    SessionIdError,
    TooManyCallsError,
    UnknownToolError,
)
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.limits import LimitPolicy
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, ToolRequest, ToolSpec, Verdict
from pagi_sandbox.domain.once import OnceByEffect
from pagi_sandbox.domain.ports import CallWatcher
from pagi_sandbox.domain.registry import ToolRegistry
from pagi_sandbox.domain.session import check_session_id
from pagi_sandbox.domain.tool import Effects
from pagi_sandbox.domain.tools import BuiltInOptions, built_in
from pagi_sandbox.testing import (
    AnyArguments,
    InMemoryLedger,
    InProcessRunner,
    OneWorkspace,
    RecordingMeter,
    ScriptedCensus,
    ScriptedRunner,
    StatedIsolation,
)

POLICY = LimitPolicy(
    default=Limits(1000, 256, 5000, cpu_ms=1500, disk_mb=20, processes=10),
    maximum=Limits(2000, 512, 9000, cpu_ms=3000, disk_mb=40, processes=30),
)


def make(tmp_path: Path, *runners: ScriptedRunner | InProcessRunner, admission: Admission | None = None) -> Sandbox:
    sandbox = Sandbox(
        runners=runners,
        schemas=AnyArguments(),
        limits=POLICY,
        workspaces=OneWorkspace(tmp_path),
        admission=admission or Admission(4, 4),
        meter=RecordingMeter(),
        registry=ToolRegistry(),
        once=OnceByEffect(InMemoryLedger()),
        disk=DiskGuard(DiskPolicy(2**30), ScriptedCensus()),
        isolates=StatedIsolation(),
    )
    sandbox.register()
    return sandbox


def spec(name: str, origin: str = "a package", **parameters: object) -> ToolSpec:
    return ToolSpec(name, "does it", {"type": "object", **parameters}, Effects.READ_ONLY, origin)


async def test_a_workspace_is_at_work_as_long_as_a_call_is(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Looking(ScriptedRunner):
        async def run(self, call: ToolCall, watcher: CallWatcher | None = None) -> ToolOutcome:
            seen.append(sandbox.is_at_work(call.workspace))
            return await super().run(call, watcher)

    sandbox = make(tmp_path, Looking("echo", [ToolOutcome(Verdict.OK, "{}"), UnavailableError("gone")]))
    await sandbox.execute(ToolRequest("echo", "{}", "s", tenant="t"))
    with pytest.raises(UnavailableError):
        await sandbox.execute(ToolRequest("echo", "{}", "s", tenant="t"))
    assert (seen, sandbox.is_at_work(tmp_path / "t-s")) == ([True, True], False)


async def test_a_call_gets_defaults_workspace_and_identity(tmp_path: Path) -> None:
    runner = ScriptedRunner("echo", [ToolOutcome(Verdict.OK, "{}")])
    sandbox = make(tmp_path, runner)
    request = ToolRequest("echo", '{"a": 1}', "s", effect_id="run/1/0", tenant="t", trace_id="x")
    assert (await sandbox.execute(request)).verdict is Verdict.OK
    [call] = runner.calls
    assert call.limits == POLICY.default
    assert (call.arguments, call.workspace, call.effect_id) == ({"a": 1}, tmp_path / "t-s", "run/1/0")
    assert (call.tenant, call.trace_id, call.session_id) == ("t", "x", "s")


async def test_what_the_service_leaves_in_a_workspace_is_not_held_against_the_next_call(tmp_path: Path) -> None:
    class Told(ScriptedRunner):
        def tools(self) -> list[ToolSpec]:
            return [
                ToolSpec("inside", "d", {"type": "object"}, Effects.EFFECTFUL, permissions=("service",)),
                ToolSpec("writes", "d", {"type": "object"}, Effects.EFFECTFUL),
            ]

    sandbox = make(tmp_path, Told("t", [ToolOutcome(Verdict.OK)] * 4))
    census = ScriptedCensus()
    sandbox.disk = DiskGuard(DiskPolicy(2**30), census)
    taken = []
    for tool in ("writes", "writes", "inside", "writes"):
        await sandbox.execute(ToolRequest(tool, "", "s"))
        taken.append(census.taken)
    assert taken == [2, 3, 3, 5]


async def test_every_end_is_metered(tmp_path: Path) -> None:
    runner = ScriptedRunner("echo", [ToolOutcome(Verdict.TIMEOUT), UnavailableError("away"), ToolOutcome(Verdict.OK)])
    sandbox = make(tmp_path, runner)
    for expected in ("timeout", "error", "ok"):
        try:
            await sandbox.execute(ToolRequest("echo", "", "s"))
        except UnavailableError:
            assert expected == "error"
        assert isinstance(sandbox.meter, RecordingMeter)
        assert sandbox.meter.verdicts[-1] == ("echo", expected)
    assert sandbox.meter.running == 0


async def test_an_unknown_tool_names_its_neighbours(tmp_path: Path) -> None:
    sandbox = make(tmp_path, InProcessRunner(built_in(BuiltInOptions())))
    with pytest.raises(UnknownToolError, match=r"no tool 'maths'; did you mean math\?"):
        await sandbox.execute(ToolRequest("maths", "{}", "s"))
    with pytest.raises(UnknownToolError, match="ListTools"):
        await sandbox.execute(ToolRequest("q" * 5000, "{}", "s"))


def test_two_tools_of_one_name_are_refused_with_both_origins() -> None:
    registry = ToolRegistry()
    registry.add(spec("twin", "alpha 1.0"), AnyArguments(), ScriptedRunner("twin", []))
    with pytest.raises(DuplicateToolError, match=r"'twin': one from alpha 1\.0, one from beta 2\.0"):
        registry.add(spec("twin", "beta 2.0"), AnyArguments(), ScriptedRunner("twin", []))


def test_a_tool_with_a_broken_schema_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ScriptedRunner):
        def tools(self) -> list[ToolSpec]:
            return [spec("good"), ToolSpec("bad", "d", {"type": "objekt"}, Effects.READ_ONLY, "broken 1.0")]

    registry = ToolRegistry()
    left_out = registry.add_all([Broken("good", [])], JsonSchemaArguments())
    assert [tool.name for tool in registry.specs()] == ["good"]
    assert [one.origin for one in left_out] == ["broken 1.0"]
    assert "'bad' from broken 1.0 is left out" in caplog.text


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Limits(timeout_ms=2001), "limits.timeout_ms"),
        (Limits(memory_mb=513), "limits.memory_mb"),
        (Limits(output_bytes=9001), "limits.output_bytes"),
        (Limits(cpu_ms=3001), "limits.cpu_ms"),
        (Limits(disk_mb=41), "limits.disk_mb"),
        (Limits(processes=31), "limits.processes"),
        (Limits(processes=-1), "limits.processes"),
        (Limits(timeout_ms=-1), "limits.timeout_ms"),
        (Limits(memory_mb=1), "limits.memory_mb"),
        (Limits(output_bytes=-5), "limits.output_bytes"),
    ],
)
def test_a_limit_that_is_not_allowed_names_its_field(asked: Limits, field: str) -> None:
    with pytest.raises(LimitError, match="allowed are") as caught:
        POLICY.resolve(asked)
    assert caught.value.field == field


def test_what_is_not_asked_for_is_the_default() -> None:
    assert POLICY.resolve(Limits(memory_mb=300)) == Limits(1000, 300, 5000, 1500, 20, 10)


def test_a_longer_call_may_use_the_processor_as_long() -> None:
    assert POLICY.resolve(Limits(timeout_ms=2000)).cpu_ms == 2000
    assert POLICY.resolve(Limits(timeout_ms=2000, cpu_ms=100)).cpu_ms == 100
    assert LimitPolicy(POLICY.default, replace(POLICY.maximum, cpu_ms=1700)).resolve(Limits(2000)).cpu_ms == 1700


@pytest.mark.parametrize("session_id", ["", ".", "..", "a/b", "a\\b", "a\0b", "a\nb", "x" * 201, "\x7f", "\ud800"])
def test_a_session_id_that_could_be_a_path_is_refused(session_id: str) -> None:
    with pytest.raises(SessionIdError) as caught:
        check_session_id(session_id)
    assert caught.value.field == "session_id"
    caught.value.message.encode("utf-8")


@pytest.mark.parametrize("session_id", ["demo", "x" * 200, "...", "größe 1", "a:b|c*?", "~", "日本" * 100])
def test_any_other_session_id_is_a_directory_of_its_own(session_id: str, tmp_path: Path) -> None:
    check_session_id(session_id)
    path = DirectoryWorkspaces(tmp_path).directory("", session_id)
    assert path.is_dir()
    assert path.parent.parent == tmp_path
    assert path.stat().st_mode & 0o777 == 0o700


def test_no_two_sessions_or_tenants_share_a_directory(tmp_path: Path) -> None:
    workspaces = DirectoryWorkspaces(tmp_path)
    names = ["a", "A", "%41", "t-", "a.b", "a%2Eb", "日本" * 100, "日本" * 99 + "日木", "_", "-", "x" * 200, "X" * 200]
    pairs = [(tenant, session) for tenant in ["", *names] for session in names]
    paths = [workspaces.directory(*pair) for pair in pairs]
    assert len({str(path).lower() for path in paths}) == len(pairs)
    assert all(path.resolve().parent.parent == tmp_path.resolve() for path in paths)


@pytest.mark.parametrize(
    ("arguments", "field", "complaint"),
    [
        ("{", "arguments_json", "no JSON"),
        ("[1]", "arguments_json", "not an array"),
        ("null", "arguments_json", "not null"),
        ('"x"', "arguments_json", "not a text"),
        ("{}", "arguments_json", '"code" is a required property'),
        ('{"code": 3}', "arguments_json.code", "at $.code"),
        ('{"code": "x", "items": [{"n": "y"}]}', "arguments_json.items[0].n", "at $.items[0].n"),
        ('{"code": "x", "odd key": 1}', "arguments_json", "odd key"),
        ('{"code": "x", "odd \\"key": 1}', "arguments_json", "odd"),
        ('{"code": NaN}', "arguments_json", "NaN"),
        ("[" * 100_000, "arguments_json", "deeply"),
        ('{"code": ' + "9" * 5000 + "}", "arguments_json", "no JSON"),
        ('{"code": "\\ud800"}', "arguments_json", "surrogate"),
        ('{"code": "' + "x" * 100_000 + '"}', "arguments_json.code", "longer than"),
    ],
)
def test_wrong_arguments_name_the_path(arguments: str, field: str, complaint: str) -> None:
    items = {"type": "array", "items": {"properties": {"n": {"type": "integer"}}}}
    check = JsonSchemaArguments().compile(
        spec(
            "t",
            properties={"code": {"type": "string", "maxLength": 10, "pattern": "."}, "items": items},
            required=["code"],
            additionalProperties=False,
        )
    )
    with pytest.raises(ArgumentsError) as caught:
        check.parse(arguments)
    assert caught.value.field == field
    assert complaint in caught.value.message
    assert len(caught.value.message) < 500


def test_a_schema_cannot_make_the_service_fetch() -> None:
    with pytest.raises(SchemaError):
        JsonSchemaArguments().compile(spec("t", properties={"x": {"$ref": "http://127.0.0.1:9/schema.json"}}))


def doubling(levels: int) -> dict[str, Any]:
    """A schema of which each part refers twice to the next."""
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"type": "object", "$ref": "#/$defs/a0", "$defs": {**twice, f"a{levels}": {}}}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(60),
        doubling(5_000),
        {"allOf": [{"$ref": f"#name{n}"} for n in range(17)]},
        {"$defs": {"moved": {"$id": "elsewhere", **doubling(60)}}, "$ref": "#/$defs/moved"},
    ],
)
def test_a_schema_cannot_keep_the_service_busy(schema: dict[str, Any]) -> None:
    began = time.perf_counter()
    with pytest.raises(SchemaError):
        JsonSchemaArguments().compile(replace(spec("t"), parameters=schema))
    assert time.perf_counter() - began < 0.5


def test_a_schema_may_refer_to_itself_and_to_much() -> None:
    node = {"$ref": "#/$defs/~0%20x"}
    branch = {"type": "object", "properties": {"left": node, "right": node}}
    tree = {"type": "object", "properties": {"$ref": branch, "tree": node}, "$defs": {"~ x": branch}}
    for schema in (tree, doubling(8), {"type": "object", "properties": {"again": {"$ref": "#"}}}):
        check = JsonSchemaArguments().compile(replace(spec("t"), parameters=schema))
        assert check.parse('{"tree": {"left": {"right": {}}}, "again": {"again": {}}}')
    with pytest.raises(ArgumentsError):
        JsonSchemaArguments().compile(replace(spec("t"), parameters=tree)).parse('{"tree": {"left": 1}}')


async def test_more_calls_than_places_wait_and_more_than_that_are_refused() -> None:
    admission = Admission(running=1, waiting=1)
    order = []
    go = asyncio.Event()

    async def one(name: str) -> None:
        async with admission.place():
            order.append(name)
            await go.wait()

    first, second = asyncio.create_task(one("first")), asyncio.create_task(one("second"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["first"]
    with pytest.raises(TooManyCallsError, match="1 tool calls run and 1 wait") as caught:
        await one("third")
    assert caught.value.retry_after_s > 0
    second.cancel()
    await asyncio.wait({second})
    fourth = asyncio.create_task(one("fourth"))
    go.set()
    await asyncio.gather(first, fourth)
    assert order == ["first", "fourth"]
