"""Opens system files for writing: passwords, cron, the interpreter, the tools that the next call runs."""

import json
import os
import sys

from probe import attempt

for path in ("/etc/passwd", "/etc/crontab", "/etc/ld.so.preload", sys.executable, json.__file__, "/usr/bin/env"):
    if os.path.exists(path):
        attempt(f"open {path} for appending", os.open, path, os.O_WRONLY | os.O_APPEND)
# A file without a name, so that nothing stays where it works.
attempt("a file beside the standard library", os.open, os.path.dirname(json.__file__), os.O_TMPFILE | os.O_WRONLY)
