"""The page that describes the interface, for people whose browser may have no Internet."""

from __future__ import annotations

import re
from html import escape

import pytest


@pytest.fixture
async def page(planner):
    async with planner.client() as client:
        answer = await client.get("/docs")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        yield answer.text, (await client.get("/openapi.json")).json()


async def test_it_has_every_operation_and_every_member_of_every_schema(page):
    text, document = page
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert f"<b>{method.upper()}</b> <code>{path}</code> {escape(operation['summary'])}" in text
            assert escape(operation.get("description", "")) in text
    for name, schema in document["components"]["schemas"].items():
        described = text.partition(f'<details id="{name}"')[2].partition("</details>")[0]
        for member, about in schema.get("properties", {}).items():
            assert f"<code>{member}</code>" in described
            assert escape(about.get("description", "")) in described


async def test_it_wants_nothing_from_elsewhere_and_its_links_lead_somewhere(page):
    text, _ = page
    assert not re.search(r"<script|<link|<img|src=|url\(|https?://", text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r'id="([^"]+)"', text))


async def test_the_root_leads_there(planner):
    async with planner.client(follow_redirects=True) as client:
        assert (await client.get("/")).url.path == "/docs"
        assert (await client.get("/nothing")).json()[
            "detail"
        ] == "there is nothing at /nothing; /docs shows what there is"
