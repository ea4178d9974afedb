"""Where a document stands, by the path of its file below the knowledge-bases folder."""

from __future__ import annotations

import unicodedata

from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.limits import is_persona_name
from pagi_memory.domain.model import DEFAULT_PERSONA, KnowledgeBase, Shelf

# Mind-KB is not among them: what an agent has learned comes from its runs.
FILED = (KnowledgeBase.SOUL, KnowledgeBase.DOMAIN, KnowledgeBase.BODY)

MAX_SOURCE_CHARS = 500
_MAX_NAME_BYTES = 200


def shelf_of(source: str) -> Shelf:
    """The shelf of a source such as `Domain-KB/tea.md` or `personas/dog/Body-KB/legs.md`.

    Raises:
        InvalidArgumentError: No document can have this source.
    """
    if not source:
        raise InvalidArgumentError("source is missing.", field="source")
    if len(source) > MAX_SOURCE_CHARS:
        raise InvalidArgumentError(
            f"source has {len(source)} characters; at most {MAX_SOURCE_CHARS} are allowed.", field="source"
        )
    persona, parts = DEFAULT_PERSONA, source.split("/")
    if parts[0] == "personas" and len(parts) > 2:
        persona, parts = parts[1], parts[2:]
        if persona == DEFAULT_PERSONA or not is_persona_name(persona):
            raise InvalidArgumentError(f"source: {persona!r} cannot be the name of a persona.", field="source")
    known = {base.value: base for base in FILED}
    if len(parts) < 2 or parts[0] not in known or not all(map(_is_file_name, parts[1:])):
        raise InvalidArgumentError(
            f"source must be <knowledge base>/<file> or personas/<name>/<knowledge base>/<file>, where the knowledge "
            f"base is one of {', '.join(known)}, without hidden names, '.' and '..'.",
            field="source",
        )
    return Shelf(persona, known[parts[0]])


def _is_file_name(name: str) -> bool:
    if not name or name.startswith(".") or "\\" in name:
        return False
    try:
        return len(name.encode()) <= _MAX_NAME_BYTES and not any(unicodedata.category(c) == "Cc" for c in name)
    except UnicodeEncodeError:
        return False
