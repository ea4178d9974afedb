"""Wire types of the other services <-> types of the domain."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC
from functools import lru_cache
from typing import Any

from pagi.gateway.v1 import gateway_pb2
from pagi.memory.v1 import memory_pb2
from pagi.sandbox.v1 import sandbox_pb2

from pagi_planner.domain import json_text
from pagi_planner.domain.model import (
    Context,
    Effects,
    Exchange,
    FileList,
    Message,
    ModelAnswer,
    ModelRequest,
    ModelTraits,
    Passage,
    Reasoning,
    Role,
    ToolCall,
    ToolOutcome,
    ToolSpec,
    Turn,
    Usage,
    WorkspaceFile,
)
from pagi_planner.domain.state.lesson import Account, Lesson, Trial

_ROLES = {
    Role.SYSTEM: gateway_pb2.ROLE_SYSTEM,
    Role.USER: gateway_pb2.ROLE_USER,
    Role.ASSISTANT: gateway_pb2.ROLE_ASSISTANT,
    Role.TOOL: gateway_pb2.ROLE_TOOL,
}
_FINISH_REASONS = {
    gateway_pb2.FINISH_REASON_STOP: "stop",
    gateway_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    gateway_pb2.FINISH_REASON_LENGTH: "length",
    gateway_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
_TURN_ROLES = {
    "user": memory_pb2.TURN_ROLE_USER,
    "assistant": memory_pb2.TURN_ROLE_ASSISTANT,
    "tool-plan": memory_pb2.TURN_ROLE_TOOL_PLAN,
    "tool-output": memory_pb2.TURN_ROLE_TOOL_OUTPUT,
}
_TURN_ROLE_NAMES = {value: name for name, value in _TURN_ROLES.items()}
_KNOWLEDGE_BASES = {
    memory_pb2.KNOWLEDGE_BASE_SOUL: "Soul-KB",
    memory_pb2.KNOWLEDGE_BASE_DOMAIN: "Domain-KB",
    memory_pb2.KNOWLEDGE_BASE_BODY: "Body-KB",
    memory_pb2.KNOWLEDGE_BASE_MIND: "Mind-KB",
}
_KNOWLEDGE_BASE_NUMBERS = {name: value for value, name in _KNOWLEDGE_BASES.items()}
_EFFECTS = {
    sandbox_pb2.EFFECTS_READ_ONLY: Effects.READ_ONLY,
    sandbox_pb2.EFFECTS_IDEMPOTENT: Effects.IDEMPOTENT,
}
_VERDICTS = {
    sandbox_pb2.VERDICT_OK: "ok",
    sandbox_pb2.VERDICT_FAILED: "failed",
    sandbox_pb2.VERDICT_TIMEOUT: "timeout",
    sandbox_pb2.VERDICT_MEMORY: "memory",
    sandbox_pb2.VERDICT_OUTPUT: "output",
    sandbox_pb2.VERDICT_CRASH: "crash",
    sandbox_pb2.VERDICT_DISK: "disk",
    sandbox_pb2.VERDICT_PROCESSES: "processes",
    sandbox_pb2.VERDICT_DENIED: "denied",
    sandbox_pb2.VERDICT_OUTCOME_UNKNOWN: "unknown",
}


def knowledge_base_from_name(name: str) -> memory_pb2.KnowledgeBase.ValueType:
    """The knowledge base that has this name, such as `Domain-KB`."""
    return _KNOWLEDGE_BASE_NUMBERS[name]


def model_request_to_proto(request: ModelRequest) -> gateway_pb2.GetPlanRequest:
    """The request as the gateway takes it."""
    plan = gateway_pb2.GetPlanRequest(
        messages=[_message_to_proto(message) for message in request.messages],
        model=request.model,
        limits=gateway_pb2.GenerationLimits(
            max_cost_usd=request.max_cost_usd or 0.0, max_output_tokens=request.max_output_tokens or 0
        ),
        effect_id=request.effect_id,
        temperature=request.temperature,
        **(_structured(request.answer_schema_json) if request.answer_schema_json else {}),
    )
    plan.MergeFrom(_tools_to_proto(request.tools))
    return plan


@lru_cache(maxsize=64)
def _tools_to_proto(tools: tuple[ToolSpec, ...]) -> gateway_pb2.GetPlanRequest:
    """A request that has these tools and nothing else: runs are offered the same ones again and again."""
    return gateway_pb2.GetPlanRequest(
        tools=[
            gateway_pb2.ToolSpec(
                name=spec.name, description=spec.description, parameters_schema_json=spec.parameters_schema_json
            )
            for spec in tools
        ]
    )


def _structured(schema_json: str) -> dict[str, Any]:
    """A model that cannot hold to a schema is asked nevertheless: what it says is read with care."""
    return {
        "response_format": gateway_pb2.ResponseFormat(schema_json=schema_json),
        "on_unsupported": gateway_pb2.ON_UNSUPPORTED_LEAVE_OUT,
    }


def traits_from_proto(answer: gateway_pb2.ListModelsResponse) -> dict[str, ModelTraits]:
    """What is known of each model by its name; the empty name is the default's. Of an alias: what all can do."""
    known: dict[str, ModelTraits] = {}
    for model in answer.models:
        each = [target.capabilities for target in model.targets] or [model.capabilities]
        windows = [can.context_tokens for can in each]
        outputs = [can.max_output_tokens for can in each]
        traits = ModelTraits(
            context_tokens=min(windows) if all(windows) else 0,
            max_output_tokens=min(outputs) if all(outputs) else 0,
            sees=_support([can.images for can in each]),
        )
        known[model.name] = traits
        if model.is_default:
            known[""] = traits
    return known


