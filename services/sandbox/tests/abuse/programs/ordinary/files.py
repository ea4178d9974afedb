"""Works with files: makes, appends, renames, seeks, maps, locks, links, lists, removes."""

import fcntl
import mmap
import os
from pathlib import Path

from probe import ok

Path("a/b").mkdir(parents=True)
Path("a/one").write_bytes(b"one")
with open("a/one", "ab") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(b"two")
os.rename("a/one", "a/b/two")
os.link("a/b/two", "a/hard")
os.symlink("b/two", "a/soft")
with open("a/soft", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
    view[0:3] = b"ONE"
assert Path("a/hard").read_bytes() == b"ONEtwo"
assert sorted(os.listdir("a")) == ["b", "hard", "soft"]
assert [entry.name for entry in os.scandir("a/b")] == ["two"]
os.remove("a/hard")
ok("files")
