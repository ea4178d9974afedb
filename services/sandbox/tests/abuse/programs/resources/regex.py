"""Backtracks exponentially inside one C call, where no signal handler of Python's runs. Source: CWE-1333."""

import re

re.match(r"(a+)+$", "a" * 64 + "b")
