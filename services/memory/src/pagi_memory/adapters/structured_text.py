"""Text that can be searched from data: every line says by itself what its value belongs to."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from pagi_memory.domain.errors import UnreadableDocumentError

# YAML may name one part many times, so that a small file means an endless one.
_MOST_LINES = 200_000


def text_of_data(data: object) -> str:
    """JSON or YAML as Markdown: a heading for each key at the top, then `path: value` lines."""
    lines: list[str] = []
    items = data.items() if isinstance(data, dict) else [("", data)]
    for key, value in items:
        if isinstance(value, dict | list) and key:
            lines += ["", f"# {_one_line(key)}", ""]
            lines += _bounded(_lines("", value), len(lines))
        else:
            lines += _bounded(_lines(_one_line(key), value), len(lines))
    return "\n".join(lines).strip() + "\n"


def text_of_csv(text: str) -> str:
    """A table as lines, each row with the names of its columns: `name: Rex; kind: dog`."""
    first = text.split("\n", 1)[0]
    # Not csv.Sniffer: it needs more rows than many tables have, and guesses letters.
    delimiter = max(",;\t|", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    if not rows:
        return ""
    names, *records = rows
    if not records:
        return "; ".join(names) + "\n"
    return "".join(f"{_record(names, record)}\n" for record in records)


def _record(names: list[str], record: list[str]) -> str:
    cells = []
    for i, value in enumerate(record):
        if value.strip():
            name = _one_line(names[i]) if i < len(names) else ""
            cells.append(f"{name}: {_one_line(value)}" if name else _one_line(value))
    return "; ".join(cells)


def _bounded(lines: Iterator[str], already: int) -> Iterator[str]:
    for number, line in enumerate(lines, already):
        if number > _MOST_LINES:
            raise UnreadableDocumentError(f"it holds more than {_MOST_LINES} values")
        yield line


def _lines(path: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(f"{path}.{_one_line(key)}" if path else _one_line(key), inner)
    elif isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            yield _line(path, ", ".join(_one_line(item) for item in value))
        else:
            for number, item in enumerate(value, 1):
                yield from _lines(f"{path}[{number}]", item)
                yield ""
    else:
        yield _line(path, str(value).strip())


def _line(path: str, value: str) -> str:
    return f"{path}: {value}" if path else value


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
