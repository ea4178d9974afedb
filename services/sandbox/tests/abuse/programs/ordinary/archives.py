"""Packs and unpacks in the workspace."""

import gzip
import shutil
import tarfile
import zipfile
from pathlib import Path

from probe import ok

Path("folder").mkdir()
Path("folder/a.txt").write_text("a" * 1000)
with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write("folder/a.txt")
with tarfile.open("a.tar.gz", "w:gz") as archive:
    archive.add("folder")
with tarfile.open("a.tar.gz") as archive:
    archive.extractall("unpacked")
assert gzip.decompress(gzip.compress(b"x")) == b"x"
shutil.copytree("folder", "copy")
shutil.rmtree("folder")
assert Path("unpacked/folder/a.txt").exists()
ok("archives")
