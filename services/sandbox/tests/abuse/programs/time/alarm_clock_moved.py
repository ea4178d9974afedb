"""Sets the clock by which others measure its time; the address is wrong on purpose."""

from probe import reach

reach("clock_settime", 0, 1)
reach("settimeofday", 1, 0)
reach("adjtimex", 1)
