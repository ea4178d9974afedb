"""Makes System V semaphores and message queues. Source: CVE-2015-7613 and its kin."""

from probe import attempt, syscall

attempt("System V semaphores", syscall, "semget", 0, 16, 0o1600)
attempt("a System V message queue", syscall, "msgget", 0, 0o1600)
