"""A call with an effect id happens once: repeats get the first result, and one that comes meanwhile joins the first."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from pagi_chassis.errors import UnavailableError

from pagi_sandbox.domain.errors import EffectIdError
from pagi_sandbox.domain.model import EffectName, ToolOutcome, ToolRequest, Verdict
from pagi_sandbox.domain.ports import EffectLedger
from pagi_sandbox.domain.tool import Effects

MAX_LENGTH = 256
_CANCELLED = "the call was cancelled after it had begun; whether it did its work is not known"
_DIED = "the sandbox died under the call, or its result was lost; whether it did its work is not known"

# Runs the call; awaits what it is given right before the tool starts.
Work = Callable[[Callable[[], Awaitable[None]]], Awaitable[ToolOutcome]]


@dataclass(slots=True)
class _Running:
    fingerprint: str
    task: asyncio.Task[ToolOutcome]
    waiting: int = 0


class OnceByEffect:
    """Runs each effect of a tenant once.

    That an effectful tool begins is noted durably first, so that after the death of the sandbox its outcome counts as
    unknown instead of being tried again. Any other tool may simply run again, and pays for no such note.
    """

    def __init__(self, ledger: EffectLedger) -> None:
        """Remembers in the ledger."""
        self._ledger = ledger
        self._running: dict[EffectName, _Running] = {}

    async def run(self, request: ToolRequest, effects: Effects, work: Work) -> ToolOutcome:
        """The outcome of the effect, by running the work or from memory.

        A caller that is cancelled stops the work only where nobody else waits for it.

        Raises:
            EffectIdError: the id is too long, or names another call already.
            UnavailableError: the tool was not started.
        """
        if len(request.effect_id) > MAX_LENGTH:
            raise EffectIdError(f"has {len(request.effect_id)} characters; at most {MAX_LENGTH} are allowed")
        name, fingerprint = EffectName(request.tenant, request.effect_id), _fingerprint(request)
        if name not in self._running:
            known = await self._ledger.find(name)
            # Unless it was begun while we looked.
            if known is not None and name not in self._running:
                _check(known.fingerprint, fingerprint)
                return replace(known.outcome or ToolOutcome(Verdict.OUTCOME_UNKNOWN, error=_DIED), replayed=True)
        running = self._running.get(name)
        first = running is None
        if running is None:
            task = asyncio.create_task(self._once(name, fingerprint, effects, work))
            self._running[name] = running = _Running(fingerprint, task)
        _check(running.fingerprint, fingerprint)
        outcome = await self._wait(name, running)
        return outcome if first else replace(outcome, replayed=True)

    async def _wait(self, name: EffectName, running: _Running) -> ToolOutcome:
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        finally:
            running.waiting -= 1
            if running.waiting == 0:
                running.task.cancel()
                if self._running.get(name) is running:
                    del self._running[name]

    async def _once(self, name: EffectName, fingerprint: str, effects: Effects, work: Work) -> ToolOutcome:
        durable = effects is Effects.EFFECTFUL
        noted = started = False

        async def begin() -> None:
            nonlocal noted, started
            if durable:
                noted = True
                await self._ledger.begin(name, fingerprint)
                started = True

        try:
            outcome = await work(begin)
        except UnavailableError:
            if noted:
                self._ledger.forget(name)
            raise
        except asyncio.CancelledError:
            if started:
                self._ledger.finish_soon(name, fingerprint, ToolOutcome(Verdict.OUTCOME_UNKNOWN, error=_CANCELLED))
            elif noted:
                self._ledger.forget(name)
            raise
        if durable:
            await self._ledger.finish(name, fingerprint, outcome)
        elif outcome.verdict is not Verdict.OUTCOME_UNKNOWN:
            self._ledger.finish_soon(name, fingerprint, outcome)
        return outcome


def _check(known: str, asked: str) -> None:
    if known != asked:
        raise EffectIdError("names another call already: the tool, the session or the arguments are not the same")


def _fingerprint(request: ToolRequest) -> str:
    tool = request.tool.encode("utf-8", "surrogatepass")
    session = request.session_id.encode("utf-8", "surrogatepass")
    arguments = request.arguments_json.encode("utf-8", "surrogatepass")
    told = b"%d:%b%d:%b%d:%b" % (len(tool), tool, len(session), session, len(arguments), arguments)
    return hashlib.blake2b(told, digest_size=16).hexdigest()
