"""`pagi.agent.v1.Agent`: the same runs as over HTTP, for workers and other agents."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from pagi.agent.v1 import agent_pb2 as pb
from pagi.agent.v1 import agent_pb2_grpc
from pagi_chassis import correlation, deadline
from pagi_chassis.errors import InvalidArgumentError, PagiError, UnauthenticatedError, UnavailableError
from pydantic import ValidationError

from pagi_planner.domain.agent import session_id_of
from pagi_planner.domain.keeping.begun_run import BegunRun
from pagi_planner.domain.keeping.runs import Runs
from pagi_planner.domain.keeping.word import decision_of
from pagi_planner.domain.model import Decision, RunResult
from pagi_planner.domain.watching.stream import CutOff, Happened, Item, Position, TextDelta, ThoughtDelta
from pagi_planner.schemas import Bounds, PlanRequest

if TYPE_CHECKING:
    import grpc

    RpcContext = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger(__name__)

SERVICE = "pagi.agent.v1.Agent"
_LONGEST_ID = 200
# A message has 16 MiB, and a request as much in bytes, which are a third more in base64.
MOST_CHARACTERS = 8_000_000


class AgentServicer(agent_pb2_grpc.AgentServicer):
    """Translates, for one domain call each.

    Args:
        runs: Begins and finds runs.
        bounds: What the operator allows.
        api_key: What callers must show in `x-api-key`, or as a bearer token; empty: nothing.
    """

    def __init__(self, runs: Runs, bounds: Bounds, *, api_key: str = "") -> None:
        self._runs = runs
        self._bounds = bounds
        self._key = api_key.encode()
        self._leaving: set[asyncio.Task[Any]] = set()

    async def Run(self, request: pb.RunRequest, context: RpcContext) -> AsyncIterator[pb.RunEvent]:  # noqa: N802
        """Begins a run, or finds it, and streams what happens in it."""
        self._admit(context)
        body = _body_of(request)
        after = Position.parse(request.after) if request.after else None
        run_id = _run_id_of(request.run_id)
        if after:
            await self._check_begun(run_id)
        # The caller's time is not the run's, which goes on without him.
        deadline.adopt(None)
        asked = replace(body.to_domain(self._bounds), tenant=correlation.current().tenant)
        begun = await self._runs.begin(asked, run_id=run_id)
        run_id = begun.run_id
        correlation.adopt(correlation.current()._replace(run_id=run_id))
        try:
            thoughts = body.show_thinking
            with (
                await self._runs.watch(run_id, after, thoughts=thoughts)
                if after
                else self._runs.follow(begun, thoughts=thoughts)
            ) as watcher:
                # Watched before anything is sent: the model is asked to speak only where somebody listens already.
                yield pb.RunEvent(begun=_begun_to_proto(begun, request.session_id))
                async for item in watcher:
                    yield _item_to_proto(item)
            yield pb.RunEvent(result=run_to_proto(await self._runs.settled(run_id)))
        except (GeneratorExit, asyncio.CancelledError):
            # The caller has left. Where we end the stream ourselves, he comes again.
            if body.on_disconnect == "cancel":
                self._cancel_later(run_id)
            raise

    async def GetRun(self, request: pb.GetRunRequest, context: RpcContext) -> pb.GetRunResponse:  # noqa: N802
        """A run, finished or not."""
        self._admit(context)
        await self._runs.check_tenant(request.run_id, correlation.current().tenant)
        return pb.GetRunResponse(run=run_to_proto(await self._runs.get(request.run_id)))

    async def Cancel(self, request: pb.CancelRequest, context: RpcContext) -> pb.CancelResponse:  # noqa: N802
        """Stops a run."""
        self._admit(context)
        # A stop that was asked for is seen through, whether or not the caller waits for it.
        deadline.adopt(None)
        await self._runs.check_tenant(request.run_id, correlation.current().tenant)
        result = await self._runs.cancel(request.run_id, request.reason or "it was cancelled")
        return pb.CancelResponse(run=run_to_proto(result))

    async def Decide(self, request: pb.DecideRequest, context: RpcContext) -> pb.DecideResponse:  # noqa: N802
        """A person's word on a tool call."""
        self._admit(context)
        deadline.adopt(None)
        await self._runs.check_tenant(request.run_id, correlation.current().tenant)
        decision = _decision_of(request)
        result = await self._runs.decide(request.run_id, request.call_id, decision)
        return pb.DecideResponse(run=run_to_proto(result))

    def _admit(self, context: RpcContext) -> None:
        if not self._key:
            return
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        shown = metadata.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        # Compared in constant time; whether the key was absent or wrong is not told.
        if not hmac.compare_digest(shown.encode(), self._key):
            raise UnauthenticatedError("unauthenticated")

    async def _check_begun(self, run_id: str) -> None:
        """Who has seen something of a run does not mean to begin one.

        Raises:
            InvalidArgumentError: It is not said which run.
            RunNotFoundError: There is none.
        """
        if not run_id:
            raise InvalidArgumentError("after: give the run_id of the run that the event is of, too", field="run_id")
        await self._runs.get(run_id)

    def _cancel_later(self, run_id: str) -> None:
        """Cancels a run whose caller has left, in a task of its own: this one is being ended."""
        task = asyncio.create_task(self._cancel_left(run_id), name=f"cancel {run_id}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _cancel_left(self, run_id: str) -> None:
        try:
            await self._runs.cancel(run_id, "its caller left")
        except PagiError as error:
            # Nobody is there to be told.
            log.warning("%s, whose caller left, is not cancelled: %s", run_id, error.message)


def run_to_proto(run: RunResult) -> pb.Run:
    """A run as callers read it."""
    return pb.Run(
        run_id=run.run_id,
        session_id=run.session_id,
        trace_id=run.trace_id,
        status=run.status,
        result=run.result,
        model=run.model,
        steps=[
            pb.Step(
                step=step.step,
                tool=step.tool,
                input_json=_json(step.input),
                output_json=_json(step.output),
                error=step.error or "",
                timestamp=_time(step.timestamp),
            )
            for step in run.steps
        ],
        sources=[
            pb.Source(
                source=each.source,
                knowledge_base=each.knowledge_base,
                headings=each.headings,
                score=each.score,
                cited=each.cited,
            )
            for each in run.sources
        ],
        usage=pb.Usage(
            input_tokens=run.usage.input_tokens, output_tokens=run.usage.output_tokens, cost_usd=run.usage.cost_usd
        ),
        degraded=run.degraded,
        error=run.error,
        started_at=_time(run.started_at),
        ended_at=_time(run.ended_at) if run.ended_at else None,
        # What nobody has decided on when a run ends waits for nobody any more.
        waiting_call_ids=[each.call_id for each in run.approvals if each.decision is None and run.ended_at is None],
    )


def _begun_to_proto(begun: BegunRun, asked: str) -> pb.RunBegun:
    session_id = begun.state.session_id or asked or session_id_of(begun.run_id)
    trace_id = begun.state.trace_id or correlation.current().trace_id
    return pb.RunBegun(run_id=begun.run_id, session_id=session_id, trace_id=trace_id)


def _item_to_proto(item: Item) -> pb.RunEvent:
    """One message of the stream.

    Raises:
        UnavailableError: The caller is sent away and may come again.
    """
    if isinstance(item, CutOff):
        raise UnavailableError(item.reason)
    told = pb.RunEvent(id=str(item.position))
    if isinstance(item, Happened):
        event = item.event
        journal = pb.JournalEvent(seq=event.seq, type=event.type, data_json=_data_json(event.data))
        journal.timestamp.FromDatetime(event.timestamp)
        told.journal.CopyFrom(journal)
    elif isinstance(item, TextDelta):
        told.text_delta.CopyFrom(pb.TextDelta(step=item.step, text=item.text))
    elif isinstance(item, ThoughtDelta):
        told.thought_delta.CopyFrom(pb.ThoughtDelta(step=item.step, text=item.text))
    else:
        told.text_reset.CopyFrom(pb.TextReset(step=item.step))
    return told


def _body_of(request: pb.RunRequest) -> PlanRequest:
    """The body that `POST /plan` takes, so that both are checked by the same rules.

    Raises:
        InvalidArgumentError: A field is wrong.
    """
    body: dict[str, Any] = MessageToDict(request, preserving_proto_field_name=True)
    body.pop("run_id", None)
    body.pop("after", None)
    if "tools" in body:
        body["tools"] = body["tools"].get("names", [])
    for file in body.get("files", ()):
        if "content" in file:
            # Bytes are base64 in the JSON of a message, too.
            file["content_base64"] = file.pop("content")
    try:
        return PlanRequest.model_validate(body)
    except ValidationError as error:
        [fault, *_] = error.errors(include_url=False, include_input=False)
        field = ".".join(map(str, fault["loc"]))
        raise InvalidArgumentError(f"{field}: {fault['msg']}", field=field) from error


def _run_id_of(run_id: str) -> str:
    if len(run_id) > _LONGEST_ID or not run_id.isprintable() or "/" in run_id:
        raise InvalidArgumentError(
            f"run_id: at most {_LONGEST_ID} characters that can be printed, and no '/'", field="run_id"
        )
    return run_id


def _decision_of(request: pb.DecideRequest) -> Decision:
    """The decision, by the rules that it has over HTTP."""
    arguments = None
    if request.arguments_json:
        try:
            arguments = json.loads(request.arguments_json)
        except (ValueError, RecursionError) as fault:
            raise InvalidArgumentError(
                f"arguments_json: it is no JSON object: {fault}", field="arguments_json"
            ) from None
    return decision_of(request.approved, request.reason, arguments, field="arguments_json")


def _data_json(data: dict[str, Any]) -> str:
    """The data of an event; without the content of the caller's own files where no message would hold it."""
    text = _json(data)
    if len(text) <= MOST_CHARACTERS or "files" not in data:
        return text
    return _json({**data, "files": [{**file, "content_base64": ""} for file in data["files"]]})


def _json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _time(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
