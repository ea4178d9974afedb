"""JSON of the HTTP port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pagi_memory.domain.model import Turn


def turns_to_json(session_id: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """The turns of a session, oldest first; times in RFC 3339."""
    return {
        "session_id": session_id,
        "turns": [
            {
                "role": turn.role.value,
                "text": turn.text,
                "run_id": turn.run_id,
                "position": turn.position,
                "created_at": turn.created_at.isoformat(),
            }
            for turn in turns
        ],
    }
