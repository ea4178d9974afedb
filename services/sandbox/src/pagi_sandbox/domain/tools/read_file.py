"""read_file: a file of the session's workspace."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from typing import Any

from pagi_sandbox.domain.tool import Effects, Permission, ToolContext
from pagi_sandbox.domain.workspace_files import WorkspaceFiles

MAX_BYTES = 262_144


class ReadFile:
    """Reads a file."""

    name = "read_file"
    description = (
        "Read a file from this conversation's workspace. Text comes as it is; a file that is not UTF-8 comes as "
        "base64. Long files are read in parts: next_offset says where to go on."
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
            "offset": {"type": "integer", "minimum": 0, "maximum": 2**62, "default": 0, "description": "First byte."},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_BYTES,
                "default": MAX_BYTES,
                "description": "At most so many bytes.",
            },
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    effects = Effects.READ_ONLY
    permissions = (Permission.WORKSPACE_READ,)
    minimum_profile = "L0"

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"path", "content", "encoding", "size", "offset", "next_offset"}.

        size and offsets are bytes; next_offset is null where the end of the file was reached.
        """
        path, offset = arguments["path"], int(arguments.get("offset", 0))
        data, size = WorkspaceFiles(context.workspace).read(path, offset, int(arguments.get("limit", MAX_BYTES)))
        at_end = offset + len(data) >= size
        try:
            content, used = _text(data, inside=offset > 0, final=at_end)
            encoding = "utf-8"
        except UnicodeDecodeError:
            content, used, encoding = base64.b64encode(data).decode("ascii"), len(data), "base64"
        return {
            "path": path,
            "content": content,
            "encoding": encoding,
            "size": size,
            "offset": offset,
            "next_offset": None if at_end else offset + used,
        }


def _text(data: bytes, *, inside: bool, final: bool) -> tuple[str, int]:
    """The text, and how many bytes it took: a part may begin or end in the middle of a character."""
    start = 0
    while inside and start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = decoder.decode(data[start:], final)
    return text, len(data) - len(decoder.getstate()[0])
