"""Answers with what Python reads as JSON and nobody else does, for whoever reads the answer to stumble over."""

import os
import socket
import stat

for descriptor in range(3, 256):
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            socket.socket(fileno=descriptor).sendall(b'O{"value": NaN, "stdout": [Infinity, -Infinity]}')
    except OSError:
        continue
os._exit(0)
