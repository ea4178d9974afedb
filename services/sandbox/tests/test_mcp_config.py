"""The file of MCP servers: what is taken, and how each fault is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pagi_sandbox.adapters.mcp_config import read_servers
from pagi_sandbox.domain.mcp import McpServer, ServerJail, ServerPlace
from pagi_sandbox.settings import SandboxSettings
from pydantic import ValidationError


def servers(tmp_path: Path, content: Any) -> list[McpServer]:
    path = tmp_path / "mcp.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_servers(path)


def test_both_kinds_are_read(tmp_path: Path) -> None:
    found = servers(
        tmp_path,
        {
            "mcpServers": {
                "My-Files": {
                    "command": "npx",
                    "args": ["-y", "files"],
                    "env": {"KEY": "v"},
                    "cwd": str(tmp_path),
                    "jail": {"network": False, "read": ["/srv"], "write": ["/srv/out"], "memory_mb": 64, "disk_mb": 9},
                    "requires_approval": ["write_*", "Delete"],
                    "alwaysAllow": ["other clients' fields are passed over"],
                },
                "web": {"type": "streamable-http", "url": "https://x.example/mcp", "headers": {"Authorization": "B"}},
                "off": {"command": "x", "disabled": True},
            }
        },
    )
    files = McpServer("my_files", "npx", ("-y", "files"), {"KEY": "v"}, str(tmp_path))
    jail = ServerJail(network=False, read=("/srv",), write=("/srv/out",), memory_mb=64, disk_mb=9)
    assert [server.name for server in found] == ["my_files", "web"]
    assert (found[0].command, found[0].args, found[0].env, found[0].cwd) == (
        files.command,
        files.args,
        files.env,
        files.cwd,
    )
    assert (found[0].jail, found[0].approval) == (jail, ("write_*", "Delete"))
    assert (found[1].url, found[1].headers) == ("https://x.example/mcp", {"Authorization": "B"})


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ([], "mcpServers.bad is left out: an object is needed"),
        ({}, 'either "command" or "url" is needed'),
        ({"command": "x", "url": "http://x"}, 'either "command" or "url"'),
        ({"command": 5}, "mcpServers.bad is left out: command: str is needed, not int"),
        ({"command": "x", "args": "y"}, "args: list is needed"),
        ({"command": "x", "args": ["a", 5]}, "args[1]: str is needed"),
        ({"command": "x", "args": [None]}, "args[0]: str is needed"),
        ({"command": "x", "args": ["a\0"]}, "args[0]: it holds a NUL"),
        ({"command": "x", "env": {"A": 1}}, "env.A: str is needed"),
        ({"command": "x", "env": {"A=B": "1"}}, "env.A=B: that is no name"),
        ({"command": "x", "cwd": "relative"}, "cwd: 'relative' is no absolute path"),
        ({"command": "x", "cwd": "/no/such/dir"}, "cwd: '/no/such/dir'"),
        ({"type": "sse", "url": "http://x"}, "type: 'sse' is not supported"),
        ({"type": "http", "command": "x"}, "url: either"),
        ({"url": "ftp://x"}, "url: it has to begin with http"),
        ({"url": "http://x", "headers": {"A": None}}, "headers.A: str is needed"),
        ({"command": "x", "jail": {"netwrk": True}}, "jail.netwrk: unknown"),
        ({"command": "x", "jail": {"network": "yes"}}, "jail.network: bool is needed"),
        ({"command": "x", "jail": {"read": ["a"]}}, "jail.read[0]: 'a' is no absolute path"),
        ({"command": "x", "jail": {"memory_mb": True}}, "jail.memory_mb: int is needed"),
        ({"command": "x", "jail": {"memory_mb": 1}}, "jail.memory_mb: 1 is not 32"),
        ({"command": "x", "jail": {"disk_mb": 0}}, "jail.disk_mb: 0 is not 1 to"),
        ({"command": "x", "requires_approval": "all"}, "requires_approval: true, false or a list of names is needed"),
        ({"command": "x", "requires_approval": ["a", 5]}, "requires_approval[1]: str is needed"),
    ],
)
def test_a_fault_costs_its_server_only_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, entry: Any, complaint: str
) -> None:
    found = servers(tmp_path, {"mcpServers": {"bad": entry, "good": {"command": "x"}}})
    assert [server.name for server in found] == ["good"]
    [record] = caplog.records
    assert str(tmp_path / "mcp.json") in record.getMessage()
    assert complaint in record.getMessage()


@pytest.mark.parametrize("name", ["", "1st", "x" * 33, "ä"])
def test_a_name_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    assert servers(tmp_path, {"mcpServers": {name: {"command": "x"}}}) == []
    assert "its name has to begin with a letter" in caplog.text


def test_two_names_that_fall_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = servers(tmp_path, {"mcpServers": {"a-b": {"command": "x"}, "A_B": {"command": "y"}}})
    assert [server.command for server in found] == ["x"]
    assert "another server is named 'a_b' too" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"mcpServers": []}',
        "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    assert servers(tmp_path, content) == []
    assert "there are no MCP servers" in caplog.text


def test_what_is_not_used_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(servers(tmp_path, {"mcpServers": {"x": {"command": "x", "arg": [], "timeout": 5}}})) == 1
    assert "mcpServers.x: nothing is done with arg, timeout" in caplog.text


def test_a_name_that_stands_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert servers(tmp_path, '{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}') == []
    assert "the name 'a' stands twice in one object; there are no MCP servers" in caplog.text


@pytest.mark.parametrize(("value", "approval"), [(True, ("*",)), (False, ()), (None, ()), ([], ())])
def test_all_tools_of_a_server_or_none(tmp_path: Path, value: Any, approval: tuple[str, ...]) -> None:
    [server] = servers(tmp_path, {"mcpServers": {"a": {"command": "x", "requires_approval": value}}})
    assert server.approval == approval


class TestUsers:
    def test_each_server_has_a_number_that_stays_its_own(self) -> None:
        place = ServerPlace(Path(), (5000, 5_000_000))
        found = place.users_of(["b", "a"])
        assert found == {name: place.users_of([name])[name] for name in ("a", "b")}
        assert all(5000 <= number <= 5_000_000 for number in found.values())

    def test_where_two_would_have_one_they_do_not(self) -> None:
        names = [f"server_{number}" for number in range(100)]
        found = ServerPlace(Path(), (5000, 5099)).users_of(names)
        assert sorted(found.values()) == list(range(5000, 5100))
        with pytest.raises(ValueError, match="101 MCP servers, and 100 numbers in SANDBOX_MCP_UIDS"):
            ServerPlace(Path(), (5000, 5099)).users_of([*names, "one more"])

    def test_without_a_range_all_keep_the_services(self) -> None:
        assert ServerPlace(Path()).users_of(["a", "b"]) == {"a": 0, "b": 0}

    @pytest.mark.parametrize(
        ("servers", "complaint"),
        [
            ("1950000000-1950001000", "overlaps with SANDBOX_UIDS=1900000000-2099999999"),
            ("2100000000-2100000010", "1000 numbers at least"),
            ("0999-5000", "1000 or more"),
        ],
    )
    def test_a_range_that_does_not_do_is_refused(self, servers: str, complaint: str) -> None:
        with pytest.raises(ValidationError, match=complaint):
            SandboxSettings(sandbox_mcp_uids=servers)


def test_a_file_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_servers(tmp_path / "gone.json") == []
    assert "SANDBOX_MCP_CONFIG" in caplog.text
