"""`GET /docs`: the OpenAPI document as one page, without scripts and without anything from another server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, RedirectResponse

if TYPE_CHECKING:
    from fastapi import FastAPI

PATH = "/docs"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
h2{border-bottom:1px solid #ccc;margin-top:2em} code,pre{font:13px ui-monospace,monospace}
table{border-collapse:collapse;margin:.5em 0} td{padding:.15em 1em .15em 0;vertical-align:top}
details{margin:.4em 0} summary{cursor:pointer} b{display:inline-block;min-width:4em}
"""
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "minLength": "from {} characters on",
    "maxLength": "up to {} characters",
    "maxItems": "up to {} items",
    "pattern": "matches {}",
    "default": "default {}",
}
_METHODS = ("get", "post", "put", "patch", "delete")


def add(app: FastAPI) -> None:
    """Adds the page, to which the root leads, in the place of FastAPI's, which wants scripts from the Internet."""
    app.docs_url = PATH

    async def show() -> HTMLResponse:
        return HTMLResponse("".join(_page(app.openapi())))

    async def lead() -> RedirectResponse:
        return RedirectResponse(PATH.removeprefix("/"))

    app.add_api_route(PATH, show, include_in_schema=False, response_class=HTMLResponse)
    app.add_api_route("/", lead, include_in_schema=False, response_class=RedirectResponse)


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    about = document["info"]
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(about["title"])}</title>'
    yield f"<style>{_STYLE}</style><h1>{_text(about['title'])} {_text(about['version'])}</h1>"
    yield f"<p>{_text(about.get('description', ''))} The same for programs: <a href=openapi.json>openapi.json</a>.</p>"
    operations = [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    for tag in dict.fromkeys(operation["tags"][0] for *_, operation in operations):
        yield f"<h2>{_text(tag)}</h2>"
        for method, path, operation in operations:
            if operation["tags"][0] == tag:
                yield from _operation(method, path, operation)
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<details id="{_text(name)}" open><summary><code>{_text(name)}</code> {_text(_about(schema))}</summary>'
        yield f"{_members(schema)}</details>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    heading = f"<b>{method.upper()}</b> <code>{_text(path)}</code> {_text(operation['summary'])}"
    yield f"<details><summary>{heading}</summary>"
    yield f"<p>{_text(operation.get('description', ''))}</p>"
    rows = [
        (
            each["name"],
            f"{each['in']}, {_type(each['schema'])}",
            each.get("required"),
            _about(each) or _about(each["schema"]),
        )
        for each in operation.get("parameters", ())
    ]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(
            (
                "body",
                f"{_text(media)}, {_type(content.get('schema', {}))}",
                operation["requestBody"].get("required"),
                "",
            )
        )
    yield _table(rows)
    yield "<table>"
    for status, answer in operation["responses"].items():
        schemas = [_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
        yield f"<tr><td>{_text(status)}<td>{_text(answer['description'])}<td>{', '.join(dict.fromkeys(schemas))}"
    yield "</table></details>"


def _members(schema: Mapping[str, Any]) -> str:
    if "properties" not in schema:
        return f"<p>{_type(schema)}</p>"
    required = schema.get("required", ())
    return _table([(name, _type(each), name in required, _about(each)) for name, each in schema["properties"].items()])


def _table(rows: list[tuple[str, str, object, str]]) -> str:
    """Names and descriptions are escaped here; the types are HTML already."""
    cells = (
        f"<tr><td><code>{_text(name)}</code>{'' if needed else ' (optional)'}<td>{kind}<td>{_text(about)}"
        for name, kind, needed, about in rows
    )
    return f"<table>{''.join(cells)}</table>" if rows else ""


def _type(schema: Mapping[str, Any]) -> str:
    """The type with its bounds, as HTML; a schema of the document as a link to it."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(each) for each in choices)
    if "enum" in schema or "const" in schema:
        return " | ".join(_text(each) for each in schema.get("enum", [schema.get("const")]))
    kind = (
        f"list of {_type(schema.get('items', {}))}"
        if schema.get("type") == "array"
        else _text(schema.get("type", "any"))
    )
    bounds = [said.format(_text(schema[key])) for key, said in _BOUNDS.items() if schema.get(key) is not None]
    return ", ".join([kind, *bounds])


def _about(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description", ""))


def _text(value: object) -> str:
    return escape(str(value))
