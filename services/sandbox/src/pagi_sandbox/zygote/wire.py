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
        WATCH   ->jailer    its call lasts: look from time to time what all of it uses; the body is BUDGET
        KILL    ->jailer    end it, with everything it started
        REFUSED ->service   the child could not put on its isolation: nothing of the tool has run. Not an exit status,
                            for every tool can end with any
        EXITED  ->service   it is gone, with everything it started; the body is ENDING
    service and child, the work socket
        RUN     ->child     the body is JSON, the orders: where and with how much. With three descriptors: the call's
                            socket, its stdout, its stderr

The call's socket (SOCK_STREAM) carries LENGTH and a JSON request to the child, and the child's answer back: one letter
and its text, ended by the end of the stream. Only an answer whose child exited with status 0 is whole.

The work socket of a PURE slot is a SOCK_STREAM: LENGTH and request there, a LENGTH and an answer back, many times;
requests may be sent before those ahead of them are answered.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<cQ")
# The wait status, how many times a process was ended for memory, how many times one more was refused; and where the
# jailer ended it for what all of it used: what that was (a letter of those below, else zero), and how much of it.
ENDING = struct.Struct("<iIIcQ")
# What all of the call may use: processor time in milliseconds, bytes of memory and of disk, tasks; 0: no bound.
BUDGET = struct.Struct("<QQQQ")
PID = struct.Struct("<q")
LENGTH = struct.Struct("<I")

HELLO, SLOT, FORKED, GONE = b"H", b"S", b"F", b"G"
READY, WATCH, KILL, REFUSED, EXITED = b"Y", b"W", b"K", b"N", b"X"
RUN = b"R"
# Kinds of slots: one child a call without and with network; one child for many calls of pure tools.
JAIL, NETWORK, PURE = b"J", b"N", b"P"

# A child's answer: OK and a JSON object, the others a text.
OK, FAILED, MEMORY, DISK, PROCESSES = b"O", b"F", b"M", b"D", b"P"
# What a jailer ends a call for, besides the last three: processor time (milliseconds), deleted files that it holds.
TIME, UNNAMED = b"T", b"U"
# The exit status of a child that had no memory left to say so.
EXIT_MEMORY = 86

MAX_PACKET = 196_608
