"""Raises its own limits."""

import resource

from probe import got, held

for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE"):
    number = getattr(resource, name)
    soft, hard = resource.getrlimit(number)
    try:
        resource.setrlimit(number, (resource.RLIM_INFINITY if name != "RLIMIT_NOFILE" else 1 << 19,) * 2)
    except (OSError, ValueError) as error:
        held(name, error)
    else:
        # Where a limit was none before, none was raised.
        (held if hard == resource.RLIM_INFINITY else got)(name, (soft, hard))
