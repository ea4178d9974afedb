"""Sends a datagram and waits for its echo."""

from probe import TARGET, attempt


def send():
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(1)
        datagrams.sendto(TARGET["name"].encode(), ("127.0.0.1", TARGET["udp"]))
        return datagrams.recv(100)


attempt("UDP", send)
