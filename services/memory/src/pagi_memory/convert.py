"""Messages of `pagi.memory.v1` and the domain's types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from pagi.memory.v1 import memory_pb2 as pb
from pagi_chassis.errors import InvalidArgumentError

from pagi_memory.domain.condensing import estimate_tokens
from pagi_memory.domain.context import Context
from pagi_memory.domain.documents import Overview
from pagi_memory.domain.ingestion import IngestPhase, IngestProgress
from pagi_memory.domain.model import (
    DocumentInfo,
    FusedHit,
    KnowledgeBase,
    Narrowing,
    Passage,
    ScoredPassage,
    Turn,
    TurnRole,
)
from pagi_memory.domain.playbook import (
    MindStatistics,
    NewPlaybook,
    Outcome,
    Playbook,
    PlaybookState,
    PlaybookStep,
    RunRecord,
    RunResult,
    ScoredPlaybook,
    Trial,
)
from pagi_memory.domain.session import HeartStatistics, Session, TurnHit

_KNOWLEDGE_BASES: dict[int, KnowledgeBase] = {
    pb.KNOWLEDGE_BASE_SOUL: KnowledgeBase.SOUL,
    pb.KNOWLEDGE_BASE_DOMAIN: KnowledgeBase.DOMAIN,
    pb.KNOWLEDGE_BASE_BODY: KnowledgeBase.BODY,
    pb.KNOWLEDGE_BASE_MIND: KnowledgeBase.MIND,
}
_KNOWLEDGE_BASES_TO_PROTO = {base: pb.KnowledgeBase.ValueType(number) for number, base in _KNOWLEDGE_BASES.items()}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    return pb.Turn(
        role=_ROLES_TO_PROTO[turn.role],
        text=turn.text,
        run_id=turn.run_id,
        position=turn.position,
        created_at=_timestamp(turn.created_at),
        edited_at=_timestamp(turn.edited_at) if turn.edited_at else None,
    )


def _timestamp(time: datetime) -> Timestamp:
    """The same as `Timestamp.FromDatetime`, in less than half of its time: a context holds dozens."""
    since = time - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def passage_to_proto(scored: ScoredPassage) -> pb.Passage:
    """A passage with its scores."""
    message = stored_passage_to_proto(scored.passage)
    message.score = scored.score
    message.merged = scored.merged
    message.score_parts.CopyFrom(_score_parts(scored.hit))
    return message


def stored_passage_to_proto(passage: Passage) -> pb.Passage:
    """A passage without scores."""
    piece = passage.piece
    return pb.Passage(
        id=passage.id,
        text=piece.text,
        knowledge_base=_KNOWLEDGE_BASES_TO_PROTO[passage.shelf.knowledge_base],
        source=passage.source,
        headings=piece.headings,
        offset=piece.offset,
        index=piece.index,
        metadata=passage.metadata,
        tokens=piece.tokens,
        merged=1,
    )


def narrowing_from_proto(request: pb.GetRAGContextRequest) -> Narrowing:
    """Which documents a search is about."""
    return Narrowing(tuple(request.sources), dict(request.metadata))


def quotas_from_proto(quotas: Iterable[pb.KnowledgeBaseQuota]) -> dict[KnowledgeBase, int]:
    """How many passages of a knowledge base.

    Raises:
        InvalidArgumentError: A knowledge base is unspecified or unknown, or the number is not positive.
    """
    found = {}
    for quota in quotas:
        [base] = knowledge_bases_from_proto([quota.knowledge_base])
        if quota.max_passages < 1:
            raise InvalidArgumentError("quotas: max_passages must be at least 1.", field="quotas")
        found[base] = quota.max_passages
    return found


def document_to_proto(info: DocumentInfo) -> pb.DocumentInfo:
    """What a list tells of a document."""
    message = pb.DocumentInfo(
        source=info.source,
        knowledge_base=_KNOWLEDGE_BASES_TO_PROTO[info.shelf.knowledge_base],
        persona=info.shelf.persona,
        passages=info.passages,
        characters=info.characters,
        metadata=info.metadata,
    )
    message.updated_at.FromDatetime(info.updated_at)
    return message


def overview_to_proto(overview: Overview) -> pb.GetKnowledgeStatisticsResponse:
    """What there is."""
    shelves = [
        pb.ShelfStatistics(
            persona=found.shelf.persona,
            knowledge_base=_KNOWLEDGE_BASES_TO_PROTO[found.shelf.knowledge_base],
            documents=found.documents,
            passages=found.passages,
            characters=found.characters,
        )
        for found in overview.shelves
    ]
    return pb.GetKnowledgeStatisticsResponse(
        shelves=shelves,
        embedding_model=overview.model,
        next_embedding_model=overview.next_model,
        reembedded=overview.reembedded,
        skipped=skipped_to_proto(overview.skipped),
    )


_PHASES = {
    IngestPhase.LOOKING: pb.INGEST_PHASE_LOOKING,
    IngestPhase.STORING: pb.INGEST_PHASE_STORING,
    IngestPhase.INDEXING: pb.INGEST_PHASE_INDEXING,
    IngestPhase.DONE: pb.INGEST_PHASE_DONE,
}


def progress_to_proto(progress: IngestProgress) -> pb.IngestKnowledgeBasesResponse:
    """How far an ingestion is; what was skipped stands in the last message only."""
    report = progress.report
    done = progress.phase is IngestPhase.DONE
    return pb.IngestKnowledgeBasesResponse(
        phase=_PHASES[progress.phase],
        total=progress.total,
        done=progress.done,
        source=progress.source,
        unchanged=report.unchanged,
        stored=report.stored,
        removed=report.removed,
        skipped=skipped_to_proto(report.skipped) if done else [],
    )


def skipped_to_proto(skipped: Mapping[str, str]) -> list[pb.SkippedDocument]:
    """What could not be taken in, and why."""
    return [pb.SkippedDocument(source=source, reason=reason) for source, reason in sorted(skipped.items())]


def context_to_proto(context: Context) -> pb.GetContextResponse:
    """A whole context; playbooks come as passages of the Mind-KB."""
    return pb.GetContextResponse(
        soul=context.soul,
        turns=map(turn_to_proto, context.turns),
        passages=[*map(passage_to_proto, context.passages), *map(playbook_to_passage, context.playbooks)],
        summary=context.summary,
    )


def session_to_proto(session: Session) -> pb.Session:
    """One line of a list of sessions."""
    message = pb.Session(
        session_id=session.session_id, title=session.title, persona=session.persona, turns=session.turns
    )
    message.created_at.FromDatetime(session.created_at)
    message.updated_at.FromDatetime(session.updated_at)
    return message


def hit_to_proto(hit: TurnHit) -> pb.TurnMatch:
    """A turn that a search found."""
    return pb.TurnMatch(
        session_id=hit.session_id,
        title=hit.title,
        turn=turn_to_proto(hit.turn),
        score=hit.score,
        matched_words=hit.matched_words,
        score_parts=_score_parts(hit.parts) if hit.parts else None,
    )


def _score_parts(hit: FusedHit) -> pb.ScoreParts:
    return pb.ScoreParts(
        dense=hit.dense,
        lexical=hit.lexical,
        cosine=hit.cosine,
        bm25=hit.bm25,
        dense_rank=hit.dense_rank,
        lexical_rank=hit.lexical_rank,
    )


def statistics_to_proto(heart: HeartStatistics, mind: MindStatistics) -> pb.GetStatisticsResponse:
    """How much a tenant has."""
    message = pb.GetStatisticsResponse(
        sessions=heart.sessions,
        turns=heart.turns,
        turn_characters=heart.characters,
        summarised_turns=heart.summarised,
        playbooks=mind.playbooks,
        playbooks_set_aside=mind.set_aside,
        playbook_wins=mind.wins,
        playbook_losses=mind.losses,
    )
    if heart.oldest_at and heart.newest_at:
        message.oldest_turn_at.FromDatetime(heart.oldest_at)
        message.newest_turn_at.FromDatetime(heart.newest_at)
    return message


_STATES = {
    pb.PLAYBOOK_STATE_ACTIVE: PlaybookState.ACTIVE,
    pb.PLAYBOOK_STATE_SET_ASIDE: PlaybookState.SET_ASIDE,
}
# google.rpc.Code.INVALID_ARGUMENT
_INVALID_ARGUMENT = 3
_STATES_TO_PROTO = {state: number for number, state in _STATES.items()}
_OUTCOMES = {pb.RUN_OUTCOME_WIN: Outcome.WIN, pb.RUN_OUTCOME_LOSS: Outcome.LOSS}


def state_from_proto(value: int) -> PlaybookState | None:
    """The state; None where it is unspecified.

    Raises:
        InvalidArgumentError: It is unknown.
    """
    state = _STATES.get(pb.PlaybookState.ValueType(value))
    if state is None and value:
        raise InvalidArgumentError(f"state is {value}; known are 1 (active) and 2 (set aside).", field="state")
    return state


def trial_from_proto(request: pb.RecordPlaybookOutcomeRequest) -> Trial:
    """How a run ended that was given playbooks; an outcome that is not known is none."""
    return Trial(request.run_id, list(request.playbook_ids), _OUTCOMES.get(request.outcome))


def run_record_from_proto(run: pb.RunRecord) -> RunRecord:
    """What there is to keep of a run."""
    return RunRecord(
        new_playbook_from_proto(run.playbook) if run.HasField("playbook") else None,
        trial_from_proto(run.outcome) if run.HasField("outcome") else None,
    )


def run_results_to_proto(results: Sequence[RunResult | InvalidArgumentError]) -> pb.RecordRunsResponse:
    """What became of each run."""
    return pb.RecordRunsResponse(results=map(_run_result_to_proto, results))


def _run_result_to_proto(result: RunResult | InvalidArgumentError) -> pb.RunRecordResult:
    if isinstance(result, InvalidArgumentError):
        return pb.RunRecordResult(code=_INVALID_ARGUMENT, message=result.message, field=result.field)
    return pb.RunRecordResult(playbook_id=result.playbook_id, created=result.created, counted=result.counted)


def new_playbook_from_proto(request: pb.RecordPlaybookRequest) -> NewPlaybook:
    """What a run has to teach."""
    return NewPlaybook(
        request.run_id,
        request.persona,
        request.prompt,
        [PlaybookStep(step.tool, step.arguments_json, step.outcome) for step in request.steps],
        dict(request.tool_versions),
        request.cost_usd if request.HasField("cost_usd") else None,
        request.duration_ms,
    )


def playbook_to_proto(playbook: Playbook) -> pb.Playbook:
    """A playbook."""
    message = pb.Playbook(
        id=playbook.id,
        persona=playbook.persona,
        prompt=playbook.prompt,
        steps=[
            pb.PlaybookStep(tool=step.tool, arguments_json=step.arguments_json, outcome=step.outcome)
            for step in playbook.steps
        ],
        tool_versions=playbook.tool_versions,
        cost_usd=playbook.cost_usd,
        duration_ms=playbook.duration_ms,
        wins=playbook.wins,
        losses=playbook.losses,
        worth=playbook.worth,
        state=_STATES_TO_PROTO[playbook.state],
        reason=playbook.reason,
        notes=playbook.notes,
    )
    message.created_at.FromDatetime(playbook.created_at)
    message.updated_at.FromDatetime(playbook.updated_at)
    if playbook.last_used_at:
        message.last_used_at.FromDatetime(playbook.last_used_at)
    return message


def playbook_to_passage(scored: ScoredPlaybook) -> pb.Passage:
    """A playbook as a run is given it; the score parts say how near the task is."""
    playbook = scored.playbook
    text = playbook.text()
    return pb.Passage(
        id=playbook.id,
        text=text,
        score=scored.score,
        knowledge_base=pb.KNOWLEDGE_BASE_MIND,
        source=f"playbook:{playbook.id}",
        headings=["How a task like this was done"],
        score_parts=pb.ScoreParts(dense=scored.relevance, cosine=scored.relevance),
        metadata={"wins": str(playbook.wins), "losses": str(playbook.losses), "worth": f"{playbook.worth:.3f}"},
        tokens=estimate_tokens(text),
        merged=1,
    )
