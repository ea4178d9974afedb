"""Works with text of the whole world, in names and content."""

import unicodedata
from pathlib import Path

from probe import ok

text = "naïve café, Ελληνικά, עברית, 日本語, 🙂‍↔️"
Path("文件-é.txt").write_text(text, encoding="utf-8")
assert Path("文件-é.txt").read_text() == text
assert unicodedata.normalize("NFD", "é") != "é"
assert "straße".upper() == "STRASSE"
print(text)
ok("unicode")
