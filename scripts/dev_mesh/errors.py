"""What the harness tells people when it cannot go on."""

from __future__ import annotations


class MeshError(Exception):
    """The mesh cannot start or stop; the text says what is wrong, where, and what to do."""
