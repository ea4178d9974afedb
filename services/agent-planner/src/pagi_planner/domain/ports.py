"""What a run needs of the world. Adapters and fakes implement these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from pagi_planner.domain.model import (
    Context,
    Exchange,
    FileList,
    ModelAnswer,
    ModelRequest,
    ModelTraits,
    RunRequest,
    RunStatus,
    RunSummary,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    WorkspaceFile,
)
from pagi_planner.domain.ownership import FIRST_EPOCH, Claim, Order
from pagi_planner.domain.state.events import Event, EventType
from pagi_planner.domain.state.lesson import Account


class Model(Protocol):
    """Something that decides on the next step."""

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """Asks for the next step.

        Raises:
            UnknownModelError: There is no such model.
            PagiError: The model cannot be reached or refuses.
        """


class Words(Protocol):
    """Where a model's words go as it says them."""

    def add(self, text: str) -> None:
        """The next piece of the answer's text."""

    def think(self, text: str) -> None:
        """The next piece of how the model comes to its answer; never a part of it."""

    def begin_again(self) -> None:
        """The call is repeated: what comes now stands in place of what came."""


@runtime_checkable
class StreamingModel(Model, Protocol):
    """A model that can be heard while it speaks."""

    async def stream(self, request: ModelRequest, words: Words) -> ModelAnswer:
        """Asks for the next step, like `answer`; the pieces of the text go to `words`, and together are its text.

        Raises:
            UnknownModelError: There is no such model.
            PagiError: The model cannot be reached or refuses.
        """


class Catalogue(Protocol):
    """Knows models."""

    async def traits(self, model: str) -> ModelTraits:
        """What is known of a model: nothing where nobody can be asked. The empty name is the default model's."""


class Documents(Protocol):
    """Reads files that are not text."""

    async def text_of_pdf(self, content: bytes) -> str:
        """The text of a PDF.

        Raises:
            UnreadableFileError: It cannot be read.
        """


class Memory(Protocol):
    """Knowledge and history."""

    async def recall(self, request: RunRequest) -> Context:
        """All that the run begins with.

        Raises:
            UnknownPersonaError: There is no such persona.
            PagiError: Memory cannot be reached.
        """

    async def remember(self, exchange: Exchange) -> None:
        """Adds to the session's history; the same exchange twice is stored once.

        Raises:
            PagiError: Memory cannot be reached.
        """


class Mind(Protocol):
    """Learns from runs. Telling it of one run twice changes nothing."""

    async def record(self, accounts: Sequence[Account]) -> Sequence[str]:
        """Keeps how runs did what they were asked, and counts how those ended that were given playbooks.

        Returns:
            For each account why it was refused; empty where it was not.

        Raises:
            PagiError: Memory cannot be reached; a repeat is harmless.
        """


class Archive(Protocol):
    """Memory as people look at it and change it. Who asks is told by the tenant of the work in progress."""

    async def ask(self, rpc: str, **fields: Any) -> dict[str, Any]:
        """Hands a question on to memory and gives its answer as JSON.

        Args:
            rpc: Its name in `pagi.memory.v1.Memory`.
            fields: Of its request.

        Raises:
            PagiError: What memory says, or that it cannot be reached.
        """

    def export(self, session_id: str) -> AsyncIterator[str]:
        """One session, or all where the id is empty, as JSON Lines.

        Raises:
            NotFoundError: There is no such session.
            PagiError: Memory cannot be reached.
        """


class ToolRunner(Protocol):
    """Runs tools."""

    @property
    def know_effects(self) -> bool:
        """Whether a repeat of an effect id gives the first result, or says that it is unknown, and does nothing."""

    async def execute(self, call: ToolCall, *, session_id: str, effect_id: str) -> ToolOutcome:
        """Runs one tool to its end.

        Args:
            call: Its arguments are a JSON object.
            session_id: Whose workspace the tool sees.
            effect_id: Names the effect, so that a repeat can be recognised.

        Raises:
            InvalidArgumentError: The arguments do not fit the tool's schema.
            PagiError: The sandbox failed; what the tool did is unknown unless it is read-only.
        """


class Tools(ToolRunner, Protocol):
    """What the agent can do."""

    async def specs(self) -> tuple[ToolSpec, ...]:
        """Every tool.

        Raises:
            PagiError: The tools cannot be reached and none are known from before.
        """


class SessionFiles(Protocol):
    """What tools left in the sessions' workspaces."""

    async def list(self, session_id: str, path: str = "") -> FileList:
        """The files below a folder; a session without any has none.

        Raises:
            InvalidArgumentError: The path is not one within a workspace.
            NotFoundError: There is no such folder.
            PagiError: The sandbox failed.
        """

    def open(
        self, session_id: str, path: str
    ) -> AbstractAsyncContextManager[tuple[WorkspaceFile, AsyncIterator[bytes]]]:
        """One file and its pieces, as long as the context is held.

        Raises:
            InvalidArgumentError: The path is not that of a file within a workspace.
            NotFoundError: There is no such file.
            PagiError: The sandbox failed.
        """


