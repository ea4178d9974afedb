"""Fails as programs do; the traceback names its own line."""

from probe import ok

ok("before")
{}["missing"]
