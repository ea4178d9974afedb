"""What a run was given to work with, or has produced, that a model was not shown whole: a part of the run's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pagi_planner.domain.context.files import ReadFile
from pagi_planner.domain.model import Image
from pagi_planner.domain.state.asides import name_in

# How a model is told where to read on.
REFERENCE = "artifact={!r}"


@dataclass(slots=True)
class Material:
    """Files and long outputs.

    Attributes:
        files: Those of the request, as they were read.
        cut_files: The places of the files that were not shown whole.
        cut_outputs: The step of each call whose output was cut, by what its effect id adds to the run's: `1/0`.
    """

    files: list[ReadFile] = field(default_factory=list)
    cut_files: list[int] = field(default_factory=list)
    cut_outputs: dict[str, int] = field(default_factory=dict)

    @property
    def references(self) -> list[str]:
        """Of all that was not shown whole."""
        return [*self.cut_outputs, *(f"file/{place}" for place in self.cut_files)]

    def images(self, places: Sequence[int]) -> tuple[Image, ...]:
        """Those among the files."""
        return tuple(image for place in places if (image := self.files[place].image))

    def note_file(self, data: Mapping[str, Any], sent: Sequence[Mapping[str, Any]]) -> None:
        """Takes in a FILE_READ."""
        self.files.append(ReadFile.of(data, sent))

    def note_context(self, data: Mapping[str, Any]) -> None:
        """Takes in a CONTEXT_LOADED."""
        shown = enumerate(data.get("files", ()))
        self.cut_files = [place for place, each in shown if each["as"] in ("summary", "part")]

    def note_result(self, data: Mapping[str, Any], step: int) -> None:
        """Takes in a TOOL_RESULT or TOOL_ERROR; where a part was left out, a reference was put into its place."""
        name = name_in(data["effect_id"])
        if REFERENCE.format(name) in data["observation"]:
            self.cut_outputs[name] = step
