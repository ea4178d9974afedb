"""The data of each event of a run; docs/runs.md lists the members for readers of the journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pagi_chassis import telemetry

from pagi_planner.domain.context.conversation import Compacted
from pagi_planner.domain.context.files import ReadFile
from pagi_planner.domain.context.initial_context import FittedContext
from pagi_planner.domain.context.tokens import Room
from pagi_planner.domain.explicit_plan import ExplicitPlan
from pagi_planner.domain.judgement.evaluation import Evaluation
from pagi_planner.domain.judgement.intent import Intent
from pagi_planner.domain.judgement.verdict import Verdict
from pagi_planner.domain.model import (
    Decision,
    InputFile,
    Judging,
    Limits,
    Mode,
    ModelAnswer,
    Resource,
    RunRequest,
    RunStatus,
    ToolCall,
    ToolSpec,
    Usage,
)
from pagi_planner.domain.parts import Policy
from pagi_planner.domain.reasoning import reasoning_data
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.tools.turn import Observation


def start(request: RunRequest) -> dict[str, Any]:
    """PLAN_START: the whole request, and the trace that it came with."""
    return {
        "prompt": request.prompt,
        "persona": request.persona,
        "model": request.model,
        "tools": None if request.tools is None else list(request.tools),
        "resources": [{"type": each.type, "uri": each.uri} for each in request.resources],
        "limits": asdict(request.limits),
        "mode": request.mode,
        "files": [asdict(each) for each in request.files],
        "evaluate": asdict(request.evaluate),
        "intent_by_model": request.intent_by_model,
        "temperature": request.temperature,
        "parent_run_id": request.parent_run_id,
        "depth": request.depth,
        "workspace": request.workspace,
        "tenant": request.tenant,
        **telemetry.inject(),
    }


def context(
    fitted: FittedContext,
    tools: Collection[ToolSpec],
    degraded: list[str],
    intent: Intent,
    mode: Mode,
    policy: Policy,
    *,
    own_tools: Collection[str] = (),
    shown: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """CONTEXT_LOADED: what the model is given to begin with.

    Args:
        fitted: The first messages.
        tools: Those of the sandbox.
        degraded: What was away.
        intent: What the prompt was taken for.
        mode: What came of that.
        policy: Settings that a replay needs, too, are noted.
        own_tools: Those of the planner that are offered from the beginning.
        shown: In what form each file is given.
    """
    messages: list[dict[str, Any]] = [{"role": each.role, "text": each.text} for each in fitted.messages]
    if images := [place for place, each in enumerate(shown) if each["as"] == "image"]:
        messages[-1]["images"] = images
    return {
        "intent": {"kind": intent.kind, "by": intent.by},
        "mode": mode,
        "files": list(shown),
        "messages": messages,
        "passages": [
            {
                "id": passage.id,
                "source": passage.source,
                "knowledge_base": passage.knowledge_base,
                "headings": list(passage.headings),
                "score": passage.score,
            }
            for passage in fitted.passages
        ],
        "tools": [tool.name for tool in tools],
        "tool_versions": {tool.name: tool.version for tool in tools if tool.version},
        "own_tools": sorted(own_tools),
        "policy": {"max_refinements": policy.max_refinements, "compacts_by_model": policy.compacts_by_model},
        "left_out": fitted.left_out,
        "tokens": fitted.tokens,
        "degraded": degraded,
    }


def model_request(step: int, effect_id: str, messages: int, tokens: int, room: Room) -> dict[str, Any]:
    """PLAN_MODEL_REQUEST: the intent to ask; the messages themselves are in the events before it."""
    data = {
        "step": step,
        "effect_id": effect_id,
        "messages": messages,
        "tokens": tokens,
        "tools_tokens": room.tools,
        "room": room.messages,
    }
    if room.answer is not None:
        data["answer_tokens"] = room.answer
    return data


def model_response(step: int, effect_id: str, answer: ModelAnswer, repaired: Mapping[str, str]) -> dict[str, Any]:
    """PLAN_MODEL_RESPONSE: what the model answered; `repaired` has arguments as it wrote them, by id of the call."""
    data: dict[str, Any] = {
        "step": step,
        "effect_id": effect_id,
        "text": answer.text,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments_json} for call in answer.tool_calls
        ],
        "repaired": dict(repaired),
        **_usage(answer),
    }
    if answer.reasoning and answer.tool_calls:
        data["reasoning"] = reasoning_data(answer.reasoning)
    return data


def aside_call(purpose: str, effect_id: str) -> dict[str, Any]:
    """MODEL_CALL: the intent to ask a model beside the conversation."""
    return {"purpose": purpose, "effect_id": effect_id}


def aside_result(
    purpose: str, effect_id: str, answer: ModelAnswer, error: str = "", error_type: str = ""
) -> dict[str, Any]:
    """MODEL_RESULT: what it said; `error` where it did not."""
    return {
        "purpose": purpose,
        "effect_id": effect_id,
        "text": answer.text,
        "error": error,
        "error_type": error_type,
        **_usage(answer),
    }


def plan(made: ExplicitPlan, by: str, error: str) -> dict[str, Any]:
    """PLAN_MADE: the explicit plan; `error` says why no model made it."""
    steps = [{"text": step.text, "tool": step.tool, "state": step.state} for step in made.steps]
    return {"revision": made.revision, "by": by, "steps": steps, "error": error}


def compaction(how: Compacted, *, because: str, by: str, tokens_before: int, tokens_after: int) -> dict[str, Any]:
    """CONTEXT_COMPACTED: what took the place of what."""
    return {
        "because": because,
        "by": by,
        "removed": [list(each) for each in how.removed],
        "cut": [{"at": place, "text": text} for place, text in how.cut.items()],
        "summary": how.summary,
        "tokens_before": tokens_before,
        "tokens_after": tokens_after,
    }


def file_read(place: int, read: ReadFile, *, keep_image: bool) -> dict[str, Any]:
    """FILE_READ: the text of a file of the request; an image's content only where the request does not hold it."""
    return {
        "place": place,
        "name": read.name,
        "media_type": read.media_type,
        "text": read.text,
        "characters": len(read.text),
        "content_base64": read.image.content_base64 if read.image and keep_image else "",
    }


