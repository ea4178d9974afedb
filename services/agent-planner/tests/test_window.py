"""The conversation of a run within the window of its model."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pagi_planner import Agent, Limits, Policy, RunRequest, RunStatus
from pagi_planner.domain.context.compaction import compacted, shorten
from pagi_planner.domain.context.conversation import Conversation
from pagi_planner.domain.context.tokens import FAMILIES, GENERAL, family_of
from pagi_planner.domain.errors import ContextTooLongError
from pagi_planner.domain.model import (
    Context,
    Exchange,
    Judging,
    Message,
    ModelTraits,
    Passage,
    Role,
    ToolCall,
    ToolOutcome,
    Turn,
    Usage,
)
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.domain.tools.turn import OBSERVATION_CHARACTERS
from pagi_planner.testing import InMemoryMemory, RecordingTools, ScriptedModel, call, calling, saying

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Window:
    """A catalogue whose every model has the same window."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    async def traits(self, model):
        return ModelTraits(context_tokens=self._tokens, max_output_tokens=100)


def looking(characters: int = 3_000) -> RecordingTools:
    return RecordingTools({"look": lambda x: ToolOutcome("ok", f"{x['n']} " + "hay " * (characters // 4))})


def looks(count: int):
    """Of a provider that does not count tokens."""
    return [replace(calling(call("look", {"n": n}, f"c{n}")), usage=Usage()) for n in range(count)]


async def run(*script, window=0, memory=None, tools=None, policy=None, **request):
    model = ScriptedModel(*script)
    agent = Agent(
        model,
        tools=tools or looking(),
        memory=memory,
        catalogue=Window(window) if window else None,
        policy=policy or Policy(max_context_tokens=3_000),
    )
    result = await agent.run(RunRequest("Find the needle", "s", **request), run_id="r")
    return result, model, await agent.journal.events("r")


def assert_whole(messages) -> None:
    """Every call has its result right behind it, and every result its call."""
    open_ids: list[str] = []
    for message in messages:
        if message.role is Role.TOOL:
            assert message.tool_call_id == open_ids.pop(0)
        else:
            assert not open_ids
            open_ids = [each.id for each in message.tool_calls]
    assert not open_ids


def data_of(events, kind):
    return [event.data for event in events if event.type is kind]


async def test_old_exchanges_give_way_before_the_window_is_full_and_none_is_torn():
    result, model, events = await run(*looks(8), saying("done"))
    assert result.status is RunStatus.COMPLETED
    done = data_of(events, EventType.CONTEXT_COMPACTED)
    assert {each["because"] for each in done} == {"window"}
    for request in model.requests:
        assert_whole(request.messages)
        assert sum(GENERAL.tokens(message.text) for message in request.messages) <= 3_000
        assert request.messages[1].text == "Find the needle"
    last = model.requests[-1].messages
    assert last[-1].text.startswith('{"output": "7 hay'), "the newest stays as it is"
    assert 'called look {"n": 5}' in last[0].text, "what went is told in short"
    assert RunState.of(events).conversation()[:-1] == last


async def test_where_the_newest_alone_is_too_long_it_is_cut():
    _, model, _ = await run(*looks(3), saying("done"), tools=looking(7_500), policy=Policy(max_context_tokens=1_500))
    for request in model.requests:
        assert_whole(request.messages)
        assert sum(GENERAL.tokens(message.text) for message in request.messages) <= 1_500
    assert "characters left out" in model.requests[-1].messages[-1].text


async def test_turns_of_earlier_runs_go_first():
    memory = InMemoryMemory()
    turns = tuple(Turn(role, f"{role} {n} " + "x " * 150, NOW) for n in range(6) for role in ("user", "assistant"))
    memory.exchanges["before"] = Exchange("s", "before", "", turns)
    _, model, events = await run(*looks(3), saying("done"), memory=memory)
    [done] = data_of(events, EventType.CONTEXT_COMPACTED)
    assert done["removed"][0][0] == 1
    assert model.requests[0].messages[1].text.startswith("user")
    assert "- user: user" in model.requests[-1].messages[0].text


async def test_the_models_own_window_counts_where_it_is_known():
    _, _, events = await run(*looks(8), saying("done"), window=100_000)
    assert data_of(events, EventType.CONTEXT_COMPACTED) == []
    _, _, events = await run(*looks(4), saying("done"), window=2_500, policy=Policy(max_context_tokens=50_000))
    assert data_of(events, EventType.CONTEXT_COMPACTED)


async def test_what_the_provider_counted_corrects_the_estimate():
    def counted(tokens: int):
        return replace(calling(call("look", {"n": tokens}, f"c{tokens}")), usage=Usage(tokens, 1))

    done = replace(saying("done"), usage=Usage())
    _, _, events = await run(counted(10), done, window=100_000)
    assert RunState.of(events).scale.factor == 0.75, "10 for some hundreds is no count of the same thing"
    _, _, events = await run(counted(100_000), done, window=100_000)
    assert RunState.of(events).scale.factor == 3.0
    _, _, events = await run(counted(200), done, window=100_000)
    [asked, _] = data_of(events, EventType.PLAN_MODEL_REQUEST)
    assert RunState.of(events).scale.factor == pytest.approx(200 / asked["tokens"])


async def test_a_model_writes_the_summary_where_that_is_set():
    policy = Policy(max_context_tokens=3_000, compacts_by_model=True)
    _, model, events = await run(*looks(5), saying("I looked."), saying("done"), policy=policy)
    [done] = data_of(events, EventType.CONTEXT_COMPACTED)
    assert (done["by"], done["summary"]) == ("model", "I looked.")
    assert "I looked." in model.requests[-1].messages[0].text
    _, _, events = await run(*looks(5), saying(""), saying("done"), policy=policy)
    assert data_of(events, EventType.CONTEXT_COMPACTED)[0]["by"] == "extract"


class TestTooLong:
    async def test_one_stronger_compaction_then_on(self):
        too_long = ContextTooLongError("maximum context length is 4096 tokens")
        _, model, events = await run(*looks(3), too_long, saying("done"), policy=Policy())
        [done] = data_of(events, EventType.CONTEXT_COMPACTED)
        assert done["because"] == "too_long"
        assert done["tokens_after"] <= done["tokens_before"] // 2 + 20
        assert [asked.effect_id for asked in model.requests[-2:]] == ["r/4/model", "r/5/model"]
        assert_whole(model.requests[-1].messages)

    async def test_then_a_clear_failure(self):
        too_long = ContextTooLongError("maximum context length is 4096 tokens")
        with pytest.raises(ContextTooLongError, match="cannot be made shorter: maximum context length"):
            await run(*looks(3), too_long, too_long, policy=Policy())

    async def test_where_nothing_can_go_it_is_a_failure_at_once(self):
        with pytest.raises(ContextTooLongError, match="cannot be made shorter"):
            await run(ContextTooLongError("too long"))

    async def test_long_results_and_passages_are_cut_where_that_is_all_that_is_left(self):
        passages = [Passage("p", "word " * 500, 0.5, "Domain-KB", "Domain-KB/a.md")]
        memory = InMemoryMemory(passages=passages)
        script = *looks(1), ContextTooLongError("too long"), saying("done")
        _, model, _ = await run(*script, memory=memory, tools=looking(7_000), policy=Policy())
        system, _, _, result = model.requests[-1].messages
        assert "characters left out" in result.text
        assert "passages were left out" in system.text


class TestArtifacts:
    LONG = "begin " + "hay " * 5_000 + "needle " + "hay " * 100 + "end"

    async def read(self, **arguments):
        tools = RecordingTools({"long": lambda _: ToolOutcome("ok", self.LONG)})
        read = calling(call("read_artifact", {"artifact": "1/0", **arguments}))
        model = ScriptedModel(calling(call("long", {})), read, saying("done"))
        result = await Agent(model, tools=tools).run("x")
        return result.steps[1], model

    async def test_a_long_output_is_shown_by_its_ends_and_a_reference_that_can_be_read_on(self):
        step, model = await self.read(offset=10, length=20)
        shown = model.requests[1].messages[-1].text
        assert len(shown) < OBSERVATION_CHARACTERS + 200
        assert "call read_artifact with artifact='1/0'" in shown
        assert [spec.name for spec in model.requests[0].tools] == ["long"]
        assert [spec.name for spec in model.requests[1].tools] == ["long", "read_artifact"]
        whole = json.dumps({"output": self.LONG})
        assert step.output == {"text": whole[10:30], "offset": 10, "characters": len(whole), "next_offset": 30}

    async def test_it_is_searched(self):
        step, _ = await self.read(search="NEEDLE")
        assert (step.output["found"], "needle" in step.output["matches"][0]["text"]) == (1, True)

    async def test_what_is_found_lies_where_it_is_said_to_whatever_the_letters(self, monkeypatch):
        monkeypatch.setattr(TestArtifacts, "LONG", "İ" * 9_000 + "needle")
        step, _ = await self.read(search="NEEDLE")
        [match] = step.output["matches"]
        whole = json.dumps({"output": self.LONG}, ensure_ascii=False)
        assert whole[match["offset"] :].startswith("needle")

    async def test_no_part_of_what_is_read_is_cut_again(self, monkeypatch):
        # Each of them is two characters more in the result of the reading.
        monkeypatch.setattr(TestArtifacts, "LONG", '"\n' * 6_000)
        whole, offset, read = json.dumps({"output": self.LONG}), 0, ""
        while offset is not None:
            step, model = await self.read(offset=offset)
            assert "characters left out" not in model.requests[-1].messages[-1].text
            read += step.output["text"]
            offset = step.output.get("next_offset")
        assert read == whole

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"artifact": "9/9"}, "there is no artifact '9/9'; there are: 1/0"),
            ({"offset": -1}, "offset must be"),
            ({"length": 100_000}, "length must be"),
            ({"search": ""}, "search must be"),
        ],
    )
    async def test_wrong_arguments_are_told(self, arguments, said):
        step, _ = await self.read(**arguments)
        assert said in step.error


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=12), st.integers(0, 800), st.booleans())
def test_no_compaction_tears_an_exchange_or_touches_the_request(exchanges, target, strong):
    messages = [Message(Role.SYSTEM, "soul"), Message(Role.USER, "old"), Message(Role.ASSISTANT, "older")]
    messages.append(Message(Role.USER, "the request"))
    for n, (calls, size) in enumerate(exchanges):
        made = tuple(ToolCall(f"{n}-{k}", "look", "{}") for k in range(calls))
        messages.append(Message(Role.ASSISTANT, "x " * size, made))
        messages += [Message(Role.TOOL, "y " * size * 10, tool_call_id=each.id) for each in made]
    talk = Conversation(messages)
    talk.request_at = 3
    how = shorten(talk, GENERAL, target, strong=strong)
    if how is None:
        return
    before = sum(talk.sizes(GENERAL))
    last = talk.messages[-1]
    talk.compact(compacted(how, "in short"))
    assert_whole(talk.messages)
    assert talk.messages[talk.request_at].text == "the request"
    assert talk.messages[0].text == "soul"
    assert sum(talk.sizes(GENERAL)) < before
    if not strong and exchanges:
        assert talk.messages[-1] == last


