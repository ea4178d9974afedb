"""What passes between the service, the fork server and a child.

Service and fork server share a SOCK_SEQPACKET socket pair, one message a packet, each beginning with HEADER:

    RUN     service -> fork server   with three descriptors: the call's socket, its stdout, its stderr
    KILL    service -> fork server   ends the call's process group, at once
    HELLO   fork server -> service   no call; the body is JSON: the tools, and what was left out
    FORKED  fork server -> service   the body is PID
    EXITED  fork server -> service   the body is STATUS; the call's process group is gone

The call's socket (SOCK_STREAM) carries LENGTH and a JSON request to the child, and the child's answer back: one letter
and its text, ended by the end of the stream. Only an answer whose child exited with status 0 is whole.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<cQ")
PID = struct.Struct("<q")
STATUS = struct.Struct("<i")
LENGTH = struct.Struct("<I")

RUN, KILL = b"R", b"K"
HELLO, FORKED, EXITED = b"H", b"F", b"X"

# A child's answer: OK and a JSON object, FAILED and a text, MEMORY and nothing.
OK, FAILED, MEMORY = b"O", b"F", b"M"
# The exit status of a child that had no memory left to say so.
EXIT_MEMORY = 86

MAX_PACKET = 196_608
