"""Understand: gather the persona, the history, the passages and the tools."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from pagi_planner.domain import records
from pagi_planner.domain.concurrency import together
from pagi_planner.domain.context import fit
from pagi_planner.domain.errors import AWAY, UnknownToolError
from pagi_planner.domain.events import EventType
from pagi_planner.domain.model import Context, ToolSpec
from pagi_planner.domain.work import Work

log = logging.getLogger(__name__)


async def understand(work: Work) -> None:
    """Asks memory and the tools at once, and fits what comes to the model's window.

    Raises:
        InvalidArgumentError: The request names a tool or a persona that does not exist.
    """
    degraded: list[str] = []
    works: list[Coroutine[Any, Any, Any]] = [_recall(work, degraded), _find_tools(work, degraded)]
    context, specs = await together(works)
    work.specs = {spec.name: spec for spec in specs}
    notices = ("No tools can be reached now. Say so where one would be needed.",) if "sandbox" in degraded else ()
    fitted = fit(context, work.request, max_tokens=work.parts.policy.max_context_tokens, notices=notices)
    work.note(EventType.CONTEXT_LOADED, records.context(fitted, specs, degraded))


async def tools_of(work: Work) -> dict[str, ToolSpec]:
    """The tools that the run may call now: those that it began with, and those of the planner's own that it needs."""
    own = work.parts.toolbox.offered(work)
    found = await _find_again(work)
    return {**found, **own} if own else found


async def _find_again(work: Work) -> dict[str, ToolSpec]:
    """The tools that the run began with, looked up where another process began it; those that are gone are left out."""
    if work.specs is None:
        try:
            known = {spec.name: spec for spec in await work.parts.tools.specs()}
        except AWAY as error:
            log.warning("the run goes on without tools: %s", error)
            return {}
        work.specs = {name: known[name] for name in work.state.tools if name in known}
    return work.specs


async def _recall(work: Work, degraded: list[str]) -> Context:
    try:
        return await work.parts.memory.recall(work.request)
    except AWAY as error:
        log.warning("the run goes on without memory: %s", error)
        degraded.append("memory")
        return Context()


async def _find_tools(work: Work, degraded: list[str]) -> list[ToolSpec]:
    wanted = work.request.tools
    try:
        known = {spec.name: spec for spec in await work.parts.tools.specs()}
    except AWAY as error:
        log.warning("the run goes on without tools: %s", error)
        degraded.append("sandbox")
        return []
    for place, name in enumerate(wanted or ()):
        if name not in known:
            raise UnknownToolError(
                f"there is no tool named {name!r}; the tools are: {', '.join(sorted(known)) or 'none'}",
                field=f"tools[{place}]",
            )
    return list(known.values()) if wanted is None else [known[name] for name in wanted]
