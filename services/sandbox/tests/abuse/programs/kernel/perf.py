"""Counts events of the whole machine, a side channel. Source: perf_event_open(2), CVE-2013-2094."""

import ctypes

from probe import reach

attributes = ctypes.create_string_buffer(128)
attributes[4] = 128
reach("perf_event_open", attributes, 0, -1, -1, 0)
