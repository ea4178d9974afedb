"""What passes between the service, the fork server, a slot's jailer and its child.

Three sockets of packets (SOCK_SEQPACKET), every packet beginning with HEADER:

    service and fork server
        HELLO   ->service   the body is JSON: the tools, what was left out, the isolation
        SLOT    ->server    number of the slot, body its kind and, as JSON, the orders of a pure one; two descriptors:
                            its control and its work socket
        FORKED  ->service   the slot has a jailer; the body is PID
        GONE    ->service   the jailer of a slot ended
    service and jailer, the control socket; the number is the generation of the child that is meant
        READY   ->service   a child is jailed and waits
        WATCH   ->jailer    its call lasts: look how much processor time all of it uses; the body is BUDGET
        KILL    ->jailer    end it, with everything it started
        EXITED  ->service   it is gone, with everything it started; the body is ENDING
    service and child, the work socket
        RUN     ->child     the body is JSON, the orders: where and with how much. With three descriptors: the call's
                            socket, its stdout, its stderr

The call's socket (SOCK_STREAM) carries LENGTH and a JSON request to the child, and the child's answer back: one letter
and its text, ended by the end of the stream. Only an answer whose child exited with status 0 is whole.

The work socket of a PURE slot is a SOCK_STREAM: LENGTH and request there, a LENGTH and an answer back, many times.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<cQ")
# The wait status, how many times a process was ended for memory, how many times one more was refused, and the processor
# time of the whole call in milliseconds where it was ended for that, else 0.
ENDING = struct.Struct("<iIII")
# Processor time that the call may use, in milliseconds.
BUDGET = struct.Struct("<Q")
PID = struct.Struct("<q")
LENGTH = struct.Struct("<I")

HELLO, SLOT, FORKED, GONE = b"H", b"S", b"F", b"G"
READY, WATCH, KILL, EXITED = b"Y", b"W", b"K", b"X"
RUN = b"R"
# Kinds of slots: one child a call without and with network; one child for many calls of pure tools.
JAIL, NETWORK, PURE = b"J", b"N", b"P"

# A child's answer: OK and a JSON object, the others a text.
OK, FAILED, MEMORY, DISK, PROCESSES = b"O", b"F", b"M", b"D", b"P"
# The exit status of a child that had no memory left to say so, and of one that could not put on its isolation.
EXIT_MEMORY, EXIT_NOT_JAILED = 86, 87

MAX_PACKET = 196_608
