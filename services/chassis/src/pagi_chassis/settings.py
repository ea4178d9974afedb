"""Settings from the environment and from `.env`; what is common to every service is declared here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_origin

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pagi_chassis.tls import ClientTls, ServerTls

ENV_FILE = Path(".env")  # of the working directory


class SettingsError(Exception):
    """A variable holds what it may not; the text names each one and what is allowed."""


class ServiceSettings(BaseModel):
    """The variables that every service reads. A field's name in upper case is its variable, unless it has aliases.

    Arguments (by field or variable) come first, then the environment, then `.env`. An empty variable is an unset one.
    """

    # Not pydantic-settings: it does the same, and its import costs more than that of grpc.
    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    bind_host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("PAGI_BIND_HOST"),
        description="Address that every port of a service listens on. A container sets 0.0.0.0.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log lines that are written: debug, info, warning, error."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="console for people, json for machines."
    )
    otel_exporter_otlp_endpoint: str = Field(
        default="", description="Where spans are sent by OTLP, e.g. http://localhost:4317. Empty: nowhere."
    )
    otel_exporter_otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        default="grpc", description="How spans are sent: grpc (port 4317) or http/protobuf (port 4318)."
    )
    tls_server_cert_path: Path | None = Field(default=None, description="PEM certificate that a gRPC server shows.")
    tls_server_key_path: Path | None = Field(default=None, description="PEM key of the server's certificate.")
    tls_client_cert_path: Path | None = Field(default=None, description="PEM certificate that a gRPC client shows.")
    tls_client_key_path: Path | None = Field(default=None, description="PEM key of the client's certificate.")
    tls_ca_cert_path: Path | None = Field(default=None, description="PEM certificate of the CA that both believe.")
    tls_server_name: str = Field(
        default="", description="Name expected in the server's certificate where it is not the one dialled."
    )

    def __init__(self, **given: Any) -> None:
        super().__init__(**_read(type(self), given), **given)

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        """Accepts LOG_LEVEL=INFO as people write it."""
        return value.lower() if isinstance(value, str) else value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("give a URL that starts with http:// or https://")
        return value

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        """Half of it would be plaintext where somebody believes that there is none."""
        sides = [
            {f"TLS_{side}_{part}_PATH": getattr(self, f"tls_{side}_{part}_path".lower()) for part in ("CERT", "KEY")}
            for side in ("SERVER", "CLIENT")
        ]
        wanted = [side for side in sides if any(side.values())]
        if not wanted and (self.tls_ca_cert_path or self.tls_server_name):
            wanted = sides
        files = {name: path for side in wanted for name, path in side.items()}
        if files:
            files["TLS_CA_CERT_PATH"] = self.tls_ca_cert_path
        if missing := [name for name, path in files.items() if path is None]:
            every = ", ".join(files)
            raise ValueError(f"TLS is half set: {', '.join(missing)} is missing. Set all of {every}, or none of them.")
        if absent := [f"{name}={path}" for name, path in files.items() if path and not path.is_file()]:
            raise ValueError(f"no such file: {', '.join(absent)}. scripts/gen_certs.sh makes a set.")
        return self

    @property
    def server_tls(self) -> ServerTls | None:
        """What a gRPC server needs for mutual TLS; None: plaintext."""
        if self.tls_server_cert_path and self.tls_server_key_path and self.tls_ca_cert_path:
            return ServerTls(self.tls_server_cert_path, self.tls_server_key_path, self.tls_ca_cert_path)
        return None

    @property
    def client_tls(self) -> ClientTls | None:
        """What a gRPC client needs for mutual TLS; None: plaintext."""
        if self.tls_client_cert_path and self.tls_client_key_path and self.tls_ca_cert_path:
            return ClientTls(
                self.tls_client_cert_path, self.tls_client_key_path, self.tls_ca_cert_path, self.tls_server_name
            )
        return None


S = TypeVar("S", bound=ServiceSettings)


def load(settings_class: type[S]) -> S:
    """Reads the settings.

    Raises:
        SettingsError: With one line for each variable that is wrong.
    """
    try:
        return settings_class()
    except ValidationError as error:
        # Not chained: the original shows every value, secrets too.
        raise SettingsError("\n".join(_explain(settings_class, fault) for fault in error.errors())) from None


def variable(name: str) -> str:
    """The text of a variable that no setting declares, because a file names it; empty where it is unset."""
    return os.environ.get(name) or _env_file().get(name) or ""


def variables_of(settings_class: type[ServiceSettings], field: str) -> list[str]:
    """The names of the environment variables that a field is read from, the preferred one first."""
    alias = settings_class.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else field.upper()]


def _read(settings_class: type[ServiceSettings], given: dict[str, Any]) -> dict[str, str]:
    """The text of every field that is not given, by the variable that holds it (by field where it has no alias)."""
    found = {}
    sources = [os.environ, _env_file()]
    for field in settings_class.model_fields:
        variables = variables_of(settings_class, field)
        if given.keys() & {field, *variables}:
            continue
        texts = ((variable, text) for source in sources for variable in variables if (text := source.get(variable)))
        if first := next(texts, None):
            variable, text = first
            found[field if variable == field.upper() else variable] = text
    return found


def _env_file() -> Any:
    if not ENV_FILE.is_file():
        return {}
    # Imported here: where variables come from a container or a supervisor there is no such file.
    from dotenv import dotenv_values

    return dotenv_values(ENV_FILE, encoding="utf-8")


def _explain(settings_class: type[ServiceSettings], fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    field = next((f for f in settings_class.model_fields if name in {f, *variables_of(settings_class, f)}), name)
    variable = variables_of(settings_class, field)[0] if name == field else name
    return f"{variable}: {message}" + (f" (it is {fault['input']!r})" if _is_plain(settings_class, field) else "")


def _is_plain(settings_class: type[ServiceSettings], field: str) -> bool:
    """Whether it is a number, a switch or a choice; text is never shown, since it may be a secret."""
    annotation = settings_class.model_fields[field].annotation
    return annotation in {int, float, bool} or get_origin(annotation) is Literal
