"""Leaves modules in the workspace that the sandbox's own imports would take: json.py, encodings, sitecustomize."""

import os

from probe import TARGET, ok

os.makedirs("encodings", exist_ok=True)
for name in (
    "json.py",
    "os.py",
    "types.py",
    "pagi_sandbox.py",
    "sitecustomize.py",
    "usercustomize.py",
    "encodings/__init__.py",
):
    with open(name, "w") as file:
        file.write(f"open({TARGET['outside'] + '/imported'!r}, 'w').write('x')\nraise SystemExit('hijacked')\n")
ok("left")
