"""Attaches to the service as a debugger would. Source: ptrace(2), PTRACE_SEIZE."""

from probe import TARGET, attempt, syscall


def attach(pid):
    syscall("ptrace", 0x4206, pid, 0, 0)
    # Not left in a traced state; PTRACE_INTERRUPT and DETACH would follow.
    return pid


attempt("trace the bystander", attach, TARGET["bystander"])
