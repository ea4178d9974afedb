"""Lowers the service's limits, so that it cannot open a file any more. Source: prlimit(2)."""

import resource

from probe import TARGET, attempt

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
attempt("read the limits of the service", resource.prlimit, TARGET["service"], resource.RLIMIT_NOFILE)
attempt("lower the limits of the bystander", resource.prlimit, TARGET["bystander"], resource.RLIMIT_NOFILE, (9, 9))
