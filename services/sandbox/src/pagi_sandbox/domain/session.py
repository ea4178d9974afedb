"""Which session ids can name a workspace."""

from __future__ import annotations

import re

from pagi_sandbox.domain.errors import SessionIdError

MAX_LENGTH = 200
# Separators, and what Unicode has as control characters (Cc) and halves of surrogate pairs (Cs).
_MORE_THAN_A_NAME = re.compile("[/\\\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_session_id(session_id: str) -> None:
    """Refuses what could be more than a name.

    Raises:
        SessionIdError: it is empty, too long, ".", "..", or holds a control character, "/" or a backslash.
    """
    if not session_id:
        raise SessionIdError("is missing")
    if len(session_id) > MAX_LENGTH:
        raise SessionIdError(f"has {len(session_id)} characters")
    if session_id in {".", ".."}:
        raise SessionIdError(f"is {session_id!r}")
    if (found := _MORE_THAN_A_NAME.search(session_id)) is not None:
        raise SessionIdError(f"holds {found[0]!r}")
