"""Connects over IPv6, which IPv4 rules forget; also as a mapped address."""

from probe import TARGET, attempt


def connect(host):
    import socket

    with socket.socket(socket.AF_INET6) as connection:
        connection.settimeout(1)
        connection.connect((host, TARGET["tcp"]))
        connection.sendall(TARGET["name"].encode())
        return connection.recv(100)


attempt("TCP to a mapped address", connect, "::ffff:127.0.0.1")
