"""The operator's defaults and maxima."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from pagi_sandbox.domain.errors import LimitError
from pagi_sandbox.domain.model import Limits

# Below these a call cannot even begin: the child itself needs about 30 MiB of address space.
LOWEST = Limits(timeout_ms=1, memory_mb=64, output_bytes=1, cpu_ms=1, disk_mb=1, processes=1)
NAMES = tuple(one.name for one in fields(Limits))
_NOTHING = Limits()


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """What a call gets where it asks for nothing, and the most that it may ask for."""

    default: Limits
    maximum: Limits
    # What most calls run with, found once.
    _unasked: Limits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Finds what a call gets that asks for nothing."""
        object.__setattr__(self, "_unasked", self._resolve(_NOTHING))

    def resolve(self, asked: Limits) -> Limits:
        """The limits that a call runs with.

        Raises:
            LimitError: a limit is over the operator's maximum, negative or too small to run with.
        """
        return self._unasked if asked == _NOTHING else self._resolve(asked)

    def _resolve(self, asked: Limits) -> Limits:
        limits = Limits(**{name: self._one(name, getattr(asked, name)) for name in NAMES})
        if asked.cpu_ms or not self.default.cpu_ms:
            return limits
        # Who asks for a long call and says nothing of processor time wants to use it.
        cpu_ms = max(limits.cpu_ms, min(limits.timeout_ms, self.maximum.cpu_ms))
        return replace(limits, cpu_ms=cpu_ms)

    def _one(self, name: str, asked: int) -> int:
        if asked == 0:
            return int(getattr(self.default, name))
        lowest, highest = int(getattr(LOWEST, name)), int(getattr(self.maximum, name))
        if not lowest <= asked <= highest:
            raise LimitError(name, asked, lowest, highest)
        return asked
