"""How a caller shows the key, for the OpenAPI document; what checks it is the chassis's guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pagi_chassis.api_key import EXEMPT, ApiKeyGuard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi.params import Depends

__all__ = ["EXEMPT", "ApiKeyGuard", "described"]


def described() -> Sequence[Depends]:
    """The two ways to show the key, for the OpenAPI document; what checks it is the guard."""
    return [
        Security(APIKeyHeader(name="X-API-Key", auto_error=False)),
        Security(HTTPBearer(auto_error=False)),
    ]