def _support(each: Sequence[gateway_pb2.Support.ValueType]) -> bool | None:
    if gateway_pb2.SUPPORT_NO in each:
        return False
    return None if gateway_pb2.SUPPORT_UNSPECIFIED in each else True


def model_answer_from_proto(answer: gateway_pb2.GetPlanResponse) -> ModelAnswer:
    """The gateway's answer."""
    usage = answer.usage
    return ModelAnswer(
        text=answer.text,
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments_json) for call in answer.tool_calls),
        usage=Usage(usage.input_tokens, usage.output_tokens, usage.cost_usd if usage.HasField("cost_usd") else None),
        finish_reason=_FINISH_REASONS.get(answer.finish_reason, "other"),
        model=answer.model,
        provider=answer.provider,
        latency_ms=answer.latency_ms,
        # Nobody wants it back but with the calls that came of it.
        reasoning=_reasoning_from_proto(answer) if answer.reasoning and answer.tool_calls else (),
    )


def _reasoning_from_proto(answer: gateway_pb2.GetPlanResponse) -> tuple[Reasoning, ...]:
    """What is wanted back, and no word more: the rest was to be shown."""
    return tuple(
        Reasoning(
            each.origin,
            each.text if each.give_back == gateway_pb2.GIVE_BACK_WHOLE else "",
            each.signature,
            each.id,
            each.redacted,
            each.text_before,
            each.calls_before,
        )
        for each in answer.reasoning
        if each.give_back != gateway_pb2.GIVE_BACK_UNSPECIFIED
    )


def context_from_proto(answer: memory_pb2.GetContextResponse) -> Context:
    """What memory gave."""
    return Context(
        soul=answer.soul,
        summary=answer.summary,
        turns=tuple(_turn_from_proto(turn) for turn in answer.turns),
        passages=tuple(
            Passage(
                id=passage.id,
                text=passage.text,
                score=passage.score,
                knowledge_base=_KNOWLEDGE_BASES.get(passage.knowledge_base, ""),
                source=passage.source,
                headings=tuple(passage.headings),
            )
            for passage in answer.passages
        ),
    )


def exchange_to_proto(exchange: Exchange) -> memory_pb2.StoreSessionHistoryRequest:
    """The turns as memory stores them; their order gives the positions."""
    request = memory_pb2.StoreSessionHistoryRequest(
        session_id=exchange.session_id, run_id=exchange.run_id, persona=exchange.persona
    )
    for turn in exchange.turns:
        stored = request.turns.add(role=_TURN_ROLES[turn.role], text=turn.text)
        stored.created_at.FromDatetime(turn.created_at)
    return request


