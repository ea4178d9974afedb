"""Writes random bytes into the call's socket."""

import os
import socket
import stat

for descriptor in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            socket.socket(fileno=descriptor).sendall(os.urandom(100_000))
    except OSError:
        continue
os._exit(0)
