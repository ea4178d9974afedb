"""Messages of `pagi.memory.v1` and the domain's types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pagi.memory.v1 import memory_pb2 as pb
from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.model import Context, KnowledgeBase, ScoredPassage, Turn, TurnRole

_KNOWLEDGE_BASES: dict[int, KnowledgeBase] = {
    pb.KNOWLEDGE_BASE_SOUL: KnowledgeBase.SOUL,
    pb.KNOWLEDGE_BASE_DOMAIN: KnowledgeBase.DOMAIN,
    pb.KNOWLEDGE_BASE_BODY: KnowledgeBase.BODY,
    pb.KNOWLEDGE_BASE_MIND: KnowledgeBase.MIND,
}
_KNOWLEDGE_BASES_TO_PROTO = {base: pb.KnowledgeBase.ValueType(number) for number, base in _KNOWLEDGE_BASES.items()}

_ROLES = {
    pb.TURN_ROLE_USER: TurnRole.USER,
    pb.TURN_ROLE_ASSISTANT: TurnRole.ASSISTANT,
    pb.TURN_ROLE_TOOL_PLAN: TurnRole.TOOL_PLAN,
    pb.TURN_ROLE_TOOL_OUTPUT: TurnRole.TOOL_OUTPUT,
}
_ROLES_TO_PROTO = {value: key for key, value in _ROLES.items()}


def knowledge_bases_from_proto(values: Iterable[int]) -> list[KnowledgeBase]:
    """The knowledge bases.

    Raises:
        InvalidArgumentError: One of them is unspecified or unknown.
    """
    bases = []
    for value in values:
        if (base := _KNOWLEDGE_BASES.get(value)) is None:
            known = ", ".join(pb.KnowledgeBase.Name(pb.KnowledgeBase.ValueType(number)) for number in _KNOWLEDGE_BASES)
            raise InvalidArgumentError(f"knowledge_bases holds {value}; known are {known}.", field="knowledge_bases")
        bases.append(base)
    return bases


def turns_from_proto(turns: Sequence[pb.Turn], *, run_id: str, now: datetime) -> list[Turn]:
    """The turns of one run, positions by their order; a turn without a time gets `now`.

    Raises:
        InvalidArgumentError: A role is unspecified or unknown, or a time is none.
    """
    return [_turn_from_proto(turn, position, run_id, now) for position, turn in enumerate(turns)]


def _turn_from_proto(turn: pb.Turn, position: int, run_id: str, now: datetime) -> Turn:
    if (role := _ROLES.get(turn.role)) is None:
        known = ", ".join(pb.TurnRole.Name(number) for number in _ROLES)
        field = f"turns[{position}].role"
        raise InvalidArgumentError(f"{field} is {int(turn.role)}; known are {known}.", field=field)
    created_at = now
    if turn.HasField("created_at"):
        try:
            created_at = turn.created_at.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            field = f"turns[{position}].created_at"
            raise InvalidArgumentError(f"{field} is no time: {error}.", field=field) from error
    return Turn(role, turn.text, run_id, position, created_at)


def turn_to_proto(turn: Turn) -> pb.Turn:
    """A turn."""
    message = pb.Turn(role=_ROLES_TO_PROTO[turn.role], text=turn.text, run_id=turn.run_id, position=turn.position)
    message.created_at.FromDatetime(turn.created_at)
    return message


def passage_to_proto(scored: ScoredPassage) -> pb.Passage:
    """A passage with its scores."""
    passage, piece = scored.passage, scored.passage.piece
    return pb.Passage(
        id=passage.id,
        text=piece.text,
        score=scored.score,
        knowledge_base=_KNOWLEDGE_BASES_TO_PROTO[passage.shelf.knowledge_base],
        source=passage.source,
        headings=piece.headings,
        offset=piece.offset,
        index=piece.index,
        score_parts=pb.ScoreParts(dense=scored.dense, lexical=scored.lexical),
    )


def context_to_proto(context: Context) -> pb.GetContextResponse:
    """A whole context."""
    return pb.GetContextResponse(
        soul=context.soul,
        turns=map(turn_to_proto, context.turns),
        passages=map(passage_to_proto, context.passages),
    )
