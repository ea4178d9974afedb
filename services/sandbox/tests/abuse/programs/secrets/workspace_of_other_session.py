"""Reads and writes the workspace of another session, whose name it guessed."""

from pathlib import Path

from probe import TARGET, attempt

other = Path(TARGET["other_workspace"])
attempt("read another session's file", (other / "private.txt").read_text)
attempt("list another session's workspace", lambda: [str(one) for one in other.iterdir()])
attempt("write into another session's workspace", (other / "planted.txt").write_text, "planted")
