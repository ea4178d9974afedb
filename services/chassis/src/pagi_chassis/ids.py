"""Ids that sort by when they were made."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """32 hexadecimal digits: 48 bits of Unix time in milliseconds, then 80 random bits, the layout of a ULID.

    Rows that are written at one moment then lie beside each other in an index, and a commit of many touches few pages;
    a third of the journal's writes went to pages that random ids had scattered. The end is as random as a W3C trace id
    has to be. https://github.com/ulid/spec, https://www.w3.org/TR/trace-context-2/#random-trace-id-flag
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
