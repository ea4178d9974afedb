"""Holds deleted files in messages that nobody receives: no process has them open."""

import os
import socket

from probe import got, held

pairs, written = [], 0
for number in range(40):
    here, there = socket.socketpair()
    file = os.open(f"fill-{number}", os.O_CREAT | os.O_RDWR)
    os.unlink(f"fill-{number}")
    for _ in range(15):
        written += os.write(file, bytes(1 << 20))
    try:
        socket.send_fds(here, [b"x"], [file])
    except OSError as error:
        held("send", error)
    os.close(file)
    pairs.append((here, there))
if written > 300 << 20:
    got("MiB in deleted files", written >> 20)
