"""Finds named unix sockets of the sandbox and its neighbours in /proc/net/unix and connects to each."""

from pathlib import Path

from probe import got, held

try:
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
except OSError as error:
    lines = []
    held("/proc/net/unix", error)
names = {line.split(maxsplit=7)[7] for line in lines if "pagi" in line}
reached = []
for name in sorted(names):
    import socket

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.2)
            connection.connect("\0" + name[1:] if name.startswith("@") else name)
            reached.append(name)
    except OSError:
        continue
(got if reached else held)("named sockets", reached)
