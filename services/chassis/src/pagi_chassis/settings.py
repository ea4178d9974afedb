"""Settings from the environment and from `.env`; what is common to every service is declared here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AliasChoices, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pagi_chassis.tls import ClientTls, ServerTls

__all__ = ["NoDecode", "ServiceSettings", "SettingsError", "load"]


class SettingsError(Exception):
    """A variable holds what it may not; the text names each one and what is allowed."""


class ServiceSettings(BaseSettings):
    """The variables that every service reads. A field's name in upper case is its variable."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    bind_host: str = Field(
        default="127.0.0.1",
        validation_alias=AliasChoices("PAGI_BIND_HOST"),
        description="Address that every port of a service listens on. A container sets 0.0.0.0.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field()] = Field(
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

    @model_validator(mode="before")
    @classmethod
    def _lower_names(cls, values: dict[str, object]) -> dict[str, object]:
        """Accepts LOG_LEVEL=INFO as people write it."""
        for name in ("log_level", "log_format"):
            if isinstance(value := values.get(name), str):
                values[name] = value.lower()
        return values

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        for side in ("server", "client"):
            pair = {
                f"TLS_{side.upper()}_{part.upper()}_PATH": getattr(self, f"tls_{side}_{part}_path")
                for part in ("cert", "key")
            }
            if any(pair.values()):
                pair["TLS_CA_CERT_PATH"] = self.tls_ca_cert_path
                if missing := [name for name, path in pair.items() if path is None]:
                    raise ValueError(
                        f"TLS is half set: {', '.join(missing)} is missing. Set {', '.join(pair)}, or none of them."
                    )
                if absent := [f"{name}={path}" for name, path in pair.items() if path and not path.is_file()]:
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
        raise SettingsError("\n".join(_explain(settings_class, fault) for fault in error.errors())) from None


def variables_of(settings_class: type[ServiceSettings], field: str) -> list[str]:
    """The names of the environment variables that a field is read from, the preferred one first."""
    alias = settings_class.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else field.upper()]


def _explain(settings_class: type[ServiceSettings], fault: object) -> str:
    assert isinstance(fault, dict)
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    if name in settings_class.model_fields:
        name = variables_of(settings_class, name)[0]
    # Only the value of a wrong variable is shown, never that of a secret.
    shown = "" if "secret" in name.lower() or "key" in name.lower() else f" (it is {fault['input']!r})"
    return f"{name}: {message}{shown}"
