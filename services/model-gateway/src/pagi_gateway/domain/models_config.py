"""What `models.yaml` says, as a whole: each part belongs to the one who reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagi_gateway.domain.routes import Routes


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """One reading of the file.

    Attributes:
        routes: Who is asked; None where the environment says so.
    """

    routes: Routes | None = None
