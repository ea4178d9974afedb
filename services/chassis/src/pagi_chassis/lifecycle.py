"""A process's life: settings, logs, telemetry, components up in order, a signal, components down."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pagi_chassis import telemetry
from pagi_chassis.component import Component, StartError
from pagi_chassis.errors import PagiError
from pagi_chassis.logs import set_up_logging
from pagi_chassis.settings import ServiceSettings, SettingsError, load

__all__ = ["Component", "StartError", "run"]

log = logging.getLogger(__name__)

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: a restart does not help
_NEW_OBJECTS = 10_000  # between two looks of the garbage collector; Python's 700 are fewer than one request makes
STOP_TIMEOUT_S = 10.0  # for one component; a server takes 5 s to let its calls finish

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")


class _CutShortError(Exception):
    """The signal to stop came before the start was done."""


def run(service: str, settings_class: type[S], build: Callable[[S], Coroutine[Any, Any, Sequence[Component]]]) -> None:
    """Runs a service until SIGTERM or SIGINT.

    Args:
        service: Its name: folder, compose service and OpenTelemetry `service.name`.
        settings_class: Read from the environment here, once.
        build: Makes the components, in the order in which they start.

    Raises:
        SystemExit: 78 where the configuration is wrong, 1 where the service cannot start. The reason is written.
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
        for line in str(error).splitlines() or [""]:  # several faults of one file, say
            log.critical("%s cannot start: %s", service, line)
        raise SystemExit(1) from None
    except Exception:
        log.critical("%s cannot start", service, exc_info=True)
        raise SystemExit(1) from None
    finally:
        telemetry.shut_down()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not every platform has it
        return None
    return uvloop.new_event_loop


async def _serve(service: str, settings: S, build: Callable[[S], Coroutine[Any, Any, Sequence[Component]]]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    started: list[Component] = []
    try:
        with suppress(_CutShortError):
            for component in await _unless(stop, build(settings)):
                started.append(component)
                await _unless(stop, component.start())
            _spare_the_collector()
            log.info("%s is ready", service)
            await stop.wait()
        log.info("%s stops", service)
    finally:
        for component in reversed(started):
            await _stop(component)


def _spare_the_collector() -> None:
    """What a service is made of lives as long as it does: the garbage collector need not look through it for ever."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


async def _unless(stop: asyncio.Event, step: Coroutine[Any, Any, T]) -> T:
    """Does one step of the start; a signal cuts it short, so that a slow one need not be waited for.

    Raises:
        _CutShortError: The signal came first.
    """
    doing = asyncio.ensure_future(step)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not stop.is_set():
        return await doing
    doing.cancel()
    [outcome] = await asyncio.gather(doing, return_exceptions=True)
    if isinstance(outcome, Exception):
        log.warning("the start failed while it was cut short", exc_info=outcome)
    raise _CutShortError


async def _stop(component: Component) -> None:
    """One that cannot stop, or takes for ever, must not keep the others from finishing their work."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await component.stop()
    except Exception:
        log.exception("%s did not stop cleanly", type(component).__name__)
