"""What a service says of its health."""

from __future__ import annotations

import asyncio

import pytest
from pagi_chassis import health as health_module
from pagi_chassis.errors import UnavailableError
from pagi_chassis.health import Health


async def well() -> None:
    pass


def failing(error: Exception):
    async def check() -> None:
        raise error

    return check


@pytest.fixture
def health():
    health = Health("demo")
    health.mark_ready()
    return health


async def test_ok_where_all_is_well(health):
    health.depends_on("memory", well, required=True)
    report = await health.report()
    assert (report.service, report.status, report.http_status) == ("demo", "ok", 200)
    assert report.dependencies == {"memory": {"status": "ok"}}


async def test_degraded_where_something_optional_is_away(health):
    health.depends_on("memory", failing(UnavailableError("memory:1 cannot be reached")))
    health.depends_on("sandbox", well, required=True)
    report = await health.report()
    assert (report.status, report.http_status) == ("degraded", 200)
    assert report.dependencies["memory"] == {"status": "unavailable", "detail": "memory:1 cannot be reached"}


async def test_unavailable_where_something_required_is_away(health):
    health.depends_on("gateway", failing(OSError("no route")), required=True)
    report = await health.report()
    assert (report.status, report.http_status) == ("unavailable", 503)
    assert report.dependencies["gateway"]["detail"] == "OSError: no route"


async def test_a_check_that_hangs_is_away_and_holds_up_nobody(health, monkeypatch):
    monkeypatch.setattr(health_module, "CHECK_TIMEOUT_S", 0.05)
    for name in ("a", "b"):
        health.depends_on(name, asyncio.Event().wait)
    async with asyncio.timeout(5):
        report = await health.report()
    assert report.status == "degraded"
    assert report.dependencies["a"]["detail"] == "no answer within 0.05 s"


async def test_unavailable_before_it_is_ready_and_while_it_stops(health):
    assert (await Health("demo").report()).http_status == 503
    health.mark_stopping()
    assert (await health.report()).status == "unavailable"


async def test_more_to_tell_is_asked_each_time():
    layers = ["landlock"]
    health = Health("sandbox", detail=lambda: {"layers": list(layers)})
    layers.append("seccomp")
    assert (await health.report()).detail == {"layers": ["landlock", "seccomp"]}


async def test_as_the_last_component_it_welcomes_traffic_and_sends_it_away():
    health = Health("demo")
    await health.start()
    assert (await health.report()).status == "ok"
    await health.stop()
    assert (await health.report()).status == "unavailable"
