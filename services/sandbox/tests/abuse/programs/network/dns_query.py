"""Carries data out in a name to look up. Source: DNS tunnelling, MITRE ATT&CK T1071.004."""

import struct

from probe import TARGET, attempt


def query():
    import socket

    label = TARGET["name"].encode()[-60:]
    question = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + bytes([len(label)]) + label + b"\0\0\x01\0\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(1)
        datagrams.connect(("127.0.0.1", TARGET["udp"]))
        datagrams.send(question)
        return datagrams.recv(100)


attempt("a DNS query", query)
