"""Makes the parser nest: brackets by the hundred thousand."""

from probe import got, held

try:
    compile("(" * 200_000 + ")" * 200_000, "nested", "eval")
except (SyntaxError, MemoryError, RecursionError) as error:
    held("nested brackets", error)
else:
    got("nested brackets")
