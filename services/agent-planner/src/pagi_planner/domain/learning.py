"""Lets memory learn from runs, behind their answers."""

from __future__ import annotations

from pagi_planner.domain.events import Event
from pagi_planner.domain.lesson import lesson_of, trial_of
from pagi_planner.domain.ports import Journal, Mind
from pagi_planner.domain.state import RunState


class Teacher:
    """Tells the mind of each run that ended: what it teaches, and what it says of the playbooks that it was given.

    Args:
        journal: Of the runs.
        mind: What learns. A repeat changes nothing there.
    """

    def __init__(self, journal: Journal, mind: Mind) -> None:
        self._journal = journal
        self._mind = mind

    async def deliver(self, event: Event) -> None:
        """Reads the run of a final event from the journal and tells of it.

        Raises:
            PagiError: The journal or memory cannot be reached, or memory refuses what it is told.
        """
        state = RunState.of(await self._journal.events(event.run_id))
        # A run counts once for a playbook. First what it teaches: where that is about one that it was given, the
        # playbook is brought up to date, and the win is counted with it.
        if lesson := lesson_of(state):
            await self._mind.learn(lesson)
        if trial := trial_of(state):
            await self._mind.count(trial)
