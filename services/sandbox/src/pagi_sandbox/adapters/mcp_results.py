"""What MCP servers say, as the sandbox says it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import mimetypes
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pagi_sandbox.domain.mcp import McpServer
from pagi_sandbox.domain.model import ToolSpec
from pagi_sandbox.domain.tool import Effects, Permission

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock, Tool

_LONGEST_NAME = 64
_LONGEST_DESCRIPTION = 4_000
# What write_file takes, in base64.
_LARGEST_FILE = 1_400_000
_MOST_FILES = 8


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool of a server: as ListTools shows it, and its name there."""

    spec: ToolSpec
    remote_name: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture, a sound or another file in an answer; `name` is the same for the same content."""

    name: str
    media_type: str
    content: str
    size: int


def remote_tool(server: McpServer, tool: Tool, *, network: bool, version: str) -> RemoteTool:
    """A server's tool.

    Raises:
        ValueError: it cannot be shown; says why.
    """
    plain = re.sub(r"[^a-z0-9_.]", "_", tool.name.lower())
    name = f"{server.name}.{plain}"
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"its name would have more than {_LONGEST_NAME} characters")
    hints = tool.annotations
    description = tool.description or tool.title or tool.name
    spec = ToolSpec(
        name=name,
        description=description[:_LONGEST_DESCRIPTION],
        parameters=tool.input_schema,
        effects=_effects(tool),
        origin=f"MCP server {server.name!r}",
        permissions=(Permission.SERVICE.value, *((Permission.NETWORK.value,) if network else ())),
        # What calls itself destructive is asked about; that it is not, a server's word is not enough to say.
        requires_approval=bool(hints and hints.destructive_hint and not hints.read_only_hint)
        or any(fnmatchcase(one, pattern) for pattern in server.approval for one in (plain, tool.name)),
        minimum_profile="L0",
        version=version,
    )
    return RemoteTool(spec, tool.name)


def shown_size(spec: ToolSpec) -> int:
    """How many bytes it takes to list it, about.

    Raises:
        ValueError: its schema holds NaN or Infinity, and nobody could read the list.
    """
    return len(spec.description.encode("utf-8", "replace")) + len(json.dumps(dict(spec.parameters), allow_nan=False))


def _effects(tool: Tool) -> Effects:
    hints = tool.annotations
    if hints is not None and hints.read_only_hint:
        return Effects.READ_ONLY
    if hints is not None and hints.idempotent_hint:
        return Effects.IDEMPOTENT
    return Effects.EFFECTFUL


def answer_of(result: CallToolResult) -> tuple[dict[str, Any], list[Attachment]]:
    """The answer without its files: {"text"}, {"structured"} where there is such, {"links"} where there are any."""
    texts: list[str] = []
    links: list[dict[str, str]] = []
    attachments: list[Attachment] = []
    for block in result.content:
        attachment = _attachment(block)
        if attachment is not None:
            attachments.append(attachment)
        elif block.type == "text":
            texts.append(block.text)
        elif block.type == "resource_link":
            links.append({"uri": str(block.uri), "name": block.name})
        elif block.type == "resource" and hasattr(block.resource, "text"):
            texts.append(block.resource.text)
    answer: dict[str, Any] = {"text": "\n".join(texts)}
    if result.structured_content is not None:
        answer["structured"] = result.structured_content
        if _says_the_same(answer["text"], result.structured_content):
            # Servers send it as text too, for clients that know no better; a model would read it twice.
            del answer["text"]
    if links:
        answer["links"] = links
    return answer, attachments


def keepable(attachments: Iterable[Attachment]) -> list[Attachment]:
    """Those that are small enough to be kept as files."""
    return [one for one in attachments if one.size <= _LARGEST_FILE][:_MOST_FILES]


def _attachment(block: ContentBlock) -> Attachment | None:
    if block.type in {"image", "audio"}:
        return _file(block.data, block.mime_type)
    if block.type == "resource" and hasattr(block.resource, "blob"):
        return _file(block.resource.blob, block.resource.mime_type or "application/octet-stream")
    return None


def _file(content: str, media_type: str) -> Attachment:
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return Attachment("", media_type[:100], "", len(content))
    kind = media_type.partition(";")[0].strip().lower()
    ending = mimetypes.guess_extension(kind) or ".bin"
    return Attachment(f"{hashlib.sha256(data).hexdigest()[:12]}{ending}", kind[:100], content, len(data))


def _says_the_same(text: str, structured: Any) -> bool:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = text
    return structured in (parsed, {"result": parsed}, {"result": text})
