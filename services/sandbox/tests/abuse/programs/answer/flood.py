"""Writes into the call's socket without end."""

import os
import socket
import stat

for descriptor in range(3, 256):
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            continue
        channel = socket.socket(fileno=descriptor)
        while True:
            channel.sendall(b"O" * 1_000_000)
    except OSError:
        continue
