from __future__ import annotations

from pathlib import Path

import pytest
from pagi_chassis.settings import SettingsError, load
from pagi_notifier.settings import NotifierSettings


@pytest.fixture(autouse=True)
def _no_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:6379", "redis://127.0.0.1:6379/0"),
        ("redis:6380", "redis://redis:6380/0"),
        ("[::1]:6379", "redis://[::1]:6379/0"),
        ("redis://user:pw@cache:6379/2", "redis://user:pw@cache:6379/2"),
        ("rediss://cache:6379", "rediss://cache:6379"),
    ],
)
def test_an_address_or_a_url(monkeypatch: pytest.MonkeyPatch, address: str, url: str) -> None:
    monkeypatch.setenv("REDIS_ADDR", address)
    assert load(NotifierSettings).redis_url == url


@pytest.mark.parametrize("address", ["redis", "redis:", ":6379", "redis:port", "redis:70000", "http://redis:6379"])
def test_a_wrong_address_names_the_variable(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("REDIS_ADDR", address)
    with pytest.raises(SettingsError, match="REDIS_ADDR: give host:port"):
        load(NotifierSettings)


@pytest.mark.parametrize(("claim", "timeout", "batch"), [("30", "5", 64), ("1", "5", 1), ("10", "5", 64)])
def test_more_than_one_is_taken_where_an_attempt_ends_before_it_is_taken_over(
    monkeypatch: pytest.MonkeyPatch, claim: str, timeout: str, batch: int
) -> None:
    monkeypatch.setenv("NOTIFICATION_CLAIM_IDLE_SECONDS", claim)
    monkeypatch.setenv("NOTIFICATION_DELIVERY_TIMEOUT_SECONDS", timeout)
    assert load(NotifierSettings).batch == batch


def test_each_process_is_a_consumer_of_its_own() -> None:
    import os

    assert load(NotifierSettings).consumer.endswith(f"-{os.getpid()}")
