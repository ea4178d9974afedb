"""Waits for input that never comes."""

import sys

from probe import held

held("input", repr(sys.stdin.read(1)) if sys.stdin else "no stdin")
