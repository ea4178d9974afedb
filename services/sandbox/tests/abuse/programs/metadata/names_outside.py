"""Makes, renames and removes names in a world-writable folder outside."""

import os
import socket
from pathlib import Path

from probe import TARGET, attempt

outside = Path(TARGET["outside"])
attempt("create", (outside / "new").write_text, "x")
attempt("mkdir", os.mkdir, outside / "folder")
attempt("symlink", os.symlink, "/etc/passwd", outside / "link")
attempt("mkfifo", os.mkfifo, outside / "pipe")
attempt("rename", os.rename, outside / "writable.txt", outside / "renamed.txt")
attempt("unlink", os.unlink, outside / "renamed.txt")
attempt("bind a socket", lambda: socket.socket(socket.AF_UNIX).bind(str(outside / "socket")))
