"""Logs to stderr, prints to stdout, writes bytes, flushes."""

import logging
import sys

from probe import ok

logging.basicConfig(level=logging.INFO)
logging.getLogger("ordinary").info("to stderr")
print("to stdout", flush=True)
sys.stdout.buffer.write(b"bytes\n")
sys.stderr.write("more\n")
ok("streams")