class Journal(Protocol):
    """The append-only record of every run: audit trail, checkpoint and stream in one."""

    def append(self, event: Event, epoch: int = FIRST_EPOCH) -> None:
        """Puts the event in line; the order is kept. It is durable after the next `sync`.

        Args:
            event: The first one of a run makes the run this planner's.
            epoch: Of the claim under which the run is worked on; a later claim of somebody else voids it.
        """

    async def sync(self, run_id: str) -> None:
        """Waits until everything appended so far is durable.

        Raises:
            RunTakenOverError: Another planner has the run now; nothing further may be done for it here.
            JournalError: An event of this run could not be written; the run may not go on.
        """

    async def events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The events of a run in order; none where there is no such run.

        Args:
            run_id: Which run.
            after: Only events behind this place in the run.
            limit: At most this many; None: all.

        Raises:
            JournalError: It could not be read.
        """


class RunIndex(Protocol):
    """Runs, found by their rows."""

    async def runs(
        self, *, limit: int, before: str = "", session_id: str = "", status: RunStatus | None = None
    ) -> Sequence[RunSummary]:
        """The newest runs, newest first.

        Args:
            limit: At most this many.
            before: The run id after which the list goes on; empty: from the newest.
            session_id: Only of this session; empty: of all.
            status: Only those that stand there; None: all.
        """

    async def unfinished(self) -> Sequence[str]:
        """The ids of runs that began and have no final event."""


class RunLeases(Protocol):
    """Who works on which run. A claim is one atomic step; what an older one writes after it is refused."""

    @property
    def owner(self) -> str:
        """This planner's name among all that share the store."""

    async def claim(self, run_ids: Sequence[str]) -> Sequence[Claim]:
        """Takes over those of the runs that are unfinished and that no other living planner works on.

        A run of this planner is claimed, too: who calls knows that nothing works on it here.

        Raises:
            JournalError: The store cannot be reached.
        """

    async def release(self, run_id: str, epoch: int) -> None:
        """Lets go of a run that waits for a person: whichever planner hears the word claims it.

        Raises:
            JournalError: The store cannot be reached.
        """

    async def lapsed(self) -> Sequence[str]:
        """Unfinished runs whose planner is dead, and those of this one, at work or not.

        Raises:
            JournalError: The store cannot be reached.
        """

    async def renew(self) -> None:
        """Says that this planner lives: one statement for all of its runs.

        Raises:
            JournalError: The store cannot be reached.
        """

    async def hand_on(self, order: Order) -> None:
        """Leaves word for the planner that has the run; the same word twice is one.

        Raises:
            JournalError: The store cannot be reached.
        """

    async def orders(self) -> Sequence[Order]:
        """Takes what others have left for the runs of this planner.

        Raises:
            JournalError: The store cannot be reached.
        """

    async def wait_for_orders(self, timeout_s: float) -> None:
        """Returns when somebody has left word, and after the time at the latest."""


class JournalTail(Protocol):
    """The journal as a queue for those who must hear of certain events, each with a cursor of its own."""

    @property
    def last_position(self) -> int:
        """The position of the newest durable event."""

    async def wait(self, position: int) -> None:
        """Returns when something stands behind the position."""

    async def after(self, position: int, types: Collection[EventType], limit: int) -> Sequence[tuple[int, Event]]:
        """The next events of these types behind a position, each with its own position."""

    async def cursor(self, reader: str) -> int:
        """How far a reader has come; 0 at first."""

    def advance(self, reader: str, position: int) -> None:
        """Notes how far a reader has come."""

    async def turn(self, reader: str) -> None:
        """Returns when this planner is the one that reads for the reader: of several it is one at a time."""

    def has_turn(self, reader: str) -> bool:
        """Whether it still is."""


class Notifier(Protocol):
    """Tells people and systems that something happened to a run."""

    async def notify(self, events: Sequence[Event]) -> Sequence[str]:
        """Publishes in this order; the same event may come twice.

        Returns:
            For each event why it was refused; nothing where none was.

        Raises:
            UnavailableError: It was not published.
        """


class Timings(Protocol):
    """Measures how long the phases of runs take."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Measures the block."""


class Clock(Protocol):
    """Time of day."""

    def now(self) -> datetime:
        """The current time, with its zone (UTC)."""


class RunStore(RunIndex, RunLeases, JournalTail, Protocol):
    """What one database knows of runs beside their events."""
