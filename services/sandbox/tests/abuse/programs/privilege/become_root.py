"""Becomes root by every call that changes a user."""

import os

from probe import attempt, got, held, syscall

(got if 0 in os.getresuid() else held)("is root", os.getresuid())
for name, act, arguments in (
    ("setuid", os.setuid, (0,)),
    ("setreuid", os.setreuid, (0, 0)),
    ("setresuid", os.setresuid, (0, 0, 0)),
    ("setgid", os.setgid, (0,)),
    ("setgroups", os.setgroups, ([0],)),
):
    attempt(name, act, *arguments)
# Returns the user before, and says nothing of a refusal: asked twice.
syscall("setfsuid", 0)
(got if syscall("setfsuid", -1) == 0 else held)("setfsuid")
