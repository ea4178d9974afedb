"""Starts other programs: echo, a shell with a pipe, the interpreter itself."""

import subprocess
import sys

from probe import ok

assert subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout == "hello\n"
assert subprocess.check_output("printf 'b\\na\\n' | sort", shell=True) == b"a\nb\n"
code = "import json; print(json.dumps([1]))"
assert subprocess.check_output([sys.executable or "python3", "-I", "-c", code]) == b"[1]\n"
ok("subprocess")
