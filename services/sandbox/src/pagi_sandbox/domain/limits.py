"""The operator's defaults and maxima."""

from __future__ import annotations

from dataclasses import dataclass

from pagi_sandbox.domain.errors import LimitError
from pagi_sandbox.domain.model import Limits

# Below these a call cannot even begin: the child itself needs about 30 MiB of address space.
LOWEST = Limits(timeout_ms=1, memory_mb=64, output_bytes=1)


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """What a call gets where it asks for nothing, and the most that it may ask for."""

    default: Limits
    maximum: Limits

    def resolve(self, asked: Limits) -> Limits:
        """The limits that a call runs with.

        Raises:
            LimitError: a limit is over the operator's maximum, negative or too small to run with.
        """
        return Limits(
            timeout_ms=self._one("timeout_ms", asked.timeout_ms),
            memory_mb=self._one("memory_mb", asked.memory_mb),
            output_bytes=self._one("output_bytes", asked.output_bytes),
        )

    def _one(self, name: str, asked: int) -> int:
        if asked == 0:
            return int(getattr(self.default, name))
        lowest, highest = int(getattr(LOWEST, name)), int(getattr(self.maximum, name))
        if not lowest <= asked <= highest:
            raise LimitError(name, asked, lowest, highest)
        return asked
