"""Measures retrieval and prints a table: `make bench-retrieval`, or `python -m benchmarks.retrieval [FOLDER ...]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from pagi_memory.adapters.matrix_index import MatrixIndex
from pagi_memory.adapters.onnx_embedder import OnnxEmbedder
from pagi_memory.adapters.sqlite_passages import SqlitePassageStore
from pagi_memory.settings import MemorySettings
from pagi_memory.testing import InMemoryVectorIndex

from benchmarks.retrieval.labelled import LabelledSetError, beir, shipped
from benchmarks.retrieval.measure import Candidates, Quality, look_up, quality

SHIPPED = Path(__file__).parents[2] / "knowledge_bases"
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_ALL_IN_MEMORY = 10**9
# Means over the same questions that differ by less differ by the order in which they were added up.
_SAME = 1e-9


def main() -> int:
    """Runs the command; 1 where both kinds together are worse than the better of them alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="more sets, in the form of BEIR")
    parser.add_argument("--weights", action="store_true", help="show other weights than the default too")
    parser.add_argument("--only", action="store_true", help="leave the shipped set out")
    options = parser.parse_args()
    sets = [*(() if options.only else (SHIPPED,)), *options.folders]
    default = MemorySettings.model_fields["retrieval_lexical_weight"].default
    _write(f"| set | questions | by | nDCG@10 | recall@10 | right in first five |\n|{'---|' * 6}")
    try:
        fine = [asyncio.run(_measure(folder, default, options.weights)) for folder in sets]
    except LabelledSetError as error:
        sys.stderr.write(f"bench-retrieval: {error}\n")
        return 1
    return 0 if all(fine) else 1


async def _measure(folder: Path, default: float, every_weight: bool) -> bool:
    embedder = OnnxEmbedder()
    with tempfile.TemporaryDirectory(prefix="pagi-retrieval-") as scratch:
        store = SqlitePassageStore(Path(scratch) / "memory.db")
        await embedder.start()
        await store.start()
        try:
            # Exact search, so that what is measured is the ranking and not an index.
            index = MatrixIndex(InMemoryVectorIndex(), store, small=_ALL_IN_MEMORY)
            make = shipped if folder == SHIPPED else beir
            found = await look_up(await make(folder, store, index, embedder), store, index, embedder)
        finally:
            await store.stop()
            await embedder.stop()
    name = "shipped" if folder == SHIPPED else folder.name
    if name == "shipped":
        _row(f"{name}, hard ones", "both", [c for c in found if c.question.hard], default)
    for weight in _WEIGHTS if every_weight else ():
        _row(name, f"weight {weight}", found, weight)
    dense, words = _row(name, "meaning", found, 0), _row(name, "words", found, 1)
    both = _row(name, f"both, weight {default}", found, default)
    return all(_is_not_below(both, alone) for alone in (dense, words))


def _is_not_below(both: Quality, alone: Quality) -> bool:
    return both.ndcg + _SAME >= alone.ndcg and both.recall + _SAME >= alone.recall


def _row(name: str, by: str, found: list[Candidates], weight: float) -> Quality:
    measured = quality(found, weight)
    figures = f"{measured.ndcg:.3f} | {measured.recall:.3f} | {measured.in_five}"
    _write(f"| {name} | {measured.questions} | {by} | {figures} |")
    return measured


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
