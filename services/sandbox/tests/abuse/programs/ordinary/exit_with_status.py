"""Ends itself by sys.exit with a message."""

import sys

from probe import ok

ok("before")
sys.exit("enough")
