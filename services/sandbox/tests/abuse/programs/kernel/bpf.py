"""Loads maps into the kernel. Source: CVE-2020-8835, CVE-2021-3490 and many more. Made by itself: a filter may kill."""

from probe import attempt, syscall

attempt("bpf", syscall, "bpf", 0, 0, 0)
