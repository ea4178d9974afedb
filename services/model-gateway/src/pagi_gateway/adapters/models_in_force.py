"""Which `models.yaml` is read, and how: for the service and for `test-model` alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pagi_chassis.component import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagi_gateway.domain.models_config import ModelsConfig
    from pagi_gateway.settings import GatewaySettings

# Of the working directory.
_MODELS_FILE = Path("models.yaml")


def models_path(settings: GatewaySettings) -> Path:
    """Where the file is, or would be.

    Raises:
        StartError: The settings name one that is not there.
    """
    if settings.models_path and not settings.models_path.is_file():
        raise StartError(f"MODELS_PATH: no such file: {settings.models_path}")
    return settings.models_path or _MODELS_FILE


def read_from(path: Path, settings: GatewaySettings, variable: Callable[[str], str]) -> ModelsConfig:
    """Reads the file.

    Raises:
        ModelsFileError: It is wrong; a `StartError`.
    """
    # Imported here: 10 ms and 4 MB that a gateway without such a file does without.
    from pagi_gateway.adapters.models_file import read_models
    from pagi_gateway.adapters.target_sources import lacking

    return read_models(path, lambda target: lacking(target, settings, variable))


def models_of(settings: GatewaySettings, variable: Callable[[str], str]) -> ModelsConfig | None:
    """What the file says; None where there is none.

    Raises:
        StartError: It is wrong, or not where the settings say.
    """
    path = models_path(settings)
    return read_from(path, settings, variable) if path.is_file() else None
