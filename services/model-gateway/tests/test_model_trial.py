"""`pagi-gateway test-model`: one real call, told to a person."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pagi_gateway.adapters.model_trial import main
from pagi_gateway.settings import GatewaySettings


async def tried(*arguments: str, **environment: str) -> tuple[int | None, str]:
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_PROVIDER"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pagi_gateway",
        "test-model",
        *arguments,
        env={**clean, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


Try = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Try]:
    """The same in this process, which a new one would cost more than all that it does."""
    monkeypatch.chdir(tmp_path)
    for name in GatewaySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    async def run(*arguments: str, **environment: str) -> tuple[int, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = await asyncio.to_thread(main, arguments)
        return code, capsys.readouterr().out

    yield run
    logging.disable(logging.NOTSET)


async def test_the_mock_answers(here: Try) -> None:
    code, told = await here("--provider", "mock", "--prompt", "My name is Ada.")
    assert code == 0
    assert "My name is Ada." in told
    assert "0.000000 US dollars" in told


async def test_a_provider_by_http(raw_server: Any) -> None:
    async def answer(exchange: Any) -> None:
        assert exchange.line.startswith("POST /v1/messages ")
        await exchange.begin_stream()
        await exchange.event({"type": "message_start", "message": {"model": "claude-x", "usage": {"input_tokens": 9}}})
        await exchange.event(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I hear you."}}
        )
        await exchange.event(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
        )
        await exchange.event({"type": "message_stop"})
        await exchange.end_stream()

    server = await raw_server(answer)
    url = server.base_url.removesuffix("/v1")
    code, told = await tried("--provider", "anthropic", ANTHROPIC_API_KEY="sk-very-secret", ANTHROPIC_BASE_URL=url)
    assert code == 0, told
    for line in (
        "connection    taken in",
        "answer        I hear you.",
        "finished      stop (end_turn)",
        "9 tokens in, 4",
    ):
        assert line in told
    assert "sk-very-secret" not in told


@pytest.mark.parametrize("provider", ["openai", "anthropic", "deepseek", "qwen", "google", "openrouter"])
async def test_a_missing_key_is_named(here: Try, provider: str) -> None:
    code, told = await here("--provider", provider)
    assert (code, f"{provider.upper()}_API_KEY: needed by {provider}" in told) == (78, True), told


async def test_a_failure_is_told(here: Try, unused_tcp_port: int) -> None:
    code, told = await here("--provider", "ollama", OLLAMA_BASE_URL=f"http://127.0.0.1:{unused_tcp_port}")
    assert code == 1
    assert "ProviderDownError" in told
    assert "cannot be reached" in told


async def test_aliases_and_targets_are_known(here: Try, tmp_path: Path, raw_server: Any) -> None:
    failing = await raw_server(lambda exchange: exchange.reply("{}", status="503 X"))
    (tmp_path / "models.yaml").write_text(f"""\
targets:
  away: {{provider: openai, model: m-1, base_url: "{failing.base_url}"}}
  house: {{provider: mock, model: mock}}
aliases: {{default: [away, house], judge: away}}
""")
    code, told = await here("--prompt", "My name is Ada.")
    assert code == 0, told
    lines = told.splitlines()
    assert lines[0] == "asked for     default"
    assert lines[1].startswith("attempt       away (m-1 of openai): ProviderDown after ")
    assert lines[2].startswith("attempt       house (mock of mock): ok after ")
    code, told = await here("--all-targets")
    assert code == 1, told
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("asked for")] == ["away", "house"]
    assert "failed        ProviderDownError: openai" in told
    (tmp_path / "models.yaml").write_text("targets: {}\nalias: {}\n")
    code, told = await here()
    assert (code, "models.yaml, line 2: alias: there is no such member" in told) == (78, True), told
