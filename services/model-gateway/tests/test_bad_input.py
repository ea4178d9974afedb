"""Requests that can be asked of nobody: a typed error that names the field, and nothing is sent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pagi.gateway.v1 import gateway_pb2 as pb
from pagi_gateway.convert import plan_request_from_proto
from pagi_gateway.domain.errors import InvalidPlanRequestError
from pagi_gateway.domain.gateway import Gateway
from pagi_gateway.domain.validation import MOST_MESSAGES
from pagi_gateway.testing import RecordingProvider

PNG = b"\x89PNG\r\n\x1a\n0000"
USER, ASSISTANT, TOOL, SYSTEM = pb.ROLE_USER, pb.ROLE_ASSISTANT, pb.ROLE_TOOL, pb.ROLE_SYSTEM


def user(*parts: pb.ContentPart, role: pb.Role.ValueType = USER) -> pb.Message:
    return pb.Message(role=role, text="x", parts=parts)


def image(data: bytes = b"", url: str = "", media_type: str = "") -> pb.ContentPart:
    media = pb.Media(url=url, media_type=media_type) if url else pb.Media(data=data, media_type=media_type)
    return pb.ContentPart(image=media)


def file(data: bytes = b"", media_type: str = "") -> pb.ContentPart:
    return pb.ContentPart(file=pb.Media(data=data, media_type=media_type))


def tool(name: str = "math", schema: str = "{}") -> pb.ToolSpec:
    return pb.ToolSpec(name=name, parameters_schema_json=schema)


def asked(*messages: pb.Message, **members: object) -> pb.GetPlanRequest:
    return pb.GetPlanRequest(messages=messages or [user()], **members)  # type: ignore[arg-type]


NAN = float("nan")
BAD: dict[str, tuple[pb.GetPlanRequest, str]] = {
    "no messages": (pb.GetPlanRequest(), "messages"),
    "10,000 messages": (asked(*[user()] * 10_000), "messages"),
    "a result without its call": (asked(user(), pb.Message(role=TOOL, tool_call_id="c")), "messages[1].tool_call_id"),
    "a schema that is no JSON": (asked(tools=[tool(schema="{")]), "tools[0].parameters_schema_json"),
    "a schema that is a list": (asked(tools=[tool(schema="[]")]), "tools[0].parameters_schema_json"),
    "a schema of no known type": (asked(tools=[tool(schema='{"type": "objekt"}')]), "tools[0].parameters_schema_json"),
    "a schema that refers away": (
        asked(tools=[tool(schema='{"$ref": "https://x.example/s.json"}')]),
        "tools[0].parameters_schema_json",
    ),
    "a schema without bottom": (asked(tools=[tool(schema="[" * 100_000)]), "tools[0].parameters_schema_json"),
    "two tools of one name": (asked(tools=[tool(), tool()]), "tools[1].name"),
    "a tool without a name": (asked(tools=[tool("")]), "tools[0].name"),
    "an image that is none": (asked(user(image(b"<svg/>"))), "messages[0].parts[0].data"),
    "an image of no bytes": (asked(user(image())), "messages[0].parts[0]"),
    "an image of another type": (asked(user(image(PNG, media_type="image/gif"))), "messages[0].parts[0].media_type"),
    "a link that is not https": (asked(user(image(url="file:///etc/passwd"))), "messages[0].parts[0].url"),
    "a file of no known type": (asked(user(file(b"words"))), "messages[0].parts[0].media_type"),
    "a PDF that is none": (asked(user(file(b"words", "application/pdf"))), "messages[0].parts[0].media_type"),
    "an empty part": (asked(user(pb.ContentPart())), "messages[0].parts[0]"),
    "an image from the system": (asked(user(image(PNG), role=SYSTEM)), "messages[0].parts[0]"),
    "NaN temperature": (asked(temperature=NAN), "temperature"),
    "NaN top_p": (asked(top_p=NAN), "top_p"),
    "top_p over 1": (asked(top_p=1.5), "top_p"),
    "an empty stop": (asked(stop=["END", ""]), "stop[1]"),
    "NaN cost": (asked(limits=pb.GenerationLimits(max_cost_usd=NAN)), "limits.max_cost_usd"),
    "an unknown effort": (asked(reasoning_effort=77), "reasoning_effort"),
    "an unknown mode": (asked(tool_choice=pb.ToolChoice(mode=77)), "tool_choice.mode"),  # type: ignore[arg-type]
    "no tool to be called": (asked(tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED)), "tool_choice.mode"),
    "an absent tool to be called": (asked(tools=[tool()], tool_choice=pb.ToolChoice(name="x")), "tool_choice.name"),
    "a form without a schema": (asked(response_format=pb.ResponseFormat()), "response_format.schema_json"),
    "a form of a bad name": (
        asked(response_format=pb.ResponseFormat(schema_json="{}", name="a b")),
        "response_format.name",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_it_is_refused_by_its_field(name: str) -> None:
    request, field = BAD[name]
    provider = RecordingProvider()
    gateway = Gateway(provider, longest_s=10)
    with pytest.raises(InvalidPlanRequestError) as caught:
        await gateway.plan(plan_request_from_proto(request))
    assert caught.value.field == field
    assert len(caught.value.message) < 500
    assert provider.requests == []


async def test_what_is_good_goes_through() -> None:
    provider = RecordingProvider()
    request = asked(
        user(image(PNG), image(url="https://x.example/a.png"), file(b"%PDF-1"), file(b"words", "text/plain")),
        tools=[tool(schema='{"type": "object", "properties": {"e": {"type": "string"}}}')],
        temperature=0,
        top_p=1,
        seed=0,
        on_unsupported=pb.ON_UNSUPPORTED_LEAVE_OUT,
        cache=pb.CacheHints(tools=True, key="k"),
    )
    await Gateway(provider, longest_s=10).plan(plan_request_from_proto(request))
    sent = provider.requests[0]
    assert [part.media_type for part in sent.messages[0].parts] == ["image/png", "", "application/pdf", "text/plain"]
    assert (sent.temperature, sent.top_p, sent.seed, sent.leave_out) == (0, 1, 0, True)
    assert (sent.cache_tools, sent.cache_key) == (True, "k")
    most = replace(sent, messages=sent.messages * MOST_MESSAGES)
    await Gateway(provider, longest_s=10).plan(most)
