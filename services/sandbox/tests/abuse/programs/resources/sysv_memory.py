"""Allocates System V shared memory, which outlives the call and belongs to no process. Source: shmget(2)."""

from probe import attempt, syscall


def allocate():
    identifier = syscall("shmget", 0, 8 << 20, 0o1600)
    address = syscall("shmat", identifier, 0, 0)
    return identifier, address


attempt("System V shared memory", allocate)
