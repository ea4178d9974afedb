"""The planner's variables."""

from __future__ import annotations

import pytest
from pagi_chassis.settings import SettingsError, load
from pagi_planner.settings import PlannerSettings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No `.env` of the checkout is read."""
    monkeypatch.chdir(tmp_path)


def test_every_variable_has_a_default():
    settings = load(PlannerSettings)
    assert (settings.agent_planner_port, settings.max_concurrent_requests) == (8585, 150)
    assert settings.pagi_api_key.get_secret_value() == ""


@pytest.mark.parametrize("variable", ["SANDBOX_GRPC_ADDR", "RUST_SANDBOX_GRPC_ADDR"])
def test_the_sandbox_is_found_under_its_old_name_too(monkeypatch, variable):
    monkeypatch.setenv(variable, "sandbox:1")
    assert load(PlannerSettings).sandbox_grpc_addr == "sandbox:1"


@pytest.mark.parametrize(
    "address",
    [
        "redis:6379",
        "127.0.0.1:1",
        "[::1]:6379",
        "host",
        "redis://u:p@host:1/2",
        "rediss://host",
        "unix:///run/redis.sock",
    ],
)
def test_redis_may_be_named_in_many_ways(monkeypatch, address):
    monkeypatch.setenv("REDIS_ADDR", address)
    assert load(PlannerSettings).redis_addr == address


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_ADDR", "http://host:1"),
        ("REDIS_ADDR", "host:port"),
        ("REDIS_ADDR", "host:99999"),
        ("REDIS_ADDR", ":6379"),
        ("AGENT_PLANNER_PORT", "70000"),
        ("AGENT_MAX_TURNS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "nan"),
        ("REQUEST_TIMEOUT_SECONDS", "inf"),
        ("MAX_CONTEXT_TOKENS", "many"),
        ("PAGI_AUDIT_DB_SYNCHRONOUS", "off"),
        ("PAGI_AUDIT_DATABASE_URL", "mysql://host/db"),
        ("AGENT_LAPSE_SECONDS", "1"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load(PlannerSettings)


def test_no_secret_is_shown(monkeypatch):
    monkeypatch.setenv("PAGI_API_KEY", "hunter2")
    monkeypatch.setenv("REDIS_ADDR", "redis://:hunter2@host:99999")
    with pytest.raises(SettingsError) as caught:
        load(PlannerSettings)
    assert "hunter2" not in str(caught.value)
