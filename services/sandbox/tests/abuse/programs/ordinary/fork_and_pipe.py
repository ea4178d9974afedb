"""Works with processes by hand: fork, pipe, wait."""

import os

from probe import ok

read_end, write_end = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(write_end, b"from the child")
    os._exit(7)
assert os.read(read_end, 100) == b"from the child"
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
ok("fork")
