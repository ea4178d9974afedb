"""Bodies that every service has: problem documents and health."""

from __future__ import annotations

from pydantic import BaseModel, Field


class FaultBody(BaseModel):
    """What is wrong with one part of a request."""

    field: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document; `error` says the same for readers of the founding documents."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    trace_id: str
    error: str
    errors: list[FaultBody] | None = Field(default=None, description="Where parts of the request are wrong.")
    run_id: str | None = Field(default=None, description="The run, where one was begun; it is recorded under this id.")


class StateBody(BaseModel):
    """Whether it is so."""

    status: str = Field(description="ok or unavailable.")


class DependencyBody(BaseModel):
    """One thing that the service depends on."""

    status: str
    detail: str | None = None


class HealthBody(BaseModel):
    """The service and its dependencies."""

    service: str
    version: str
    status: str = Field(description="ok, degraded or unavailable.")
    dependencies: dict[str, DependencyBody]
