"""A transaction written once for every database: a generator that yields statements and is sent their rows.

It knows nothing of threads or of event loops, so the same one runs on sqlite3 in a thread and on asyncpg.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

R = TypeVar("R")
Row = Sequence[Any]


class Statement(NamedTuple):
    """SQL with "?" for each parameter. It holds no "?" else."""

    sql: str
    parameters: Sequence[Any] = ()


class Repeated(NamedTuple):
    """SQL that is run with each of the parameters; gives no rows."""

    sql: str
    parameters: Sequence[Sequence[Any]]


Script = Generator[Statement | Repeated, list[Row], R]


class SqlDatabase(Protocol):
    """Runs scripts. It may run one again from its beginning, so a script is given as what makes it."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """For the few statements that differ."""

    async def start(self) -> None:
        """Opens it, makes what is not there.

        Raises:
            StoreUnavailableError: It cannot be opened or is no database.
        """

    async def stop(self) -> None:
        """Finishes what was asked for and closes it."""

    async def read(self, script: Callable[[], Script[R]]) -> R:
        """Runs a script that only reads; all of its statements see one state.

        Raises:
            StoreUnavailableError: It cannot be read.
        """

    async def write(self, script: Callable[[], Script[R]], *, after: Callable[[], None] | None = None) -> R:
        """Runs a script in one transaction: all that it does is kept, or nothing where it raises.

        Args:
            script: What is done.
            after: Called when it was committed or was not, before anybody is told.

        Raises:
            StoreUnavailableError: It cannot be written.
        """


def marks(values: Sequence[object]) -> str:
    """As many "?" as there are values."""
    return ", ".join("?" for _ in values)
