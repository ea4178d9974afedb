"""Loads the tools, each apart, so that a broken package costs its own tools only."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pagi_sandbox.domain.describing import describe
from pagi_sandbox.domain.model import LeftOut, ToolSpec
from pagi_sandbox.domain.tool import Tool
from pagi_sandbox.domain.tools import BuiltInOptions, built_in


@dataclass(slots=True)
class LoadedTools:
    """The tools by name, what to show of them, and what could not be loaded; `references` are of packages' tools.

    `specs` may hold a name twice: refusing that is the registry's part, which knows every runner.
    """

    by_name: dict[str, Tool] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    specs: list[ToolSpec] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def load(references: Iterable[tuple[str, str]], options: BuiltInOptions | None = None) -> LoadedTools:
    """The built-in tools, and those that packages register.

    Args:
        references: pairs of origin (for people) and "module:attribute" (entry point syntax).
        options: what the operator chose of the built-in ones; their defaults where it is None.
    """
    loaded = LoadedTools()
    options = options or BuiltInOptions()
    preloaded = tuple(module for module in options.preload if _preload(loaded, module))
    for tool in built_in(replace(options, preload=preloaded)):
        _take(loaded, tool, "pagi-sandbox")
    for origin, reference in references:
        try:
            with _no_new_threads():
                tool = resolve(reference)
            name = _take(loaded, tool, origin)
            loaded.references.setdefault(name, reference)
        except Exception as error:  # noqa: BLE001 whatever a package does at import, the others go on
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename}:{last.lineno}"
            loaded.left_out.append(LeftOut(origin, f"{type(error).__name__}: {error} ({reference}, {where})"))
    return loaded


def _preload(loaded: LoadedTools, module: str) -> bool:
    """Imports a module once for all children; False where it cannot be had."""
    try:
        with _no_new_threads():
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 whatever a module does at import, the tools go on
        reason = f"{type(error).__name__}: {error}; `python` runs without it being preloaded"
        loaded.left_out.append(LeftOut(f"SANDBOX_PRELOAD={module}", reason))
        return False
    return True


@contextmanager
def _no_new_threads() -> Iterator[None]:
    threads = _threads()
    yield
    if _threads() > threads:
        raise RuntimeError("its import starts threads, which a fork does not carry over")


def resolve(reference: str) -> Any:
    """The tool that "module:attribute" names (entry point syntax); of a class, an object."""
    module, _, attribute = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)
    return found() if isinstance(found, type) else found


def _threads() -> int:
    # Asked of the kernel: importing `threading` alone makes each fork 0.3 ms slower, and it does not see C's threads.
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _take(loaded: LoadedTools, tool: Tool, origin: str) -> str:
    spec = describe(tool, origin)
    loaded.specs.append(spec)
    loaded.by_name.setdefault(spec.name, tool)
    return spec.name
