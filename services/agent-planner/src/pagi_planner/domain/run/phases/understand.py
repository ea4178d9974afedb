"""Understand: gather the persona, the history, the passages and the tools."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from pagi_planner.domain.concurrency import together
from pagi_planner.domain.context.initial_context import fit
from pagi_planner.domain.errors import AWAY, UnknownToolError
from pagi_planner.domain.judgement.intent import INSTRUCTIONS, SCHEMA_JSON, Intent, intent_in, intent_of, mode_for
from pagi_planner.domain.model import Context, Message, Mode, Role, ToolSpec
from pagi_planner.domain.run import records
from pagi_planner.domain.run.phases.aside import ask_aside
from pagi_planner.domain.run.phases.files import read_files, shown_files
from pagi_planner.domain.run.phases.window import FILLED_AT_FIRST, family_for, room_within, tools_size
from pagi_planner.domain.run.work import Work
from pagi_planner.domain.state.events import EventType

log = logging.getLogger(__name__)


async def understand(work: Work) -> None:
    """Reads the files, asks memory and the tools at once, and fits what comes to the model's window.

    Raises:
        InvalidArgumentError: The request names a tool or a persona that does not exist, or a file that cannot be read.
    """
    degraded: list[str] = []
    await read_files(work)
    works: list[Coroutine[Any, Any, Any]] = [
        _recall(work, degraded),
        _find_tools(work, degraded),
        work.parts.catalogue.traits(work.request.model),
    ]
    context, specs, traits = await together(works)
    intent = await _intent(work)
    mode = mode_for(work.request.mode, intent)
    if mode is Mode.CHAT:
        specs = []
        # What it does not use it does not miss.
        degraded = [name for name in degraded if name != "sandbox"]
    work.specs = {spec.name: spec for spec in specs}
    policy, family = work.parts.policy, family_for(work)
    room = room_within(traits, policy.max_context_tokens, tools_size(work, work.specs, family), 1.0)
    room = min(int(room * FILLED_AT_FIRST), policy.max_context_tokens)
    shown, passages = await shown_files(work, traits, family, room // 2)
    fitted = fit(
        context,
        work.request,
        max_tokens=room,
        notices=_notices(degraded),
        files=passages,
        family=family,
    )
    own = () if mode is Mode.CHAT else work.parts.toolbox.offered(work)
    data = records.context(fitted, specs, degraded, intent, mode, policy, own_tools=own, shown=shown)
    work.note(EventType.CONTEXT_LOADED, data)


def _notices(degraded: list[str]) -> tuple[str, ...]:
    if "sandbox" in degraded:
        return ("No tools can be reached now. Say so where one would be needed.",)
    return ()


async def _intent(work: Work) -> Intent:
    """What the prompt is taken for; a model is asked only where that is wished and the rules are not sure."""
    intent = intent_of(work.request.prompt)
    if intent.is_sure or not work.request.intent_by_model:
        return intent
    question = (Message(Role.SYSTEM, INSTRUCTIONS), Message(Role.USER, work.request.prompt))
    aside = await ask_aside(work, "intent/1", question, schema_json=SCHEMA_JSON)
    try:
        return intent_in(aside.text)
    except ValueError:
        return intent


async def tools_of(work: Work) -> dict[str, ToolSpec]:
    """The tools that the run may call now: those that it began with, and those of the planner's own that it needs."""
    if work.state.mode is Mode.CHAT:
        return {}
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
    own = work.parts.toolbox.names
    wanted = None if work.request.tools is None else [name for name in work.request.tools if name not in own]
    try:
        known = {spec.name: spec for spec in await work.parts.tools.specs()}
    except AWAY as error:
        log.warning("the run goes on without tools: %s", error)
        degraded.append("sandbox")
        return []
    for place, name in enumerate(wanted or ()):
        if name not in known:
            raise UnknownToolError(
                f"there is no tool named {name!r}; the tools are: {', '.join(sorted({*known, *own}))}",
                field=f"tools[{place}]",
            )
    return list(known.values()) if wanted is None else [known[name] for name in wanted]
