"""Reads `models.yaml`: strictly, with every fault named by its line and with what to do."""

from typing import TYPE_CHECKING, Any

from pagi_chassis.component import StartError
from pydantic import Field, ValidationError

from pagi_gateway.adapters.models_sections import Alias, Name, RoutingSection, Section, TargetSection
from pagi_gateway.adapters.models_spending import BudgetsSection, CacheSection, PriceSection
from pagi_gateway.adapters.yaml_lines import Lined, Place, YamlError, read_yaml
from pagi_gateway.domain.models_config import ModelsConfig
from pagi_gateway.domain.routes import Habits, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pagi_gateway.domain.routes import Target

_LARGEST_BYTES = 1 << 20
DEFAULT = "default"


class ModelsFileError(StartError):
    """The file cannot be used; the text has a line for each fault: file, line, place, what is wrong, what to do."""


class ModelsFile(Section):
    """The whole file. Each section has its own model, with a `made()` that turns it into the domain's types."""

    targets: dict[Name, TargetSection] = Field(default_factory=dict)
    aliases: dict[Name, Alias] = Field(default_factory=dict)
    routing: RoutingSection = RoutingSection()
    budgets: BudgetsSection = BudgetsSection()
    cache: CacheSection = CacheSection()
    prices: dict[Name, PriceSection] = Field(default_factory=dict)

    def made(self) -> ModelsConfig:
        """What it becomes."""
        habits = self.routing.over(Habits())
        routes = Routes(
            targets={name: section.made(name) for name, section in self.targets.items()},
            aliases={name: section.made(name, habits) for name, section in self.aliases.items()},
            default=DEFAULT,
            habits=habits,
            breaker=self.routing.breaker.made(),
            ejection=self.routing.ejection.made(),
        )
        return ModelsConfig(
            routes if routes.aliases else None,
            self.budgets.made(),
            self.cache.made(),
            {name: section.made() for name, section in self.prices.items()},
        )

    def faults(self, missing: "Callable[[Target], str]") -> "Iterator[tuple[Place, str]]":
        """What no single member can know of itself: places and what is wrong there.

        Args:
            missing: What a target lacks to be asked, such as its key; empty where it lacks nothing.
        """
        # Without any, the environment says who is asked, and the file only the rest.
        if (self.targets or self.aliases) and DEFAULT not in self.aliases:
            yield ("aliases",), f"one alias must be named {DEFAULT}: it is asked where a request names none"
        for name, alias in self.aliases.items():
            for number, entry in enumerate(alias.targets):
                if entry.target not in self.targets:
                    known = ", ".join(self.targets)
                    yield (
                        ("aliases", name, "targets", number, "target"),
                        f"there is no target {entry.target!r}; there are {known}",
                    )
            names = [entry.target for entry in alias.targets]
            if double := {each for each in names if names.count(each) > 1}:
                yield ("aliases", name), f"{', '.join(sorted(double))} is in it twice; use weight instead"
            if name in self.targets and names != [name]:
                yield ("aliases", name), f"{name!r} is a target too; give one of them another name"
        for name, target in self.targets.items():
            if fault := missing(target.made(name)):
                yield ("targets", name), fault


def read_models(path: "Path", missing: "Callable[[Target], str]") -> ModelsConfig:
    """Reads the file.

    Args:
        path: Of the file.
        missing: What a target lacks to be asked; empty where it lacks nothing.

    Raises:
        ModelsFileError: With every fault that was found.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise ModelsFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST_BYTES:
        raise ModelsFileError(f"{path} is larger than {_LARGEST_BYTES >> 20} MiB")
    try:
        lined = read_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ModelsFileError(f"{path}, line {line}: this is not UTF-8") from error
    except YamlError as error:
        raise ModelsFileError(f"{path}, line {error.line}: {error}") from error
    try:
        file_ = ModelsFile.model_validate(lined.value)
    except ValidationError as error:
        raise ModelsFileError(_told(path, lined, [_understood(fault) for fault in error.errors()])) from None
    if faults := list(file_.faults(missing)):
        raise ModelsFileError(_told(path, lined, faults))
    return file_.made()


def _told(path: "Path", lined: Lined, faults: "Sequence[tuple[Place, str]]") -> str:
    told = {
        (lined.line_of(place), f"{_spelled(written)}: {what}" if (written := lined.written(place)) else what)
        for place, what in faults
    }
    return "\n".join(f"{path}, line {line}: {what}" for line, what in sorted(told))


def _spelled(place: Place) -> str:
    return "".join(f"[{member}]" if isinstance(member, int) else f".{member}" for member in place).lstrip(".")


def _understood(fault: Any) -> tuple[Place, str]:
    """A fault that pydantic found, in words for people."""
    place: Place = tuple(fault["loc"])
    kind, said = fault["type"], str(fault["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = ", ".join(_known_at(place[:-1]))
        return place, f"there is no such member; there are {known}" if known else "there is no such member"
    if kind == "missing":
        return place[:-1], f"{place[-1]} is missing"
    if kind in {"model_type", "dict_type"}:
        return place, f"this must be a mapping of members, not {_shown(fault['input'])}"
    said = said.replace("Input should ", "this must ", 1)
    return place, said if kind == "value_error" else f"{said}, not {_shown(fault['input'])}"


def _shown(value: object) -> str:
    """A value in a message; short, and never all of what may be a key in the wrong place."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 24 else repr(value[:8] + "\u2026")
    return type(value).__name__ if isinstance(value, dict | list) else str(value)


def _known_at(place: Place) -> list[str]:
    """The members that a section of the file has."""
    fields: Any = ModelsFile.model_fields
    for member in place:
        field = fields.get(member) if isinstance(member, str) else None
        inner = _section_in(field.annotation) if field else None
        if inner is not None:
            fields = inner.model_fields
    return list(fields)


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_section_in(inner) for inner in getattr(annotation, "__args__", ()))
    return next((each for each in found if each is not None), None)
