"""Reads the file of MCP servers, in which the keys of all of them stand."""

from pathlib import Path

from probe import TARGET, attempt

attempt("read the configuration", Path(TARGET["configuration"]).read_text)
