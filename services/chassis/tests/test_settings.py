"""Settings come from arguments, the environment and .env, and say what is wrong with them."""

from __future__ import annotations

from typing import Literal

import pytest
from pagi_chassis.settings import ServiceSettings, SettingsError, load, variables_of
from pydantic import AliasChoices, Field, SecretStr, field_validator


class DemoSettings(ServiceSettings):
    demo_port: int = Field(default=1, ge=0, le=65535, description="d")
    tools_port: int = Field(default=2, validation_alias=AliasChoices("TOOLS_PORT", "OLD_TOOLS_PORT"), description="d")
    mode: Literal["a", "b"] = Field(default="a", description="d")
    demo_key: SecretStr = Field(default=SecretStr(""), description="d", min_length=0, max_length=8)
    demo_url: str = Field(default="", description="d")

    @field_validator("demo_url")
    @classmethod
    def _no_spaces(cls, value: str) -> str:
        if " " in value:
            raise ValueError("spaces are not allowed")
        return value


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for field in DemoSettings.model_fields:
        for variable in variables_of(DemoSettings, field):
            monkeypatch.delenv(variable, raising=False)


def test_defaults_then_env_file_then_environment_then_arguments(monkeypatch, tmp_path):
    assert load(DemoSettings).demo_port == 1
    (tmp_path / ".env").write_text("DEMO_PORT=10\nexport LOG_LEVEL='debug' # why\n")
    assert (load(DemoSettings).demo_port, load(DemoSettings).log_level) == (10, "debug")
    monkeypatch.setenv("DEMO_PORT", "20")
    assert load(DemoSettings).demo_port == 20
    assert DemoSettings(demo_port=30).demo_port == 30


def test_an_empty_variable_is_an_unset_one(monkeypatch, tmp_path):
    monkeypatch.setenv("DEMO_PORT", "")
    assert load(DemoSettings).demo_port == 1
    (tmp_path / ".env").write_text("DEMO_PORT=10\n")
    assert load(DemoSettings).demo_port == 10


def test_an_old_name_is_read_and_the_new_one_goes_first(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("TOOLS_PORT=5\n")
    monkeypatch.setenv("OLD_TOOLS_PORT", "6")
    assert load(DemoSettings).tools_port == 6, "the environment goes before the file, whatever the name"
    monkeypatch.setenv("TOOLS_PORT", "7")
    assert load(DemoSettings).tools_port == 7
    assert DemoSettings(tools_port=8).tools_port == DemoSettings(OLD_TOOLS_PORT=8).tools_port == 8
    assert variables_of(DemoSettings, "tools_port") == ["TOOLS_PORT", "OLD_TOOLS_PORT"]
    assert variables_of(DemoSettings, "demo_port") == ["DEMO_PORT"]


def test_each_wrong_variable_is_named_with_what_is_allowed(monkeypatch):
    monkeypatch.setenv("DEMO_PORT", "70000")
    monkeypatch.setenv("OLD_TOOLS_PORT", "many")
    monkeypatch.setenv("MODE", "c")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SettingsError) as caught:
        load(DemoSettings)
    lines = {line.split(":")[0]: line for line in str(caught.value).splitlines()}
    assert set(lines) == {"DEMO_PORT", "OLD_TOOLS_PORT", "MODE", "LOG_LEVEL"}
    assert "65535" in lines["DEMO_PORT"]
    assert "70000" in lines["DEMO_PORT"]
    assert "'many'" in lines["OLD_TOOLS_PORT"]
    assert "'a' or 'b'" in lines["MODE"]
    assert "'warning'" in lines["LOG_LEVEL"]


@pytest.mark.parametrize(
    ("variable", "value"), [("DEMO_KEY", "hunter2-and-more"), ("DEMO_URL", "redis://:hunter2@h x")]
)
def test_text_is_never_shown_because_it_may_be_a_secret(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: ") as caught:
        load(DemoSettings)
    shown = str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__suppress_context__)
    assert "hunter2" not in shown
    assert caught.value.__suppress_context__


def test_a_secret_is_not_in_the_text_of_the_settings(monkeypatch):
    monkeypatch.setenv("DEMO_KEY", "hunter2")
    assert "hunter2" not in repr(load(DemoSettings))


@pytest.mark.parametrize("level", ["INFO", "Info", "info"])
def test_levels_are_taken_in_any_case(monkeypatch, level):
    monkeypatch.setenv("LOG_LEVEL", level)
    assert load(DemoSettings).log_level == "info"


def test_an_endpoint_without_a_scheme_is_refused(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: .*http://"):
        load(DemoSettings)


ALL = ["TLS_SERVER_CERT_PATH", "TLS_SERVER_KEY_PATH", "TLS_CLIENT_CERT_PATH", "TLS_CLIENT_KEY_PATH", "TLS_CA_CERT_PATH"]


@pytest.mark.parametrize("left_out", ALL)
def test_tls_half_set_names_what_is_missing(monkeypatch, tmp_path, left_out):
    for variable in ALL:
        (tmp_path / variable).write_text("")
        monkeypatch.setenv(variable, variable)
    assert load(DemoSettings).server_tls
    assert load(DemoSettings).client_tls
    monkeypatch.delenv(left_out)
    with pytest.raises(SettingsError, match=f"half set: {left_out} is missing"):
        load(DemoSettings)


@pytest.mark.parametrize(("variable", "value"), [("TLS_CA_CERT_PATH", "ca.crt"), ("TLS_SERVER_NAME", "memory")])
def test_one_tls_variable_alone_does_not_mean_plaintext(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match="TLS_SERVER_CERT_PATH, TLS_SERVER_KEY_PATH"):
        load(DemoSettings)


def test_one_side_of_tls_may_stand_alone(monkeypatch, tmp_path):
    for variable in ("TLS_CLIENT_CERT_PATH", "TLS_CLIENT_KEY_PATH", "TLS_CA_CERT_PATH"):
        (tmp_path / variable).write_text("")
        monkeypatch.setenv(variable, variable)
    monkeypatch.setenv("TLS_SERVER_NAME", "memory")
    settings = load(DemoSettings)
    assert settings.server_tls is None
    assert settings.client_tls
    assert settings.client_tls.server_name == "memory"


def test_a_tls_file_that_is_not_there_is_named(monkeypatch):
    for variable in ALL:
        monkeypatch.setenv(variable, "nowhere.pem")
    with pytest.raises(SettingsError, match=r"no such file: TLS_SERVER_CERT_PATH=nowhere\.pem"):
        load(DemoSettings)