def _usage(answer: ModelAnswer) -> dict[str, Any]:
    return {
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
        "cost_usd": answer.usage.cost_usd,
        "finish_reason": answer.finish_reason,
        "model": answer.model,
        "provider": answer.provider,
        "latency_ms": answer.latency_ms,
    }


def tool_call(step: int, effect_id: str, call: ToolCall, arguments: Any) -> dict[str, Any]:
    """TOOL_CALL: the intent to run a tool."""
    return {"step": step, "effect_id": effect_id, "call_id": call.id, "tool": call.name, "input": arguments}


def tool_result(step: int, effect_id: str, seen: Observation) -> dict[str, Any]:
    """TOOL_RESULT and TOOL_ERROR: how the call ended, and what the model reads of it."""
    outcome = seen.outcome
    return {
        **tool_call(step, effect_id, seen.call, seen.arguments),
        "verdict": outcome.verdict,
        "output": outcome.reply,
        "error": outcome.error,
        "duration_ms": outcome.duration_ms,
        "truncated": outcome.truncated,
        "observation": seen.text,
        "usage": None if outcome.usage is None else asdict(outcome.usage),
        "degraded": ["sandbox"] if outcome.verdict in ("unavailable", "unknown") else [],
    }


def evaluation(judged: Evaluation, verdict: Verdict | None, error: str, feedback: str) -> dict[str, Any]:
    """EVALUATION: what rules and judge say of an answer; `feedback` is empty where it will do, or must."""
    findings = [{"rule": each.rule, "detail": each.detail} for each in judged.findings]
    said = {**asdict(verdict), "error": ""} if verdict else {"error": error} if error else None
    score = min(judged.score, verdict.score) if verdict else judged.score
    return {"score": score, "findings": findings, "judge": said, "feedback": feedback}


def end(status: RunStatus, result: str, reason: str, usage: Usage) -> dict[str, Any]:
    """PLAN_END: the answer; `reason` where a limit ended the run."""
    return {
        "status": status,
        "result": result,
        "reason": reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
        **telemetry.inject(),
    }


def failure(error_type: str, message: str, field: str = "") -> dict[str, Any]:
    """PLAN_ERROR: why the run failed; `field` where a part of the request was wrong."""
    return {"error": message, "error_type": error_type, "field": field, **telemetry.inject()}


def cancellation(reason: str, result: str) -> dict[str, Any]:
    """PLAN_CANCELLED: why the run was stopped from outside, and what it had reached."""
    return {"reason": reason, "result": result, **telemetry.inject()}


def decision(call_id: str, decided: Decision) -> dict[str, Any]:
    """APPROVAL_DECIDED: a person's word on a call; `arguments` where they were changed, as JSON text."""
    return {
        "call_id": call_id,
        "approved": decided.approved,
        "reason": decided.reason,
        "arguments": decided.arguments_json,
    }


def resumption(owner: str, epoch: int, downtime_s: float) -> dict[str, Any]:
    """RUN_RESUMED: who goes on with a run that another process had left, and how long nobody worked on it."""
    return {"owner": owner, "epoch": epoch, "downtime_s": round(downtime_s, 3)}


def request_of(state: RunState) -> RunRequest:
    """The request that a run was begun with."""
    asked = state.request
    # What `get` asks for is absent in rows of earlier versions.
    return RunRequest(
        prompt=asked["prompt"],
        session_id=state.session_id,
        persona=asked["persona"],
        model=asked["model"],
        tools=None if asked["tools"] is None else tuple(asked["tools"]),
        resources=tuple(Resource(each["type"], each["uri"]) for each in asked["resources"]),
        limits=Limits(**asked["limits"]),
        mode=Mode(asked.get("mode", Mode.REACT)),
        files=tuple(InputFile(**each) for each in asked.get("files", ())),
        evaluate=Judging(**asked.get("evaluate", {})),
        intent_by_model=asked.get("intent_by_model", False),
        temperature=asked.get("temperature"),
        parent_run_id=asked.get("parent_run_id", ""),
        depth=asked.get("depth", 0),
        workspace=asked.get("workspace", ""),
        tenant=state.tenant,
    )
