"""Imports a module that it wrote to the workspace."""

from pathlib import Path

from probe import ok

Path("shapes.py").write_text("def area(a, b):\n    return a * b\n")
import shapes  # noqa: E402

assert shapes.area(2, 3) == 6
ok("own module")
