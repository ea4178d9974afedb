"""Every provider by its name, from the environment to the bytes that it is asked with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pagi_chassis.lifecycle import StartError
from pagi_chassis.settings import SettingsError, load
from pagi_gateway.adapters.provider_catalogue import RemoteProvider, provider_of
from pagi_gateway.domain.capabilities import Support
from pagi_gateway.settings import GatewaySettings
from pagi_gateway.testing import asking

CHAT = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})
MESSAGES = json.dumps({"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"})
RESPONSES = json.dumps({"status": "completed", "output": [{"type": "message", "content": [{"text": "hi"}]}]})

# What is set, what is asked, which header carries the key, what is answered, and the model that is asked.
PROVIDERS: dict[str, tuple[dict[str, str], str, str, str, str]] = {
    "openai": ({"DEFAULT_MODEL": "m"}, "/v1/chat/completions", "authorization", CHAT, "m"),
    "responses": ({"DEFAULT_MODEL": "m", "OPENAI_API": "responses"}, "/v1/responses", "authorization", RESPONSES, "m"),
    "anthropic": ({}, "/v1/messages", "x-api-key", MESSAGES, "claude-sonnet-4-5"),
    "deepseek": ({}, "/v1/chat/completions", "authorization", CHAT, "deepseek-chat"),
    "qwen": ({"DEFAULT_MODEL": "qwen-max"}, "/v1/chat/completions", "authorization", CHAT, "qwen-max"),
    "google": ({}, "/v1/chat/completions", "authorization", CHAT, "gemini-2.5-flash"),
    "openrouter": ({}, "/v1/chat/completions", "authorization", CHAT, "openrouter/auto"),
    "ollama": ({}, "/v1/chat/completions", "", CHAT, "llama3.2"),
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**variables: str) -> GatewaySettings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load(GatewaySettings)

    return make


@pytest.mark.parametrize("name", PROVIDERS)
async def test_it_is_asked_as_its_api_wants(name: str, settings: Any, raw_server: Any) -> None:
    given, path, header, answer, model = PROVIDERS[name]
    server = await raw_server(lambda exchange: exchange.reply(answer))
    provider = "openai" if name == "responses" else name
    upper = provider.upper()
    key = {} if name == "ollama" else {f"{upper}_API_KEY": "sk-very-secret"}
    made = settings(LLM_PROVIDER=provider, **{f"{upper}_BASE_URL": server.base_url}, **key, **given)
    source = provider_of(provider, made)
    assert isinstance(source, RemoteProvider)
    assert (source.name, source.default_model) == (provider, model)
    await source.start()
    try:
        plan = await source.plan(asking("hello", model=source.default_model), timeout_s=5)
    finally:
        await source.stop()
    assert (plan.text, plan.provider) == ("hi", provider)
    sent = server.exchanges[0]
    assert sent.line == f"POST {path} HTTP/1.1"
    assert sent.json["model"] == model
    keys = {each: value for each, value in sent.headers.items() if "sk-very-secret" in value}
    assert list(keys) == ([header] if header else [])
    assert source.capabilities("anything").temperature is not Support.NO


@pytest.mark.parametrize(
    "url", ["https://api.anthropic.com", "https://api.anthropic.com/", "https://api.anthropic.com/v1"]
)
def test_anthropics_version_may_be_left_out_of_its_address(settings: Any, url: str) -> None:
    assert settings(ANTHROPIC_BASE_URL=url).anthropic_api_url == "https://api.anthropic.com/v1"


def test_bedrock_needs_a_region(settings: Any) -> None:
    with pytest.raises(SettingsError, match="AWS_REGION: needed by bedrock"):
        settings(LLM_PROVIDER="bedrock")


def test_a_script_that_is_wrong_stops_the_start(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("[{]")
    with pytest.raises(StartError, match="SCRIPTED_RESPONSES_PATH"):
        provider_of("scripted", settings(LLM_PROVIDER="scripted", SCRIPTED_RESPONSES_PATH=str(path)))
