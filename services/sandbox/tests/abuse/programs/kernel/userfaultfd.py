"""Handles page faults itself, to win races in the kernel. Source: CVE-2016-2779's exploit technique."""

from probe import reach

reach("userfaultfd", 0)
reach("userfaultfd", 1)
