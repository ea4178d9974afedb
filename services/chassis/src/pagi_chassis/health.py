"""Whether a service lives, is ready, and what it depends on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

from pagi_chassis.errors import PagiError

CHECK_TIMEOUT_S = 1.0

State = Literal["ok", "degraded", "unavailable"]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What `GET /health` answers; the service is `degraded` where something optional is away."""

    service: str
    version: str
    status: State
    dependencies: dict[str, dict[str, str]] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def http_status(self) -> int:
        """503 where the service cannot work."""
        return 503 if self.status == "unavailable" else 200


class Health:
    """Collects what a service depends on and answers for it.

    It is a component too: as the last one it says that the service is ready once all others have started, and is the
    first to say that it stops.

    Args:
        service: Its name.
        detail: Called for each report: more to tell, e.g. which isolation is active.
    """

    def __init__(self, service: str, *, detail: Callable[[], dict[str, Any]] | None = None) -> None:
        self.service = service
        self.ready = False
        self._version = version("pagi-chassis")  # all distributions are released together
        self._detail = detail
        self._checks: dict[str, tuple[Callable[[], Awaitable[None]], bool]] = {}

    def depends_on(self, name: str, check: Callable[[], Awaitable[None]], *, required: bool = False) -> None:
        """Adds a dependency. `check` raises where it is away; it is given 1 s."""
        self._checks[name] = (check, required)

    def mark_ready(self) -> None:
        """From now on traffic is welcome."""
        self.ready = True

    def mark_stopping(self) -> None:
        """From now on traffic should go elsewhere."""
        self.ready = False

    async def start(self) -> None:
        """Welcomes traffic: everything else has started."""
        self.mark_ready()

    async def stop(self) -> None:
        """Sends traffic elsewhere, before anything else stops."""
        self.mark_stopping()

    async def report(self) -> HealthReport:
        """Asks every dependency at once."""
        names = list(self._checks)
        results = await asyncio.gather(*(self._ask(name) for name in names))
        away = [name for name, result in zip(names, results, strict=True) if result["status"] != "ok"]
        status: State = "ok" if self.ready else "unavailable"
        if status == "ok" and away:
            status = "unavailable" if any(self._checks[name][1] for name in away) else "degraded"
        return HealthReport(
            self.service,
            self._version,
            status,
            dict(zip(names, results, strict=True)),
            self._detail() if self._detail else {},
        )

    async def _ask(self, name: str) -> dict[str, str]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._checks[name][0]()
        except TimeoutError:
            return {"status": "unavailable", "detail": f"no answer within {CHECK_TIMEOUT_S:g} s"}
        except PagiError as error:
            return {"status": "unavailable", "detail": error.message}
        except Exception as error:  # noqa: BLE001 - whatever a check raises is its answer
            return {"status": "unavailable", "detail": f"{type(error).__name__}: {error}"}
        return {"status": "ok"}
