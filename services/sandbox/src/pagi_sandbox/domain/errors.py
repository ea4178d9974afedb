"""What can be wrong with a request, and what can be wrong with the sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from pagi_chassis.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)


class UnknownToolError(NotFoundError):
    """No tool of that name."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        """Names the tool, and those that were perhaps meant."""
        hint = f"did you mean {' or '.join(near)}?" if near else "ListTools names those there are"
        super().__init__(f"there is no tool {name[:64]!r}; {hint}")


class ArgumentsError(InvalidArgumentError):
    """The arguments are no JSON object, or do not fit the tool's schema."""

    def __init__(self, tool: str, path: str, fault: str) -> None:
        """`path` is a JSONPath (RFC 9535) into the arguments, "$" for the whole."""
        super().__init__(f"the arguments of {tool!r} are wrong at {path}: {fault}", field=f"arguments_json{path[1:]}")


class LimitError(InvalidArgumentError):
    """A limit that the operator does not allow."""

    def __init__(self, name: str, asked: int, lowest: int, highest: int) -> None:
        """Names the limit and what is allowed."""
        super().__init__(
            f"limits.{name} is {asked}; allowed are {lowest} to {highest}, and 0 for the default",
            field=f"limits.{name}",
        )


class SessionIdError(InvalidArgumentError):
    """A session id that cannot name a workspace."""

    def __init__(self, fault: str) -> None:
        """Says what is wrong with it."""
        super().__init__(
            f'session_id {fault}; it takes 1 to 200 characters, without control characters, "/" and "\\", '
            'and is not "." or ".."',
            field="session_id",
        )


class FilePathError(InvalidArgumentError):
    """A path that names no file that may be handed out."""

    def __init__(self, path: str, fault: str) -> None:
        """Says what is wrong with it."""
        super().__init__(f"{_quoted(path)} {fault}", field="path")


class NoSuchFileError(NotFoundError):
    """A path that names nothing."""

    def __init__(self, path: str) -> None:
        """Names it."""
        super().__init__(f"{_quoted(path)} does not exist in the workspace")


class EffectIdError(InvalidArgumentError):
    """An effect id that cannot name this call."""

    def __init__(self, fault: str) -> None:
        """Says what is wrong with it."""
        super().__init__(f"effect_id {fault}", field="effect_id")


class LedgerError(UnavailableError):
    """The effect ledger cannot be read or written."""


class TooManyCallsError(ResourceExhaustedError):
    """More calls wait than the sandbox keeps waiting."""

    def __init__(self, running: int, waiting: int) -> None:
        """Says how busy it is."""
        super().__init__(f"{running} tool calls run and {waiting} wait; try again shortly", retry_after_s=1.0)


class DuplicateToolError(Exception):
    """Two tools want one name; which of them a model would call must not be left to chance."""

    def __init__(self, name: str, first: str, second: str) -> None:
        """Names both origins."""
        super().__init__(f"two tools are named {name!r}: one from {first}, one from {second}; remove one of them")


class SchemaError(ValueError):
    """A tool's own parameters are no JSON Schema."""


def _quoted(path: str) -> str:
    return repr(path.encode("utf-8", "backslashreplace").decode("utf-8")[:200])


class IsolationError(FailedPreconditionError):
    """A tool needs more isolation than there is; it is not run with less."""

    def __init__(self, tool: str, needed: str, there: str, missing: str) -> None:
        """Names what is missing and how to get it."""
        super().__init__(
            f"tool {tool!r} is run under isolation profile {needed} or higher, and here is {there}; missing: {missing}"
        )
