"""Request bodies, read so that whatever is wrong with the JSON is told as such."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


def parse(text: str) -> Any:
    """Reads JSON as RFC 8259 has it: without NaN and Infinity.

    Raises:
        json.JSONDecodeError: It is not JSON, or no parser would take it.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("it is nested too deep", "", 0) from None
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


class _StrictRequest(Request):
    async def json(self) -> Any:
        """Reads the body as RFC 8259 has it: UTF-8, without NaN and Infinity.

        Raises:
            json.JSONDecodeError: It is not JSON, or no parser would take it; the framework turns other errors into a
                400 that does not say what is wrong.
        """
        body = await self.body()
        try:
            return parse(body.decode())
        except UnicodeDecodeError as error:
            raise json.JSONDecodeError("it is not UTF-8", "", error.start) from None


class StrictJsonRoute(APIRoute):
    """A route whose body is read by `_StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given the stricter request."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")
