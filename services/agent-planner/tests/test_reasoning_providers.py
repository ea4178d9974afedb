"""Tool loops with models that think, by a real gateway, at providers that refuse a step without their reasoning."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pagi_chassis.http_server import HttpServer
from pagi_planner import Agent, RunRequest, RunStatus
from pagi_planner.adapters.gateway_client import GatewayModel
from pagi_planner.domain.model import ToolOutcome
from pagi_planner.domain.standalone import ListJournal
from pagi_planner.domain.state.events import EventType
from pagi_planner.domain.state.run_state import RunState
from pagi_planner.testing import RecordingTools
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

STEPS = 2
MODELS = """
targets:
  claude: {{provider: anthropic, model: claude-opus-5-5, base_url: "{url}/claude", api_key_env: A_KEY}}
  deepseek: {{provider: deepseek, model: deepseek-v4-pro, base_url: "{url}/deepseek", api_key_env: A_KEY}}
  gemini: {{provider: google, model: gemini-3-pro-preview, base_url: "{url}/gemini", api_key_env: A_KEY}}
  gpt: {{provider: openai, model: gpt-5-mini, base_url: "{url}/gpt", api_key_env: A_KEY, api: responses}}
  router: {{provider: openrouter, model: x-ai/grok-4, base_url: "{url}/router", api_key_env: A_KEY}}
aliases:
  default: claude
  both: [claude, gemini]
"""


def arguments(step: int) -> dict[str, int]:
    return {"n": step}


class Claude:
    """Its thinking stands before its call, signed."""

    path = "/claude/messages"

    def turn(self, step: int) -> list[dict[str, Any]]:
        return [
            {"type": "thinking", "thinking": f"Hm {step}.", "signature": f"sig-{step}"},
            {"type": "tool_use", "id": f"toolu_{step}", "name": "add", "input": arguments(step)},
        ]

    def turns(self, body: dict[str, Any]) -> list[Any]:
        return [message["content"] for message in body["messages"] if message["role"] == "assistant"]

    def answer(self, step: int) -> dict[str, Any]:
        content = self.turn(step) if step < STEPS else [{"type": "text", "text": "done"}]
        return {"model": "m", "content": content, "stop_reason": "tool_use" if step < STEPS else "end_turn"}


class Chat:
    """One that speaks as OpenAI's chat completions, with members of its own on a message and on a call."""

    def __init__(self, name: str, message: dict[str, Any], call: dict[str, Any]) -> None:
        self.path = f"/{name}/chat/completions"
        self._message = message
        self._call = call

    def turn(self, step: int) -> dict[str, Any]:
        function = {"name": "add", "arguments": json.dumps(arguments(step))}
        call = {"id": f"c{step}", "type": "function", "function": function, **self._call}
        return {"role": "assistant", "content": None, "tool_calls": [call], **self._message}

    def turns(self, body: dict[str, Any]) -> list[Any]:
        return [message for message in body["messages"] if message["role"] == "assistant"]

    def answer(self, step: int) -> dict[str, Any]:
        message = self.turn(step) if step < STEPS else {"role": "assistant", "content": "done"}
        return {"model": "m", "choices": [{"message": message, "finish_reason": None}]}


class Responses:
    """Its reasoning is an item of its own, encrypted."""

    path = "/gpt/responses"

    def turn(self, step: int) -> list[dict[str, Any]]:
        return [
            {"type": "reasoning", "id": f"rs_{step}", "summary": [], "encrypted_content": f"gAAA{step}"},
            {"type": "function_call", "call_id": f"c{step}", "name": "add", "arguments": json.dumps(arguments(step))},
        ]

    def turns(self, body: dict[str, Any]) -> list[Any]:
        items = [item for item in body["input"] if item.get("type") in {"reasoning", "function_call"}]
        return [items[place : place + 2] for place in range(0, len(items), 2)]

    def answer(self, step: int) -> dict[str, Any]:
        said = [{"type": "message", "content": [{"type": "output_text", "text": "done"}]}]
        return {"model": "m", "status": "completed", "output": self.turn(step) if step < STEPS else said}


