"""A process's life: settings, logs, telemetry, components up in order, a signal, components down."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from pagi_chassis import telemetry
from pagi_chassis.errors import PagiError
from pagi_chassis.logs import set_up_logging
from pagi_chassis.settings import ServiceSettings, SettingsError, load

log = logging.getLogger(__name__)

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: a restart does not help


class Component(Protocol):
    """Something with a beginning and an end: a server, a store, a background task."""

    async def start(self) -> None:
        """Gets ready. An error ends the process."""

    async def stop(self) -> None:
        """Finishes what has begun and lets go. Called also where a later component failed to start."""


class StartError(Exception):
    """A component cannot start; the text says why and what to do."""


S = TypeVar("S", bound=ServiceSettings)


def run(service: str, settings_class: type[S], build: Callable[[S], Awaitable[Sequence[Component]]]) -> None:
    """Runs a service until SIGTERM or SIGINT.

    Args:
        service: Its name: folder, compose service and OpenTelemetry `service.name`.
        settings_class: Read from the environment here, once.
        build: Makes the components, in the order in which they start.
    """
    try:
        settings = load(settings_class)
    except SettingsError as error:
        sys.stderr.write(f"{service}: the configuration is wrong\n{error}\n")
        raise SystemExit(EXIT_CONFIGURATION) from None
    set_up_logging(service, level=settings.log_level, log_format=settings.log_format)
    telemetry.set_up(service, settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_protocol)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(service, settings, build))
    except (StartError, PagiError) as error:
        log.error("%s cannot start: %s", service, error)
        raise SystemExit(1) from None
    finally:
        telemetry.shut_down()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.new_event_loop


async def _serve(service: str, settings: S, build: Callable[[S], Awaitable[Sequence[Component]]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    components = await build(settings)
    started: list[Component] = []
    try:
        for component in components:
            started.append(component)
            if not await _start_unless(stop, component):
                return
        log.info("%s is ready", service)
        await stop.wait()
        log.info("%s stops", service)
    finally:
        for component in reversed(started):
            try:
                await component.stop()
            except Exception:
                # One that cannot stop must not keep the others from finishing their work.
                log.exception("%s did not stop cleanly", type(component).__name__)


async def _start_unless(stop: asyncio.Event, component: Component) -> bool:
    """Starts the component; False where the signal to stop came first, so that a slow start can be ended."""
    starting = asyncio.ensure_future(component.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        return not stop.is_set()
    starting.cancel()
    await asyncio.wait({starting})
    return False
