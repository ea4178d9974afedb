"""Vectors as rows of a matrix and as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagi_memory.domain.model import Hit

if TYPE_CHECKING:
    from pagi_memory.domain.model import Matrix, Vector

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
    import numpy as np

    if not len(ids) or matrix.shape[1] != vector.shape[0]:
        return []
    # Not the matrix product: it wakes the threads of the BLAS, which wait for each other for 30 ms on a busy machine.
    scores = np.vecdot(matrix, vector)
    best = np.argpartition(scores, -limit)[-limit:] if limit < len(ids) else np.arange(len(ids))
    best = best[np.argsort(-scores[best], kind="stable")]
    return [Hit(ids[i], score) for i, score in zip(best.tolist(), scores[best].tolist(), strict=True)]
