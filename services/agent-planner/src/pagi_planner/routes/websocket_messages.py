"""What a client may say over the WebSocket, and how a chat's messages look there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pagi_chassis.errors import InternalError, InvalidArgumentError, PagiError
from pagi_chassis.statuses import status_of
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pagi_planner.domain.model import RunResult, RunStatus
from pagi_planner.routes import strict_json
from pagi_planner.routes.chat_view import ChatMessage
from pagi_planner.routes.decisions import DecisionBody
from pagi_planner.routes.invalid_request import detail_of, faults_of
from pagi_planner.schemas import Name, Prompt, RunBody, WorkBody

# Longer messages are refused with words; far longer ones end the connection before they are read (RFC 6455, 1009).
MESSAGE_CHARACTERS = 4 * 1024 * 1024


class Auth(BaseModel):
    """The key, where no header showed it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["auth"]
    api_key: str


class ChatIn(WorkBody):
    """What to say to the agent."""

    type: Literal["chat"]
    content: Prompt
    request_id: Name | None = Field(default=None, description="Comes back in `task_created`.")


class CancelIn(BaseModel):
    """A run to stop."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["cancel"]
    task_id: Name


class WatchIn(BaseModel):
    """A run to show, from its beginning."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["watch"]
    task_id: Name
    show_thinking: bool = False


class DecideIn(DecisionBody):
    """A person's word on a call that waits for it."""

    type: Literal["decide"]
    task_id: Name
    call_id: Name


class PingIn(BaseModel):
    """Whether anybody is there."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["ping"]


Said = ChatIn | CancelIn | WatchIn | DecideIn | PingIn
_SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="type")])
_AUTH: TypeAdapter[Auth] = TypeAdapter(Auth)
_TYPES = ("chat", "cancel", "watch", "decide", "ping")


class RefusedError(Exception):
    """A message that cannot be used; `data` says why."""

    def __init__(self, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.data: dict[str, Any] = {"error": detail, "status": 422, **more}


def said_in(text: str | None) -> Said:
    """The message in a frame; None where the frame was binary.

    Raises:
        RefusedError: It is none.
    """
    said: Said = _read(text, _SAID)
    return said


def auth_in(text: str | None) -> Auth:
    """The first message where no header showed the key.

    Raises:
        RefusedError: It is another one.
    """
    said: Auth = _read(text, _AUTH)
    return said


def problem_data(error: PagiError) -> dict[str, Any]:
    """The data of `error`: what a problem document would say."""
    row = status_of(error)
    if isinstance(error, InternalError):
        return {"error": "internal error; the log has more under this trace id", "status": row.http}
    data: dict[str, Any] = {"error": error.message, "status": row.http}
    if isinstance(error, InvalidArgumentError) and error.field:
        data["errors"] = [{"field": error.field, "message": error.message}]
    if (retry_after_s := getattr(error, "retry_after_s", None)) is not None:
        data["retry_after_s"] = retry_after_s
    return data


def shown(message: ChatMessage, task_id: str) -> tuple[str, dict[str, Any]]:
    """Type and data of the frame for a chat message."""
    match message.kind:
        case "content":
            return "stream_data", {"task_id": task_id, **message.data}
        case "reset":
            return "stream_reset", {"task_id": task_id}
        case "phase" | "thinking":
            return "task_updated", {"task_id": task_id, "status": RunStatus.RUNNING, **message.data}
        case "approval":
            call = {name: message.data[name] for name in ("call_id", "tool", "input")}
            return "task_updated", {"task_id": task_id, "status": RunStatus.WAITING_APPROVAL, **call}
        case _:
            return "error", {"task_id": task_id, **message.data}


def ending(run: RunResult) -> Iterator[tuple[str, dict[str, Any]]]:
    """Type and data of the frames that close a run."""
    body = RunBody.from_domain(run).model_dump(mode="json")
    told = {"task_id": run.run_id, "session_id": run.session_id, "status": run.status}
    if run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        yield "error", {**told, "error": run.error}
    yield "task_completed", {"task_id": run.run_id, **body}
    yield "stream_complete", {**told, "result": run.result}


def _read(text: str | None, adapter: TypeAdapter[Any]) -> Any:
    if text is None:
        raise RefusedError("send text frames with one JSON object each, not binary ones")
    if len(text) > MESSAGE_CHARACTERS:
        raise RefusedError(f"the message is longer than {MESSAGE_CHARACTERS} characters", status=413)
    try:
        return adapter.validate_python(strict_json.parse(text))
    except json.JSONDecodeError as error:
        raise RefusedError(f"not JSON at character {error.pos}: {error.msg}") from None
    except ValidationError as error:
        faults = faults_of([_without_tag(fault) for fault in error.errors(include_url=False)])
        named = [{"field": field, "message": message} for field, message in faults]
        raise RefusedError(detail_of(faults), errors=named) from None


def _without_tag(fault: Any) -> dict[str, Any]:
    """The fault as of a body; pydantic puts the message's type in front of the place."""
    place = fault["loc"]
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return {**fault, "loc": ("body", "type"), "msg": f"must be one of {', '.join(_TYPES)}"}
    if place and place[0] in _TYPES:
        place = place[1:]
    return {**fault, "loc": ("body", *place)}
