"""Opens raw sockets, which write their own headers."""

import socket

from probe import attempt

attempt("raw ICMP", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
attempt("packet", socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
