"""Reads the file of MCP servers, in the `mcpServers` shape that desktop clients use. A fault costs its server only."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pagi_sandbox.domain.mcp import McpServer, ServerJail

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_KINDS = {"stdio": "command", "http": "url", "streamable-http": "url", "streamable_http": "url", "": ""}


_FIELDS = {"command", "args", "env", "cwd", "url", "headers", "type", "jail", "disabled", "requires_approval"}


class _FieldError(ValueError):
    """A field that is wrong: its path below the server, and why."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field}: {fault}" if field else fault)


class _RepeatedError(ValueError):
    """A name that stands twice in one object, of which JSON readers take the last in silence."""


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _RepeatedError(f"the name {name!r} stands twice in one object")
        found[name] = value
    return found


def read_servers(path: Path) -> list[McpServer]:
    """The servers that can be used; each fault is logged with file, server and field."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
        servers = content["mcpServers"]
        entries = list(servers.items())
    except OSError as error:
        log.error("SANDBOX_MCP_CONFIG=%s cannot be read: %s; there are no MCP servers", path, error.strerror)
        return []
    except _RepeatedError as error:
        log.error("%s: %s; there are no MCP servers", path, error)
        return []
    except (ValueError, RecursionError) as error:
        log.error("%s is no JSON: %s; there are no MCP servers", path, error)
        return []
    except (KeyError, TypeError, AttributeError):
        log.error('%s: the file has to be {"mcpServers": {name: {...}}}; there are no MCP servers', path)
        return []
    found: dict[str, McpServer] = {}
    for name, entry in entries:
        try:
            if isinstance(entry, dict) and _typed(entry, "disabled", bool, default=False):
                continue
            server = _server(name, entry)
            if server.name in found:
                raise _FieldError("", f"another server is named {server.name!r} too")
            found[server.name] = server
            unused = sorted(set(entry) - _FIELDS)
            if unused:
                log.warning("%s: mcpServers.%s: nothing is done with %s", path, name, ", ".join(unused))
        except _FieldError as error:
            log.error("%s: mcpServers.%s is left out: %s", path, name, error)
    return list(found.values())


def _server(name: str, entry: Any) -> McpServer:
    if not isinstance(entry, dict):
        raise _FieldError("", f"an object is needed, not {type(entry).__name__}")
    # As tools are named: "My-Files" is my_files.
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    if not _NAME.fullmatch(plain):
        raise _FieldError("", "its name has to begin with a letter and have at most 32 letters, digits and _")
    command, url = _typed(entry, "command", str), _typed(entry, "url", str)
    kind = _typed(entry, "type", str)
    if kind not in _KINDS:
        raise _FieldError("type", f"{kind!r} is not supported; stdio and streamable-http are")
    if bool(command) == bool(url) or (kind and not entry.get(_KINDS[kind])):
        raise _FieldError(_KINDS[kind] or "command", 'either "command" or "url" is needed')
    if url and not url.startswith(("http://", "https://")):
        raise _FieldError("url", "it has to begin with http:// or https://")
    return McpServer(
        name=plain,
        command=command,
        args=_texts(entry, "args"),
        env=_variables(entry, "env"),
        cwd=_directory(entry),
        url=url,
        headers=_variables(entry, "headers"),
        approval=_approval(entry),
        jail=_jail(entry),
    )


def _approval(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Of which tools a person has to allow each call: of all, or of those that are named."""
    value = entry.get("requires_approval")
    if isinstance(value, list):
        return _texts(entry, "requires_approval")
    if value is not None and not isinstance(value, bool):
        raise _FieldError("requires_approval", f"true, false or a list of names is needed, not {type(value).__name__}")
    return ("*",) if value else ()


def _jail(entry: Mapping[str, Any]) -> ServerJail:
    jail = _typed(entry, "jail", dict, default={})
    unknown = set(jail) - {"network", "read", "write", "memory_mb", "disk_mb"}
    if unknown:
        raise _FieldError(f"jail.{min(unknown)}", "unknown; there are network, read, write, memory_mb and disk_mb")
    return ServerJail(
        network=_typed(jail, "network", bool, default=True, above="jail."),
        read=_paths(jail, "read"),
        write=_paths(jail, "write"),
        memory_mb=_size(jail, "memory_mb", 32),
        disk_mb=_size(jail, "disk_mb", 1),
    )


def _size(jail: Mapping[str, Any], field: str, least: int) -> int:
    size: int = _typed(jail, field, int, default=1024, above="jail.")
    if not least <= size <= 1_048_576:
        raise _FieldError(f"jail.{field}", f"{size} is not {least} to 1048576")
    return size


def _typed(entry: Mapping[str, Any], field: str, kind: type, *, default: Any = None, above: str = "") -> Any:
    value = entry.get(field)
    if value is None:
        return default if default is not None else kind()
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _FieldError(above + field, f"{kind.__name__} is needed, not {type(value).__name__}")
    if isinstance(value, str) and "\0" in value:
        raise _FieldError(above + field, "it holds a NUL character")
    return value


def _texts(entry: Mapping[str, Any], field: str, above: str = "") -> tuple[str, ...]:
    values = _typed(entry, field, list, above=above)
    for place, value in enumerate(values):
        _typed({"": value if value is not None else 0}, "", str, above=f"{above}{field}[{place}]")
    return tuple(values)


def _variables(entry: Mapping[str, Any], field: str) -> dict[str, str]:
    values: dict[str, str] = _typed(entry, field, dict)
    for name, value in values.items():
        _typed({"": value if value is not None else 0}, "", str, above=f"{field}.{name}")
        if not name or "=" in name or "\0" in name:
            raise _FieldError(f"{field}.{name}", "that is no name")
    return values


def _paths(jail: Mapping[str, Any], field: str) -> tuple[str, ...]:
    paths = _texts(jail, field, "jail.")
    for place, path in enumerate(paths):
        if not Path(path).is_absolute():
            raise _FieldError(f"jail.{field}[{place}]", f"{path!r} is no absolute path")
    return paths


def _directory(entry: Mapping[str, Any]) -> str:
    cwd = str(_typed(entry, "cwd", str))
    if cwd and not (Path(cwd).is_absolute() and Path(cwd).is_dir()):
        raise _FieldError("cwd", f"{cwd!r} is no absolute path of a directory")
    return cwd
