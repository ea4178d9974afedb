"""Makes names that are no UTF-8, and names with line ends, escapes and quotes."""

import os

from probe import ok

for name in (
    b"\xff\xfe",
    b"a\nb",
    b"\x1b[31m",
    b'"; rm -rf',
    b"\xed\xa0\x80",
    b"%00",
    b" ",
    b"-rf",
    "\u202etxt".encode(),
):
    with open(os.path.join(b".", name), "wb") as file:
        file.write(b"x")
ok("names")
