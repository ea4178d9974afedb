"""Counts tokens as the embedding model that is carried in the package does."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pagi_memory.adapters.onnx_embedder import WEIGHTS, check_published

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class WordPieceTokens:
    """Where a document is cut does not depend on the model that embeds it: another one finds the same pieces."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._path = weights / "tokenizer.json"

    def count(self, text: str) -> int:
        """Tokens of a text without the special ones, however long it is.

        Raises:
            WeightsError: The tokenizer's file is missing or is not the published one.
        """
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        check_published(self._path)
        tokenizer: Tokenizer = Tokenizer.from_file(str(self._path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
