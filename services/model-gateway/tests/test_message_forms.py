"""What each dialect makes of images, files, tool results, reasoning and settings."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from pagi_gateway.adapters import anthropic_messages, openai_messages, responses_messages
from pagi_gateway.adapters.http_endpoint import Endpoint
from pagi_gateway.domain.content import Part, PartKind, Reasoning
from pagi_gateway.domain.model import (
    Effort,
    Message,
    PlanRequest,
    ResponseFormat,
    Role,
    ToolCall,
    ToolSpec,
    ToolUse,
)

PNG = b"\x89PNG\r\n\x1a\n0000"
PDF = b"%PDF-1.7 0000"
IMAGE = Part(PartKind.IMAGE, data=PNG, media_type="image/png")
LINK = Part(PartKind.IMAGE, url="https://x.example/heron.png")
FILE = Part(PartKind.FILE, data=PDF, media_type="application/pdf", name="heron.pdf")
WORDS = Part(PartKind.TEXT, "and this?")
PNG_URL = f"data:image/png;base64,{b64encode(PNG).decode()}"
PDF_URL = f"data:application/pdf;base64,{b64encode(PDF).decode()}"
CALL = ToolCall("c1", "look", '{"at": "heron"}')
ENDPOINT = Endpoint("openai", "http://x", "m")
CLAUDE = Endpoint("anthropic", "http://x", "claude-sonnet-4-5", default_output_tokens=8192)

SHOWN = Message(Role.USER, "What is it?", parts=(IMAGE, LINK, WORDS, FILE))
LOOP = (
    Message(Role.USER, "Look."),
    Message(
        Role.ASSISTANT,
        "I look.",
        tool_calls=(CALL, ToolCall("c2", "hear", "not json")),
        reasoning=(Reasoning("Hm.", "sig", "rs_1"), Reasoning("", "blob", redacted=True), Reasoning("unsigned")),
    ),
    Message(Role.TOOL, "a picture", tool_call_id="c1", parts=(IMAGE,)),
    Message(Role.TOOL, "deaf", tool_call_id="c2", is_error=True),
    Message(Role.USER, "And?", cache=True),
)


def chat(request: PlanRequest, endpoint: Endpoint = ENDPOINT) -> Any:
    return json.loads(openai_messages.request_body(request, endpoint, stream=False))


def claude(request: PlanRequest) -> Any:
    return json.loads(anthropic_messages.request_body(request, CLAUDE, stream=False))


def responses(request: PlanRequest) -> Any:
    return json.loads(responses_messages.request_body(request, ENDPOINT, reasons=True, stream=False))


def test_chat_shows_images_and_files() -> None:
    assert chat(PlanRequest((SHOWN,)))["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PNG_URL}},
        {"type": "image_url", "image_url": {"url": LINK.url}},
        {"type": "text", "text": "and this?"},
        {"type": "file", "file": {"filename": "heron.pdf", "file_data": PDF_URL}},
    ]


def test_chat_lets_the_user_show_what_tools_showed() -> None:
    messages = chat(PlanRequest(LOOP))["messages"]
    assert [each["role"] for each in messages] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert messages[4]["content"][1] == {"type": "image_url", "image_url": {"url": PNG_URL}}
    assert "reasoning_content" not in messages[1]
    back = chat(PlanRequest(LOOP), replace(ENDPOINT, provider="deepseek"))["messages"]
    assert back[1]["reasoning_content"] == "Hm.unsigned"


def test_claude_shows_images_and_files() -> None:
    assert claude(PlanRequest((SHOWN,)))["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64encode(PNG).decode()}},
        {"type": "image", "source": {"type": "url", "url": LINK.url}},
        {"type": "text", "text": "and this?"},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": b64encode(PDF).decode()},
            "title": "heron.pdf",
        },
    ]


def test_claude_takes_turns_and_gets_its_signed_reasoning_back() -> None:
    user, assistant, results = claude(PlanRequest(LOOP))["messages"]
    assert user == {"role": "user", "content": [{"type": "text", "text": "Look."}]}
    assert assistant["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "blob"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "heron"}},
        {"type": "tool_use", "id": "c2", "name": "hear", "input": {"not_json": "not json"}},
    ]
    first, second, said = results["content"]
    assert first["tool_use_id"] == "c1"
    assert [block["type"] for block in first["content"]] == ["text", "image"]
    assert second == {"type": "tool_result", "tool_use_id": "c2", "content": "deaf", "is_error": True}
    assert said == {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}}


def test_responses_hold_the_whole_conversation() -> None:
    items = responses(PlanRequest(LOOP))["input"]
    assert [item.get("type", item.get("role")) for item in items] == [
        "user",
        "reasoning",
        "assistant",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "user",
    ]
    assert items[1] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "sig",
    }
    assert items[5]["output"] == [
        {"type": "input_text", "text": "a picture"},
        {"type": "input_image", "image_url": PNG_URL},
    ]
    content = responses(PlanRequest((SHOWN,)))["input"][0]["content"]
    assert content[4] == {"type": "input_file", "filename": "heron.pdf", "file_data": PDF_URL}


@pytest.mark.parametrize(
    ("use", "name", "chat_form", "claude_form", "responses_form"),
    [
        (ToolUse.AUTO, "", None, None, None),
        (ToolUse.NONE, "", "none", {"type": "none"}, "none"),
        (ToolUse.REQUIRED, "", "required", {"type": "any"}, "required"),
        (
            ToolUse.REQUIRED,
            "look",
            {"type": "function", "function": {"name": "look"}},
            {"type": "tool", "name": "look"},
            {"type": "function", "name": "look"},
        ),
    ],
)
def test_the_choice_of_tools(use: ToolUse, name: str, chat_form: Any, claude_form: Any, responses_form: Any) -> None:
    asked = PlanRequest((Message(Role.USER, "x"),), (ToolSpec("look"),), "m", tool_use=use, tool_name=name)
    assert chat(asked).get("tool_choice") == chat_form
    assert claude(asked).get("tool_choice") == claude_form
    assert responses(asked).get("tool_choice") == responses_form


def test_the_form_of_the_answer() -> None:
    asked = PlanRequest((Message(Role.USER, "x"),), model="m", response_format=ResponseFormat('{"type": "object"}'))
    form = {"name": "answer", "schema": {"type": "object"}}
    assert chat(asked)["response_format"] == {"type": "json_schema", "json_schema": form}
    assert responses(asked)["text"] == {"format": {"type": "json_schema", **form, "strict": False}}


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-sonnet-4-5", {"thinking": {"type": "enabled", "budget_tokens": 24576}, "max_tokens": 24676}),
        ("claude-opus-4-1-20250805", {"thinking": {"type": "enabled", "budget_tokens": 24576}, "max_tokens": 24676}),
        ("claude-opus-4-7", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "max_tokens": 100}),
        ("claude-opus-5", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "max_tokens": 100}),
    ],
)
def test_claude_reasons_as_its_model_can(model: str, sent: dict[str, Any]) -> None:
    asked = PlanRequest((Message(Role.USER, "x"),), model=model, effort=Effort.HIGH, max_output_tokens=100)
    body = claude(asked)
    assert {name: body[name] for name in sent} == sent
    assert "thinking" not in claude(replace(asked, effort=Effort.NONE))


def test_cache_key_goes_where_it_is_known() -> None:
    asked = PlanRequest((Message(Role.USER, "x"),), model="m", cache_key="k")
    assert "prompt_cache_key" not in chat(asked)
    assert chat(asked, replace(ENDPOINT, takes_cache_key=True))["prompt_cache_key"] == "k"
    assert responses(asked)["prompt_cache_key"] == "k"
