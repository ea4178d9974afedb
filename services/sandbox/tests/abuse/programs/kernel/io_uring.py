"""Sets up a ring whose operations pass by seccomp. Source: CVE-2022-29582; Google disabled it in 2023."""

import ctypes

from probe import reach

reach("io_uring_setup", 4, ctypes.create_string_buffer(120))
