"""The tool `read_artifact`: what was too long for a model to be given whole can be read on, and searched in.

Nothing is stored for it a second time: the journal holds every output and every file of the request whole.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pagi_chassis.errors import InvalidArgumentError

from pagi_planner.domain import json_text
from pagi_planner.domain.model import Effects, ToolCall, ToolOutcome, ToolSpec
from pagi_planner.domain.tools.toolbox import Scope
from pagi_planner.domain.tools.turn import OBSERVATION_CHARACTERS, full_text

MOST_LENGTH = 6_000
# What a result may have, with its other members, before a part of it is left out in turn.
MOST_SHOWN = OBSERVATION_CHARACTERS - 500
MOST_FINDINGS = 10
AROUND = 200
NAME = "read_artifact"
_SPEC = ToolSpec(
    NAME,
    "Reads on in a long tool result or file of this request of which only a part was shown, or finds a text in it.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "artifact": {"type": "string", "description": "Its reference, as it was given: '2/0' or 'file/1'."},
                "offset": {"type": "integer", "minimum": 0, "description": "Where to begin, in characters."},
                "length": {"type": "integer", "minimum": 1, "maximum": MOST_LENGTH, "description": "How many."},
                "search": {"type": "string", "description": "In place of reading: a text to find, in any case."},
            },
            "required": ["artifact"],
            "additionalProperties": False,
        }
    ),
    Effects.READ_ONLY,
    version="1",
)


class ReadArtifact:
    """See the module."""

    spec = _SPEC
    knows_effects = True

    def is_offered(self, work: Scope) -> bool:
        """Where something was cut."""
        return bool(_artifacts(work))

    async def execute(self, call: ToolCall, work: Scope, effect_id: str) -> ToolOutcome:
        """Reads or searches.

        Raises:
            InvalidArgumentError: There is no such artifact, or an argument is wrong.
        """
        arguments = json_text.parse(call.arguments_json or "{}")
        name, search = arguments.get("artifact"), arguments.get("search")
        artifacts = _artifacts(work)
        if not isinstance(name, str) or name not in artifacts:
            known = ", ".join(artifacts) or "none"
            raise InvalidArgumentError(f"there is no artifact {name!r}; there are: {known}", field="artifact")
        text = _text_of(work, name)
        if search is not None:
            if not isinstance(search, str) or not search:
                raise InvalidArgumentError("search must be a text that is not empty", field="search")
            return ToolOutcome("ok", _found(text, search))
        offset = _number(arguments, "offset", 0, 0, len(text))
        length = _number(arguments, "length", MOST_LENGTH, 1, MOST_LENGTH)
        part = _shown_whole(text[offset : offset + length])
        end = offset + len(part)
        rest = {"next_offset": end} if end < len(text) else {}
        return ToolOutcome("ok", {"text": part, "offset": offset, "characters": len(text), **rest})


def _artifacts(work: Scope) -> list[str]:
    """The references of what was not shown whole."""
    return work.state.material.references


def _text_of(work: Scope, name: str) -> str:
    state = work.state
    if name.startswith("file/"):
        return state.material.files[int(name.removeprefix("file/"))].text
    step = state.steps[state.material.cut_outputs[name]]
    return full_text(step.output, step.error or "")


def _shown_whole(part: str) -> str:
    """As much of it as a model is shown: quotes, line breaks and the like are longer in the JSON of a result."""
    while len(json.dumps(part, ensure_ascii=False)) > MOST_SHOWN:
        part = part[: len(part) * 9 // 10]
    return part


def _found(text: str, search: str) -> dict[str, Any]:
    findings: list[dict[str, Any]] = []
    count = 0
    # In the text as it is: in small letters some characters are two, and offsets would not be those to read on at.
    for found in re.finditer(re.escape(search), text, re.IGNORECASE):
        count += 1
        if len(findings) < MOST_FINDINGS:
            begin = max(0, found.start() - AROUND)
            findings.append({"offset": found.start(), "text": text[begin : found.end() + AROUND]})
    return {"found": count, "matches": findings, "characters": len(text)}


def _number(arguments: dict[str, Any], name: str, otherwise: int, least: int, most: int) -> int:
    value = arguments.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgumentError(f"{name} must be a whole number from {least} to {most}", field=name)
    return value
