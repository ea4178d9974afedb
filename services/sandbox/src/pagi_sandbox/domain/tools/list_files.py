"""list_files: what is in the session's workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext
from pagi_sandbox.domain.workspace_files import WorkspaceFiles

MAX_ENTRIES = 1000


class ListFiles:
    """Lists the workspace."""

    name = "list_files"
    description = (
        "List the files and directories in this conversation's workspace, with kind, size in bytes and the time "
        "of the last change."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "maxLength": 4096,
                "default": ".",
                "description": "Directory, relative to the workspace.",
            },
            "recursive": {"type": "boolean", "default": False, "description": "Also list what is below it."},
        },
        "additionalProperties": False,
    }
    effects = Effects.READ_ONLY
    permissions = (Permission.WORKSPACE_READ,)
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"path", "entries": [{"path", "kind", "size", "modified"}], "truncated"}."""
        path = arguments.get("path", ".")
        entries, more = WorkspaceFiles(context.workspace).entries(
            path, recursive=arguments.get("recursive", False), limit=MAX_ENTRIES
        )
        listed = [
            {"path": entry.path, "kind": entry.kind, "size": entry.size, "modified": round(entry.modified, 3)}
            for entry in entries
        ]
        return {"path": path, "entries": listed, "truncated": more}