SIGNATURE = {"extra_content": {"google": {"thought_signature": "CiQB9/x+"}}}
UNSIGNED = {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}
DETAILS = [{"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "xai-responses-v1", "index": 0}]
PROVIDERS = {
    "claude": Claude(),
    "deepseek": Chat("deepseek", {"reasoning_content": "Grübel."}, {}),
    "gemini": Chat("gemini", {}, SIGNATURE),
    "gpt": Responses(),
    "router": Chat("router", {"reasoning_details": DETAILS}, {}),
}


class Strict:
    """All of them. They take a conversation only if each turn of theirs comes back as they gave it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        # What stands in for a turn that another one gave.
        self.foreign: dict[tuple[str, int], Any] = {}
        self.overloaded: set[str] = set()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        routes = [Route(each.path, self._answer(name), methods=["POST"]) for name, each in PROVIDERS.items()]
        server = HttpServer(Starlette(routes=routes), "127.0.0.1", 0)
        await server.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            await server.stop()

    def _answer(self, name: str):
        async def answer(request):
            body = await request.json()
            if name in self.overloaded:
                return JSONResponse({"error": {"message": "overloaded"}}, 529)
            self.asked.append((name, body))
            turns = PROVIDERS[name].turns(body)
            wanted = [self.foreign.get((name, step)) or PROVIDERS[name].turn(step) for step in range(len(turns))]
            if turns != wanted:
                return JSONResponse({"error": {"message": f"this is not what {name} said: {turns}"}}, 400)
            return JSONResponse(PROVIDERS[name].answer(len(turns)))

        return answer


def tools() -> RecordingTools:
    return RecordingTools({"add": lambda x: ToolOutcome("ok", x["n"])})


@pytest.fixture
async def strict() -> Strict:
    return Strict()


@pytest.fixture
async def model(strict, real_gateway, tmp_path) -> AsyncIterator[GatewayModel]:
    async with strict.served() as url:
        (tmp_path / "models.yaml").write_text(MODELS.format(url=url))
        async with real_gateway(A_KEY="k", MODELS_PATH=str(tmp_path / "models.yaml")) as gateway:
            yield GatewayModel(gateway, timeout_s=20)


async def test_every_provider_takes_each_step_and_so_from_a_planner_that_takes_over(model, strict):
    for name in PROVIDERS:
        journal = ListJournal()
        agent = Agent(model, tools=tools(), journal=journal)
        result = await agent.run(RunRequest("add", name, model=name), run_id=name)
        assert (result.status, result.result, len(result.steps)) == (RunStatus.COMPLETED, "done", STEPS), name
        assert len(strict.asked) == STEPS + 1, name
        events = await journal.events(name)
        answered = [n for n, event in enumerate(events, 1) if event.type is EventType.PLAN_MODEL_RESPONSE]
        for cut in (answered[0], answered[1] - 1, answered[1], answered[2] - 1):
            again = ListJournal()
            for event in events[:cut]:
                again.append(event)
            # Another planner: what it knows is what the journal says.
            taken_up = Agent(model, tools=tools(), journal=again).reopen(RunState.of(await again.events(name)))
            assert (await taken_up.drive()).result == "done"
            ids = [e.data["effect_id"] for e in await again.events(name) if e.type is EventType.PLAN_MODEL_REQUEST]
            assert ids == [f"{name}/{step}/model" for step in (1, 2, 3)], "the gateway knows each question again"
        assert len(strict.asked) == STEPS + 1, f"{name} was asked nothing twice"
        strict.asked.clear()


async def test_where_another_takes_over_it_is_sent_nothing_of_the_first(model, strict):
    call = {"id": "toolu_0", "type": "function", "function": {"name": "add", "arguments": '{"n":0}'}}
    strict.foreign["gemini", 0] = {"role": "assistant", "content": None, "tool_calls": [{**call, **UNSIGNED}]}
    strict.foreign["claude", 1] = [{"type": "tool_use", "id": "c1", "name": "add", "input": arguments(1)}]

    def hurt(x: dict[str, int]) -> ToolOutcome:
        # After its first step Claude is away for one step.
        strict.overloaded = {"claude"} if x["n"] == 0 else set()
        return ToolOutcome("ok", x["n"])

    agent = Agent(model, tools=RecordingTools({"add": hurt}))
    result = await agent.run(RunRequest("add", "s", model="both"), run_id="r")
    assert result.result == "done", result.error
    assert [name for name, _ in strict.asked] == ["claude", "gemini", "claude"]
    assert "sig-0" not in json.dumps(strict.asked[1][1])
    assert "CiQB" not in json.dumps(strict.asked[2][1])
