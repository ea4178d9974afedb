"""Imports what the fork server has not: the whole way to the standard library must be open."""

import importlib

from probe import ok

MODULES = (
    "ssl", "hashlib", "hmac", "lzma", "bz2", "gzip", "zipfile", "tarfile", "difflib", "textwrap", "email.message",
    "html.parser", "urllib.parse", "http.client", "ipaddress", "heapq", "bisect", "graphlib", "shlex", "argparse",
    "logging.handlers", "unittest.mock", "dataclasses", "enum", "typing", "contextvars",
    "imaplib", "calendar", "curses",
)  # fmt: skip
missing = []
for name in MODULES:
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.append(f"{name}: {error}")
# A Python may be built without curses, bz2 or lzma, but not without the rest.
assert all(one.split(":")[0] in {"curses", "lzma", "bz2", "ssl"} for one in missing), missing
ok("imports", missing)
