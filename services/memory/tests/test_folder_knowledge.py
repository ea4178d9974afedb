from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from pagi_memory.adapters.folder_knowledge import FolderKnowledge
from pagi_memory.domain.errors import NoKnowledgeFolderError


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


async def test_finds_the_folders_of_every_persona(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "README.md": "not a knowledge base",
            "Soul-KB/me.md": "I",
            "Domain-KB/deep/er/tea.MD": "\ufefftea",
            "Body-KB/kettle.txt": "kettle",
            "Mind-KB/no.md": "comes from runs",
            "personas/dog/Domain-KB/walks.markdown": "walks",
            "Domain-KB/.hidden.md": "x",
        },
    )
    found = await FolderKnowledge(tmp_path, max_bytes=100).look()
    assert {text.source: (text.shelf.collection, text.text) for text in found.texts} == {
        "Soul-KB/me.md": ("Soul-KB", "I"),
        "Domain-KB/deep/er/tea.MD": ("Domain-KB", "tea"),
        "Body-KB/kettle.txt": ("Body-KB", "kettle"),
        "personas/dog/Domain-KB/walks.markdown": ("dog.Domain-KB", "walks"),
    }
    assert found.unreadable == frozenset()


async def test_what_cannot_be_read_is_named_and_the_rest_goes_in(tmp_path: Path, caplog) -> None:
    write(
        tmp_path,
        {
            "Domain-KB/good.md": "good",
            "Domain-KB/latin1.md": "Tür".encode("latin-1"),
            "Domain-KB/nul.txt": "a\0b",
            "Domain-KB/huge.md": "x" * 101,
            "Domain-KB/picture.png": b"\x89PNG",
        },
    )
    os.symlink(tmp_path / "nowhere", tmp_path / "Domain-KB" / "dangling.md")
    with caplog.at_level(logging.WARNING):
        found = await FolderKnowledge(tmp_path, max_bytes=100).look()
    assert [text.source for text in found.texts] == ["Domain-KB/good.md"]
    assert found.unreadable == {f"Domain-KB/{n}.md" for n in ("latin1", "huge", "dangling")} | {"Domain-KB/nul.txt"}
    for name in [*found.unreadable, "Domain-KB/picture.png", "MAX_DOCUMENT_BYTES"]:
        assert name in caplog.text


@pytest.mark.parametrize("name", ["default", "a b", "-x", "ü"])
async def test_a_folder_that_cannot_be_a_persona_is_named(tmp_path: Path, name: str, caplog) -> None:
    write(tmp_path, {f"personas/{name}/Domain-KB/a.md": "x"})
    with caplog.at_level(logging.WARNING):
        assert (await FolderKnowledge(tmp_path, max_bytes=100).look()).texts == []
    assert f"personas/{name}" in caplog.text


async def test_a_missing_folder_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(NoKnowledgeFolderError, match="KNOWLEDGE_BASES_DIR"):
        await FolderKnowledge(tmp_path / "none", max_bytes=100).look()
