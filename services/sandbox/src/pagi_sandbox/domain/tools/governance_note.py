"""governance_note: notes on proposals, kept for people to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pagi_sandbox.domain.model import Note
from pagi_sandbox.domain.ports import NoteStore
from pagi_sandbox.domain.tool import Effects, Permission, ToolContext, ToolFailedError

MAX_LISTED = 200


class GovernanceNote:
    """Adds and lists notes. A ServiceTool: its database holds every tenant's notes, so no tool's process has it."""

    name = "governance_note"
    description = (
        "Keep a note on a governance proposal, or list the notes on it. The same note on the same proposal is kept "
        "once."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "action": {"enum": ["add", "list"], "default": "add"},
            "proposal_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "For example: PROP-1",
            },
            "note": {"type": "string", "minLength": 1, "maxLength": 20_000, "description": "What to keep (add only)."},
        },
        "required": ["proposal_id"],
        "if": {"properties": {"action": {"const": "list"}}, "required": ["action"]},
        "else": {"required": ["note"]},
        "additionalProperties": False,
    }
    effects = Effects.IDEMPOTENT
    permissions = (Permission.SERVICE,)
    minimum_profile = "L0"

    def __init__(self, notes: NoteStore, now: Callable[[], datetime]) -> None:
        """`now` gives the time in UTC."""
        self._notes = notes
        self._now = now

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Mapping[str, Any]:
        """Answers {"proposal_id", "added", "note": {...}} to add, {"proposal_id", "notes": [...]} to list."""
        proposal_id = arguments["proposal_id"]
        if arguments.get("action", "add") == "list":
            notes = await self._notes.of_proposal(context.tenant, proposal_id, MAX_LISTED)
            return {"proposal_id": proposal_id, "notes": [asdict(note) for note in notes]}
        if not arguments["note"].strip():
            raise ToolFailedError("the note is empty")
        note, added = await self._notes.add(
            context.tenant,
            Note(
                id=0,
                proposal_id=proposal_id,
                note=arguments["note"],
                created_at=self._now().isoformat(timespec="milliseconds"),
                session_id=context.session_id,
                trace_id=context.trace_id,
            ),
        )
        return {"proposal_id": proposal_id, "added": added, "note": asdict(note)}
