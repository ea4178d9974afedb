"""Who may call: the holder of one key."""

from __future__ import annotations

import hmac

from pagi_chassis.errors import UnauthenticatedError
from starlette.requests import Request


class ApiKey:
    """A dependency that lets a request pass with the key in `X-API-Key` or as a bearer token."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def __call__(self, request: Request) -> None:
        """Compares in constant time.

        Raises:
            UnauthenticatedError: The key is absent or wrong; which of the two is not told.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        if not hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), self._key):
            raise UnauthenticatedError("unauthenticated")
