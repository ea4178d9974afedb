"""Writes bytes that mean nothing into the call's socket."""

import os
import socket
import stat

for descriptor in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            socket.socket(fileno=descriptor).sendall(b"\xff\x00\xfe" * 33_333)
    except OSError:
        continue
os._exit(0)
