from __future__ import annotations

import os

import pytest
from pagi_chassis.settings import SettingsError, load
from pagi_memory.settings import MemorySettings


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in MemorySettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_variable_is_optional() -> None:
    settings = load(MemorySettings)
    assert (settings.memory_port, settings.memory_grpc_port) == (8003, 50052)
    assert os.fspath(settings.heart_db_path) == "data/heart.db"
    assert (settings.chroma_host, settings.retrieval_lexical_weight) == ("", 0.5)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("EMBEDDING_BACKEND", "magic", "EMBEDDING_BACKEND.*onnx"),
        ("EMBEDDING_MODEL_NAME", "huge-model", "EMBEDDING_MODEL_NAME.*all-MiniLM-L6-v2"),
        ("MEMORY_PORT", "many", "MEMORY_PORT"),
        ("RETRIEVAL_LEXICAL_WEIGHT", "2", "RETRIEVAL_LEXICAL_WEIGHT"),
        ("CHUNK_TOKENS", "512", "CHUNK_TOKENS"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=expected):
        load(MemorySettings)


def test_every_variable_is_described() -> None:
    assert all(field.description for field in MemorySettings.model_fields.values())
