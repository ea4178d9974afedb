"""Reads from address 1."""

import ctypes

ctypes.string_at(1)
