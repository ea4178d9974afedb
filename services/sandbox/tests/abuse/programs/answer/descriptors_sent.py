"""Sends descriptors over the call's socket, which a reader would have to close: 200 of them."""

import array
import os
import socket
import stat

for descriptor in range(3, 256):
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            continue
        channel = socket.socket(fileno=os.dup(descriptor))
        for _ in range(4):
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1] * 50))
            channel.sendmsg([b"O"], [rights])
    except OSError:
        continue
os._exit(0)
