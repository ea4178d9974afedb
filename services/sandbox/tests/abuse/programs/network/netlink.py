"""Asks the kernel for interfaces and addresses. Source: rtnetlink(7)."""

import struct

from probe import attempt


def dump():
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(1)
        netlink.sendto(struct.pack("=IHHIIB3x", 20, 18, 0x301, 1, 0, 0), (0, 0))
        return len(netlink.recv(65536))


attempt("a netlink dump", dump)
