"""Keeps a rolling summary of what no longer fits into a session's context."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pagi_chassis import correlation
from pagi_chassis.errors import PagiError

from pagi_memory.domain.condensing import BYTES_PER_TOKEN, condensed, estimate_tokens
from pagi_memory.domain.limits import Defaults
from pagi_memory.domain.model import SessionKey, Turn
from pagi_memory.domain.ports import SessionStore, Summarizer
from pagi_memory.domain.session import Digest, Recollection, StoredTurn, Summary, Window

log = logging.getLogger(__name__)

# Roles and separators that are added to each turn on its way to a model (tokens).
_TURN_TOKENS = 4
# A turn that is cut to less than this says nothing.
_LEAST_TOKENS = 100
_CUT = "…"
# So many sessions are summed up at once; the others wait.
_AT_ONCE = 2
# Of so many sessions it is known how much they can take before something is to be summed up; of others it is looked.
_MOST_KNOWN = 10_000
# So many times the turns that are worth a call wait for a summarizer that fails; then they are condensed without it.
_MOST_WAITING = 5

_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True)
class _Room:
    """How much a session can take before there is something to sum up."""

    turns: int
    tokens: int

    @property
    def is_left(self) -> bool:
        return self.turns > 0 and self.tokens >= 0

    def less(self, turns: Sequence[Turn]) -> _Room:
        return _Room(self.turns - len(turns), self.tokens - sum(map(_tokens_of, turns)))


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
        self._room: OrderedDict[SessionKey, _Room] = OrderedDict()
        # Turns that were waiting when the summarizer last failed: it is asked again when as many as are worth a call
        # have come on top, since a model that fails costs time and money each time.
        self._failed_at: OrderedDict[SessionKey, int] = OrderedDict()

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
        older = _without(window.pending, shown)
        if (max_turns, max_tokens) == (self._defaults.max_turns, self._defaults.max_history_tokens):
            self._note_room(key, window, shown, len(older))
        given = shown or _beginning(window.newest, max_tokens)
        gap = older if shown else _without(older, given)
        summary = window.summary.text
        if gap:
            rest = condensed("", [each.turn for each in gap], max_tokens=self._defaults.summary_tokens)
            summary = f"{summary}\n{rest}" if summary else rest
        return Recollection(summary, [each.turn for each in given])

    def added(self, key: SessionKey, turns: Sequence[Turn]) -> None:
        """Turns were added: where others no longer fit beside them, the summary is brought in step, in the background.

        Does nothing while that is under way.
        """
        room = self._room.pop(key, None)
        if room and (rest := room.less(turns)).is_left:
            self._room[key] = rest
        elif key not in self._rolling:
            self._rolling[key] = task = asyncio.create_task(self._roll_in_background(key), name="summary")
            task.add_done_callback(lambda _: self._rolling.pop(key, None))

    async def settle(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._rolling.values(), return_exceptions=True)

    async def roll(self, key: SessionKey) -> None:
        """Brings the summary of a session in step.

        Raises:
            PagiError: The store or the summarizer cannot be reached; the turns wait for the next time. One that goes
                on failing is done without.
        """
        defaults = self._defaults
        while True:
            window = await self._store.window(key, defaults.max_turns)
            shown = fitting(window.newest, defaults.max_history_tokens)
            older = _without(window.pending, shown)
            if len(older) < self._worth_a_call(key):
                self._note_room(key, window, shown, len(older))
                return
            digest = await self._digest(key, window.summary, older)
            made = Summary(digest.text, digest.made_by, version=window.summary.version)
            # Where somebody has changed the turns meanwhile, the next look begins anew.
            await self._store.roll(key, made, [each.number for each in older])

    async def _digest(self, key: SessionKey, summary: Summary, older: Sequence[StoredTurn]) -> Digest:
        turns, most = [each.turn for each in older], self._defaults.summary_tokens
        try:
            digest = await self._summarizer.summarize(
                summary.text, turns, max_tokens=most, effect_id=_effect_id(key, summary, older)
            )
        except PagiError as error:
            if len(older) < _MOST_WAITING * self._summarizer.least_turns:
                _put_bounded(self._failed_at, key, len(older))
                raise
            log.warning("%d turns of the session are condensed without a model: %s", len(older), error)
            digest = Digest(condensed(summary.text, turns, max_tokens=most), "extract")
        self._failed_at.pop(key, None)
        return digest

    def _worth_a_call(self, key: SessionKey) -> int:
        return self._failed_at.get(key, 0) + self._summarizer.least_turns

    def _note_room(self, key: SessionKey, window: Window, shown: Sequence[StoredTurn], older: int) -> None:
        if (turns := self._worth_a_call(key) - older) <= 0:
            # Others have changed it: the next turns that are added begin a look.
            self._room.pop(key, None)
            return
        tokens = self._defaults.max_history_tokens - sum(_tokens_of(each.turn) for each in shown)
        if len(shown) == len(window.newest):
            turns += self._defaults.max_turns - len(shown)
        _put_bounded(self._room, key, _Room(turns, tokens))

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


def _put_bounded(known: OrderedDict[SessionKey, _Known], key: SessionKey, value: _Known) -> None:
    known[key] = value
    while len(known) > _MOST_KNOWN:
        known.popitem(last=False)


def fitting(newest: Sequence[StoredTurn], max_tokens: int) -> list[StoredTurn]:
    """As many of the last turns as fit, in their order. A turn is whole or out."""
    chosen: list[StoredTurn] = []
    for stored in reversed(newest):
        max_tokens -= _tokens_of(stored.turn)
        if max_tokens < 0:
            break
        chosen.append(stored)
    return chosen[::-1]


def _beginning(newest: Sequence[StoredTurn], max_tokens: int) -> list[StoredTurn]:
    """How the last turn begins, where it alone is more than fits: people mostly speak of what was said last."""
    if not newest or max_tokens < _LEAST_TOKENS:
        return []
    last = newest[-1]
    room = (max_tokens - _TURN_TOKENS) * BYTES_PER_TOKEN - len(_CUT.encode())
    text = last.turn.text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + _CUT
    return [replace(last, turn=replace(last.turn, text=text))]


def _tokens_of(turn: Turn) -> int:
    return estimate_tokens(turn.text) + _TURN_TOKENS


def _without(turns: Sequence[StoredTurn], shown: Sequence[StoredTurn]) -> list[StoredTurn]:
    numbers = {each.number for each in shown}
    return [each for each in turns if each.number not in numbers]


def _effect_id(key: SessionKey, summary: Summary, turns: Sequence[StoredTurn]) -> str:
    """Names one summary of these turns, so that the gateway answers a repeat from memory."""
    parts = (key.tenant, key.session_id, str(summary.version), *(str(each.number) for each in turns))
    return f"summary/{hashlib.sha256(chr(0).join(parts).encode('utf-8', 'replace')).hexdigest()[:32]}"
