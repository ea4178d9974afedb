"""Vectors as rows of a matrix and as bytes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagi_memory.domain.model import Hit

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

_HIT = functools.partial(tuple.__new__, Hit)

# NumPy is imported where it is used: the embedder needs it anyway, and the import of the service stays quick.


def to_blob(vector: Vector) -> bytes:
    """Little-endian float32."""
    return bytes(vector.astype("<f4").tobytes())


def from_blob(blob: bytes) -> Vector:
    """What `to_blob` wrote."""
    import numpy as np

    vector: Vector = np.frombuffer(blob, dtype="<f4")
    return vector


def stacked(rows: Sequence[tuple[str, bytes]]) -> tuple[list[str], Matrix]:
    """Ids and a matrix of their vectors."""
    import numpy as np

    if not rows:
        return [], np.zeros((0, 0), dtype=np.float32)
    matrix = np.frombuffer(b"".join(blob for _, blob in rows), dtype="<f4").reshape(len(rows), -1)
    return [passage_id for passage_id, _ in rows], matrix


def best_rows(ids: Sequence[str], matrix: Matrix, vector: Vector, limit: int) -> list[Hit]:
    """The nearest rows by cosine (all vectors have length 1), best first; none where the lengths differ."""
    return best_of([(ids, matrix)], vector, limit)


def best_of(parts: Sequence[tuple[Sequence[str], Matrix]], vector: Vector, limit: int) -> list[Hit]:
    """The same among several matrices; one whose rows have another length is left out."""
    import numpy as np

    fitting = [(ids, matrix) for ids, matrix in parts if len(ids) and matrix.shape[1] == vector.shape[0]]
    if not fitting:
        return []
    # Not the matrix product: it wakes the threads of the BLAS, which wait for each other for 30 ms on a busy machine.
    scored = [np.vecdot(matrix, vector) for _, matrix in fitting]
    ids = fitting[0][0] if len(fitting) == 1 else [each for some, _ in fitting for each in some]
    scores = scored[0] if len(scored) == 1 else np.concatenate(scored)
    best = scores.argpartition(-limit)[-limit:] if limit < len(ids) else np.arange(len(ids))
    best = best[(-scores[best]).argsort(kind="stable")]
    # As Hit(id, score), in a third of the time.
    return list(map(_HIT, zip(map(ids.__getitem__, best.tolist()), scores[best].tolist(), strict=True)))
