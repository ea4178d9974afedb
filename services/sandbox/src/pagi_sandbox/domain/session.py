"""Which session ids can name a workspace."""

from __future__ import annotations

import unicodedata

from pagi_sandbox.domain.errors import SessionIdError

MAX_LENGTH = 200


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
    for character in session_id:
        if character in "/\\" or unicodedata.category(character) in {"Cc", "Cs"}:
            raise SessionIdError(f"holds {character!r}")
