"""Listens where others can connect: a back door."""

from probe import attempt


def listen():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        return server.getsockname()


attempt("listen on TCP", listen)
