"""delete_file: makes room in the session's workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext
from pagi_sandbox.domain.workspace_files import WorkspaceFiles


class DeleteFile:
    """Deletes a file, or a directory with everything in it. It runs in a full workspace too, where others do not."""

    name = "delete_file"
    description = (
        "Delete a file, or a directory with everything in it, from this conversation's workspace. It cannot be undone."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "minLength": 1,
                "maxLength": 4096,
                "description": "Relative to the workspace.",
            }
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    effects = Effects.IDEMPOTENT
    permissions = (Permission.WORKSPACE_READ, Permission.WORKSPACE_WRITE)
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"path", "deleted"}; deleted is false where there was nothing of that name."""
        path = arguments["path"]
        return {"path": path, "deleted": WorkspaceFiles(context.workspace).delete(path)}
