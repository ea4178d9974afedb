"""Calls the sandbox's own gRPC port, to run a tool with limits of its choosing."""

from probe import TARGET, attempt


def connect():
    import socket

    with socket.create_connection(("127.0.0.1", TARGET["service_port"]), timeout=1) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        return connection.recv(100)


attempt("the service's own port", connect)
