"""Keeps a rolling summary of what no longer fits into a session's context."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence

from pagi_chassis import correlation
from pagi_chassis.errors import PagiError

from pagi_memory.domain.condensing import condensed, estimate_tokens
from pagi_memory.domain.limits import Defaults
from pagi_memory.domain.model import SessionKey
from pagi_memory.domain.ports import SessionStore, Summarizer
from pagi_memory.domain.session import Recollection, StoredTurn, Summary

log = logging.getLogger(__name__)

# Roles and separators that are added to each turn on its way to a model (tokens).
_TURN_TOKENS = 4
# So many sessions are summed up at once; the others wait.
_AT_ONCE = 2


class Summaries:
    """Sums up in the background, after turns were added, so that no run waits for it.

    Each turn goes into a summary once. What no summary covers yet is condensed on the spot when it is asked for, so
    that nothing is ever missing from a context.
    """

    def __init__(self, store: SessionStore, summarizer: Summarizer, *, defaults: Defaults | None = None) -> None:
        self._store = store
        self._summarizer = summarizer
        self._defaults = defaults or Defaults()
        self._rolling: dict[SessionKey, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def start(self) -> None:
        """Begins with the first turns that are added."""

    async def stop(self) -> None:
        """Gives up what is under way; the next turn of the session begins it again."""
        for task in self._rolling.values():
            task.cancel()
        await asyncio.gather(*self._rolling.values(), return_exceptions=True)

    async def recollect(self, key: SessionKey, *, max_turns: int, max_tokens: int) -> Recollection:
        """The newest turns that fit, and a summary of what was said before them."""
        window = await self._store.window(key, max_turns)
        shown = fitting(window.newest, max_tokens)
        gap = _without(window.pending, shown)
        summary = window.summary.text
        if gap:
            rest = condensed("", [each.turn for each in gap], max_tokens=self._defaults.summary_tokens)
            summary = f"{summary}\n{rest}" if summary else rest
        return Recollection(summary, [each.turn for each in shown])

    def roll_soon(self, key: SessionKey) -> None:
        """Brings the summary of a session in step, in the background; does nothing while that is under way."""
        if key not in self._rolling:
            self._rolling[key] = task = asyncio.create_task(self._roll_in_background(key), name="summary")
            task.add_done_callback(lambda _: self._rolling.pop(key, None))

    async def settle(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._rolling.values(), return_exceptions=True)

    async def roll(self, key: SessionKey) -> None:
        """Brings the summary of a session in step.

        Raises:
            PagiError: The store or the summarizer cannot be reached; the turns wait for the next time.
        """
        defaults = self._defaults
        while True:
            window = await self._store.window(key, defaults.max_turns)
            older = _without(window.pending, fitting(window.newest, defaults.max_history_tokens))
            if len(older) < self._summarizer.least_turns:
                return
            digest = await self._summarizer.summarize(
                window.summary.text,
                [each.turn for each in older],
                max_tokens=defaults.summary_tokens,
                effect_id=_effect_id(key, window.summary, older),
            )
            turns = window.summary.turns + len(older)
            made = Summary(digest.text, digest.made_by, turns, window.summary.version)
            # Where somebody has changed the turns meanwhile, the next look begins anew.
            await self._store.roll(key, made, [each.number for each in older])

    async def _roll_in_background(self, key: SessionKey) -> None:
        async with self._turn:
            with correlation.bind(tenant=key.tenant, session_id=key.session_id):
                try:
                    await self.roll(key)
                except PagiError as error:
                    log.warning("the session is not summed up yet: %s", error)
                except Exception:
                    # Nobody waits for this task: said here or nowhere.
                    log.exception("the session cannot be summed up")


def fitting(newest: Sequence[StoredTurn], max_tokens: int) -> list[StoredTurn]:
    """As many of the last turns as fit, in their order. A turn is whole or out."""
    chosen: list[StoredTurn] = []
    for stored in reversed(newest):
        max_tokens -= estimate_tokens(stored.turn.text) + _TURN_TOKENS
        if max_tokens < 0:
            break
        chosen.append(stored)
    return chosen[::-1]


def _without(turns: Sequence[StoredTurn], shown: Sequence[StoredTurn]) -> list[StoredTurn]:
    numbers = {each.number for each in shown}
    return [each for each in turns if each.number not in numbers]


def _effect_id(key: SessionKey, summary: Summary, turns: Sequence[StoredTurn]) -> str:
    """Names one summary of these turns, so that the gateway answers a repeat from memory."""
    parts = (key.tenant, key.session_id, str(summary.version), *(str(each.number) for each in turns))
    return f"summary/{hashlib.sha256(chr(0).join(parts).encode('utf-8', 'replace')).hexdigest()[:32]}"