def accounts_to_proto(accounts: Sequence[Account]) -> memory_pb2.RecordRunsRequest:
    """What memory is to learn of some runs."""
    return memory_pb2.RecordRunsRequest(
        runs=[
            memory_pb2.RunRecord(
                playbook=lesson_to_proto(account.lesson) if account.lesson else None,
                outcome=trial_to_proto(account.trial) if account.trial else None,
            )
            for account in accounts
        ]
    )


def lesson_to_proto(lesson: Lesson) -> memory_pb2.RecordPlaybookRequest:
    """What memory is to learn."""
    return memory_pb2.RecordPlaybookRequest(
        run_id=lesson.run_id,
        persona=lesson.persona,
        prompt=lesson.prompt,
        steps=[
            memory_pb2.PlaybookStep(tool=step.tool, arguments_json=step.arguments_json, outcome=step.outcome)
            for step in lesson.steps
        ],
        tool_versions=lesson.tool_versions,
        cost_usd=lesson.cost_usd,
        duration_ms=lesson.duration_ms,
    )


def trial_to_proto(trial: Trial) -> memory_pb2.RecordPlaybookOutcomeRequest:
    """How a run ended that was given playbooks."""
    outcome = memory_pb2.RUN_OUTCOME_WIN if trial.succeeded else memory_pb2.RUN_OUTCOME_LOSS
    return memory_pb2.RecordPlaybookOutcomeRequest(
        run_id=trial.run_id, playbook_ids=trial.playbook_ids, outcome=outcome
    )


def tool_spec_from_proto(tool: sandbox_pb2.Tool) -> ToolSpec:
    """A tool; effects that this version does not know are taken for the worst."""
    effects = _EFFECTS.get(tool.effects, Effects.EFFECTFUL)
    return ToolSpec(
        tool.name, tool.description, tool.parameters_schema_json, effects, tool.version, tool.requires_approval
    )


def tool_outcome_from_proto(answer: sandbox_pb2.ExecuteToolResponse) -> ToolOutcome:
    """How a tool call ended. An answer that cannot be read is a fault of the tool; what it printed stays."""
    verdict, error, output = _VERDICTS.get(answer.verdict, "crash"), answer.error, None
    try:
        output = json_text.parse(answer.output_json) if answer.output_json else None
    except ValueError as fault:
        verdict, error = "failed", f"the tool's answer cannot be read: {fault}"
    return ToolOutcome(
        verdict=verdict,
        output=output,
        stdout=answer.stdout,
        stderr=answer.stderr,
        error=error or ("" if verdict == "ok" else f"the tool ended with {verdict}"),
        duration_ms=answer.duration_ms,
        truncated=answer.truncated,
        files=tuple(map(file_from_proto, answer.artifacts)),
    )


def file_from_proto(file: sandbox_pb2.Artifact) -> WorkspaceFile:
    """A file of a workspace."""
    return WorkspaceFile(file.path, file.media_type, file.size_bytes)


def file_list_from_proto(answer: sandbox_pb2.ListFilesResponse) -> FileList:
    """The files of a workspace."""
    return FileList(tuple(map(file_from_proto, answer.files)), answer.used_bytes, answer.quota_bytes, answer.truncated)


def _message_to_proto(message: Message) -> gateway_pb2.Message:
    written = gateway_pb2.Message(
        role=_ROLES[message.role],
        text=message.text,
        tool_calls=[
            gateway_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        parts=[
            gateway_pb2.ContentPart(
                image=gateway_pb2.Media(
                    data=b64decode(image.content_base64), media_type=image.media_type, name=image.name
                )
            )
            for image in message.images
        ],
    )
    # Few have any: asking takes less than going through nothing.
    if message.reasoning:
        written.reasoning.extend(map(_reasoning_to_proto, message.reasoning))
    return written


def _reasoning_to_proto(reasoning: Reasoning) -> gateway_pb2.Reasoning:
    return gateway_pb2.Reasoning(
        text=reasoning.text,
        signature=reasoning.signature,
        id=reasoning.id,
        redacted=reasoning.redacted,
        origin=reasoning.origin,
        text_before=reasoning.text_before,
        calls_before=reasoning.calls_before,
    )


def _turn_from_proto(turn: memory_pb2.Turn) -> Turn:
    return Turn(_TURN_ROLE_NAMES.get(turn.role, ""), turn.text, turn.created_at.ToDatetime(tzinfo=UTC))
