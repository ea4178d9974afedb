"""Reads and changes the private directory of another server."""

from pathlib import Path

from probe import TARGET, attempt, got, held

other = Path(TARGET["other_home"])
attempt("list another server's directory", lambda: [str(one) for one in other.iterdir()])
attempt("read another server's file", (other / "private.txt").read_text)
attempt("write into another server's directory", (other / "planted.txt").write_text, "planted")
try:
    others = [str(one) for one in other.parent.iterdir() if one != Path.home()]
except OSError as error:
    others = []
    held("list who else is configured", error)
if others:
    got("who else is configured", others)
