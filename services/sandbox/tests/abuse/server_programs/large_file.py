"""Writes behind the 8 GiB of a file, which on a file system without holes would take as much."""

from pathlib import Path

from probe import attempt


def write() -> int:
    with (Path.home() / "large").open("wb") as file:
        file.seek(8 * 2**30)
        return file.write(b"x")


attempt("write a byte at 8 GiB", write)
