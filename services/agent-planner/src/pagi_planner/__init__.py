"""The agent of PAGI Mesh. `Agent` runs in any process; the service around it adds HTTP, gRPC and SQLite."""

from pagi_planner.domain.agent import Agent, Policy
from pagi_planner.domain.model import Limits, RunRequest, RunResult, RunStatus

__all__ = ["Agent", "Limits", "Policy", "RunRequest", "RunResult", "RunStatus"]
