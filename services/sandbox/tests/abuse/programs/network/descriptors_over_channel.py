"""Looks for a connected socket among its descriptors and sends into it what only a peer of the service would."""

import os
import socket
import stat

from probe import got, held

names = []
for descriptor in range(3, 256):
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            continue
        with socket.socket(fileno=os.dup(descriptor)) as one:
            # A channel to the service or the fork server is SEQPACKET or named; the call's own is neither.
            if one.family != socket.AF_UNIX or one.type != socket.SOCK_STREAM or one.getpeername():
                names.append((descriptor, one.family, one.type))
    except OSError:
        continue
(got if names else held)("sockets besides the call's own", names)