def test_tokens_are_estimated_by_the_family_of_the_model():
    assert family_of("claude-sonnet-4") is not family_of("gpt-5") is not GENERAL
    assert family_of("") is family_of("mock") is GENERAL
    # Counted with the families' own tokenizers; see docs/runs.md for more.
    chinese = "人工智能代理可以调用工具来回答用户的问题。"
    assert 0.5 < family_of("gpt-4o").tokens(chinese) / 14 < 2
    assert GENERAL.tokens("") == 0


@given(st.text(), st.text())
def test_an_estimate_is_never_less_for_more(one, more):
    for family in (GENERAL, *FAMILIES):
        assert family.tokens(one + more) >= max(family.tokens(one), family.tokens(more)) - 1


async def test_the_summary_of_a_session_stands_in_the_first_message():
    class Summarising(InMemoryMemory):
        async def recall(self, request):
            return Context("Soul.", (), (), summary="They spoke about tea.")

    _, model, _ = await run(saying("done"), memory=Summarising(), limits=Limits())
    assert "What was said before, in short:\nThey spoke about tea." in model.requests[0].messages[0].text


@pytest.mark.parametrize(("most", "asked"), [(None, None), (1_000_000, 100), (50, 50)])
async def test_no_answer_may_be_longer_than_the_model_can_make_it(most, asked):
    evaluate = Judging(judge=True)
    _, model, _ = await run(
        saying("done"), saying("{}"), window=50_000, limits=Limits(max_tokens=most), evaluate=evaluate
    )
    assert model.requests[0].max_output_tokens == asked
    assert model.requests[1].max_output_tokens == (asked if most != 50 else 35), "what the judge says, too"
