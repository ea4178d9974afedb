"""write_file: a file in the session's workspace."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError
from pagi_sandbox.domain.workspace_files import WorkspaceFiles

MAX_CHARACTERS = 2_000_000


class WriteFile:
    """Writes a file."""

    name = "write_file"
    description = (
        "Write a file in this conversation's workspace. It replaces the whole file; missing directories are made."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "minLength": 1,
                "maxLength": 4096,
                "description": "Relative to the workspace.",
            },
            "content": {"type": "string", "maxLength": MAX_CHARACTERS, "description": "The whole new content."},
            "encoding": {
                "enum": ["utf-8", "base64"],
                "default": "utf-8",
                "description": "base64 for content that is not text.",
            },
        },
        "required": ["path", "content"],
        "additionalProperties": False,
    }
    effects = Effects.IDEMPOTENT
    permissions = (Permission.WORKSPACE_READ, Permission.WORKSPACE_WRITE)
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"path", "size", "created"}; size in bytes."""
        path, content = arguments["path"], arguments["content"]
        data = _from_base64(content) if arguments.get("encoding") == "base64" else content.encode()
        created = WorkspaceFiles(context.workspace).write(path, data)
        return {"path": path, "size": len(data), "created": created}


def _from_base64(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolFailedError(f"content is no base64: {error}") from error
