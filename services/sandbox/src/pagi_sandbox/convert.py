"""Wire types to domain types and back."""

from __future__ import annotations

import json

from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi_chassis.correlation import Correlation

from pagi_sandbox.domain.limits import NAMES
from pagi_sandbox.domain.live import OutputDelta
from pagi_sandbox.domain.model import (
    Artifact,
    FileList,
    Isolation,
    Layer,
    Limits,
    Stream,
    ToolOutcome,
    ToolRequest,
    ToolSpec,
    Verdict,
)
from pagi_sandbox.domain.tool import Effects

VERDICTS = {
    Verdict.OK: pb.VERDICT_OK,
    Verdict.FAILED: pb.VERDICT_FAILED,
    Verdict.TIMEOUT: pb.VERDICT_TIMEOUT,
    Verdict.MEMORY: pb.VERDICT_MEMORY,
    Verdict.OUTPUT: pb.VERDICT_OUTPUT,
    Verdict.CRASH: pb.VERDICT_CRASH,
    Verdict.DISK: pb.VERDICT_DISK,
    Verdict.PROCESSES: pb.VERDICT_PROCESSES,
    Verdict.DENIED: pb.VERDICT_DENIED,
    Verdict.OUTCOME_UNKNOWN: pb.VERDICT_OUTCOME_UNKNOWN,
}
_NO_LIMITS = Limits()
_VERDICTS_BY_WIRE = {wire: verdict for verdict, wire in VERDICTS.items()}
EFFECTS = {
    Effects.READ_ONLY: pb.EFFECTS_READ_ONLY,
    Effects.IDEMPOTENT: pb.EFFECTS_IDEMPOTENT,
    Effects.EFFECTFUL: pb.EFFECTS_EFFECTFUL,
}


def request_from_proto(request: pb.ExecuteToolRequest, correlation: Correlation) -> ToolRequest:
    """The request, with whose it is."""
    return ToolRequest(
        tool=request.tool,
        arguments_json=request.arguments_json,
        session_id=request.session_id,
        limits=_limits_from_proto(request.limits) if request.HasField("limits") else _NO_LIMITS,
        effect_id=request.effect_id,
        tenant=correlation.tenant,
        trace_id=correlation.trace_id,
    )


def _limits_from_proto(limits: pb.Limits) -> Limits:
    return Limits(**{name: getattr(limits, name) for name in NAMES})


def outcome_to_proto(outcome: ToolOutcome) -> pb.ExecuteToolResponse:
    """The outcome."""
    return pb.ExecuteToolResponse(
        verdict=VERDICTS[outcome.verdict],
        output_json=outcome.output_json,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        error=outcome.error,
        duration_ms=outcome.duration_ms,
        truncated=outcome.truncated,
        profile=outcome.profile,
        artifacts=[artifact_to_proto(artifact) for artifact in outcome.artifacts],
        replayed=outcome.replayed,
        backend=outcome.backend,
        layers=outcome.layers,
    )


def outcome_from_proto(response: pb.ExecuteToolResponse) -> ToolOutcome:
    """The outcome, as outcome_to_proto gave it."""
    return ToolOutcome(
        verdict=_VERDICTS_BY_WIRE[response.verdict],
        output_json=response.output_json,
        stdout=response.stdout,
        stderr=response.stderr,
        error=response.error,
        duration_ms=response.duration_ms,
        truncated=response.truncated,
        profile=response.profile,
        artifacts=tuple(Artifact(one.path, one.media_type, one.size_bytes) for one in response.artifacts),
        replayed=response.replayed,
        backend=response.backend,
        layers=tuple(response.layers),
    )


def artifact_to_proto(artifact: Artifact) -> pb.Artifact:
    """A file of a workspace."""
    return pb.Artifact(path=artifact.path, media_type=artifact.media_type, size_bytes=artifact.size_bytes)


def stream_event_to_proto(event: OutputDelta | ToolOutcome) -> pb.StreamToolResponse:
    """What was printed next, or the outcome."""
    if isinstance(event, ToolOutcome):
        return pb.StreamToolResponse(response=outcome_to_proto(event))
    if event.stream is Stream.STDOUT:
        return pb.StreamToolResponse(stdout_delta=event.text)
    return pb.StreamToolResponse(stderr_delta=event.text)


def file_list_to_proto(files: FileList) -> pb.ListFilesResponse:
    """The files of a workspace."""
    return pb.ListFilesResponse(
        files=map(artifact_to_proto, files.files),
        used_bytes=files.used_bytes,
        quota_bytes=files.quota_bytes,
        truncated=files.truncated,
    )


def spec_to_proto(spec: ToolSpec) -> pb.Tool:
    """A tool as it is shown."""
    return pb.Tool(
        name=spec.name,
        description=spec.description,
        parameters_schema_json=json.dumps(dict(spec.parameters)),
        effects=EFFECTS[spec.effects],
        permissions=spec.permissions,
        requires_approval=spec.requires_approval,
        minimum_profile=spec.minimum_profile,
        version=spec.version,
    )


def _layer_to_proto(layer: Layer) -> pb.Layer:
    return pb.Layer(name=layer.name, active=layer.active, detail=layer.detail)


def isolation_to_proto(isolation: Isolation) -> pb.GetIsolationResponse:
    """The isolation as it was found."""
    return pb.GetIsolationResponse(
        profile=isolation.profile,
        backend=isolation.backend,
        mcp_servers=[
            pb.McpServerIsolation(server=one.server, running=one.running, layers=map(_layer_to_proto, one.layers))
            for one in isolation.servers
        ],
        layers=map(_layer_to_proto, isolation.layers),
        observations=[
            pb.Observation(attempt=one.attempt, held=one.held, detail=one.detail) for one in isolation.observations
        ],
    )
