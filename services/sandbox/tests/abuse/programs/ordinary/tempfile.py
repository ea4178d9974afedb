"""Uses temporary files and folders."""

import tempfile
from pathlib import Path

from probe import ok

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "a").write_text("b")
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("x")
    file.flush()
    assert Path(file.name).read_text() == "x"
with tempfile.TemporaryFile() as file:
    file.write(b"y")
with tempfile.SpooledTemporaryFile(10) as file:
    file.write(b"z" * 100)
ok("tempfile")
