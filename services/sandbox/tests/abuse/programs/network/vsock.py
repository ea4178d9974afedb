"""Opens a socket to the hypervisor. Source: vsock(7)."""

import socket

from probe import attempt


def connect():
    with socket.socket(40, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.3)
        error = connection.connect_ex((2, 1024))
        return f"a vsock socket; connect says {error}"


attempt("vsock", connect)
