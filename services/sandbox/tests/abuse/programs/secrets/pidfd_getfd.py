"""Takes a copy of the service's descriptors. Source: pidfd_getfd(2), Linux 5.6."""

import os

from probe import TARGET, got, held, syscall

for name in ("service", "fork_server"):
    taken = []
    try:
        pidfd = os.pidfd_open(TARGET[name])
    except OSError as error:
        held(f"pidfd of the {name}", error)
        continue
    for number in range(64):
        try:
            taken.append(syscall("pidfd_getfd", pidfd, number, 0))
        except OSError as error:
            last = error
    if taken:
        got(f"descriptors of the {name}", taken)
    else:
        held(f"descriptors of the {name}", last)
