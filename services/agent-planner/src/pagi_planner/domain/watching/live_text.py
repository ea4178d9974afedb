"""What a model has said of the answer that it is giving, and thought on the way to it."""

from __future__ import annotations

from collections.abc import Callable


class LiveText:
    """Grows as the model speaks.

    Args:
        seq: The event with which the model was asked.
        step: Which call of the model it is, from 1.
        on_growth: Called whenever there is more.
    """

    def __init__(self, seq: int, step: int, on_growth: Callable[[LiveText], None]) -> None:
        self.seq = seq
        self.step = step
        self.text = ""
        # Another object where the text is another one, and not the same that has grown.
        self.version = object()
        # Only ever grows: what was thought in vain was thought, too.
        self.thoughts = ""
        self._again: str | None = None
        self._thought_again: str | None = None
        self._on_growth = on_growth

    def add(self, text: str) -> None:
        """The next piece."""
        if self._again is None:
            self.text += text
        elif self._is_known(again := self._again + text):
            self._again = again
            return
        else:
            if not again.startswith(self.text):
                self.version = object()
            self.text, self._again = again, None
        self._on_growth(self)

    def think(self, text: str) -> None:
        """The next piece of its thoughts."""
        if self._thought_again is not None:
            again, self._thought_again = self._thought_again + text, None
            if self.thoughts.startswith(again):
                self._thought_again = again
                return
            text = again.removeprefix(self.thoughts)
        self.thoughts += text
        self._on_growth(self)

    def forget_text(self) -> None:
        """The answer stands in the journal now; the thoughts nowhere else."""
        self.text, self._again = "", None

    def begin_again(self) -> None:
        """The model is asked anew; as long as it says the same, nobody need hear it twice."""
        self._again = self._thought_again = ""

    def _is_known(self, again: str) -> bool:
        return len(again) <= len(self.text) and self.text.startswith(again)
