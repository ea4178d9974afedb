from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from pagi_chassis.errors import InvalidArgumentError
from pagi_memory.adapters.folder_knowledge import FolderKnowledge
from pagi_memory.domain.errors import (
    NoKnowledgeFolderError,
    StoreUnavailableError,
    UnknownDocumentError,
    UnreadableDocumentError,
)


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
    folder = FolderKnowledge(tmp_path, max_bytes=100)
    found = await folder.look()
    texts = [await folder.read(file.source) for file in found.files]
    assert [(t.shelf, t.content_hash) for t in texts] == [(f.shelf, f.content_hash) for f in found.files]
    assert {text.source: (text.shelf.collection, text.text) for text in texts} == {
        "Soul-KB/me.md": ("Soul-KB", "I"),
        "Domain-KB/deep/er/tea.MD": ("Domain-KB", "tea"),
        "Body-KB/kettle.txt": ("Body-KB", "kettle"),
        "personas/dog/Domain-KB/walks.markdown": ("dog.Domain-KB", "walks"),
    }
    assert found.unreadable == {}


async def test_what_cannot_be_read_is_named_and_the_rest_goes_in(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "Domain-KB/good.md": "good",
            "Domain-KB/latin1.md": "Tür".encode("latin-1"),
            "Domain-KB/nul.txt": "a\0b",
            "Domain-KB/huge.md": "x" * 101,
            "Domain-KB/picture.png": b"\x89PNG",
            "Domain-KB/README": "x",
        },
    )
    os.symlink(tmp_path / "nowhere", tmp_path / "Domain-KB" / "dangling.md")
    folder = FolderKnowledge(tmp_path, max_bytes=100)
    found = await folder.look()
    assert [f.source for f in found.files] == [f"Domain-KB/{name}" for name in ("good.md", "latin1.md", "nul.txt")]
    assert found.unreadable.keys() == {
        f"Domain-KB/{name}" for name in ("huge.md", "dangling.md", "picture.png", "README")
    }
    assert "MAX_DOCUMENT_BYTES" in found.unreadable["Domain-KB/huge.md"]
    assert found.unreadable["Domain-KB/README"].startswith("a file without a suffix is not read; known are .md")
    assert ".png is not read; known are .md" in found.unreadable["Domain-KB/picture.png"]
    for name, reason in {"latin1.md": "not UTF-8 text", "nul.txt": "NUL"}.items():
        with pytest.raises(UnreadableDocumentError, match=reason):
            await folder.read(f"Domain-KB/{name}")


@pytest.mark.parametrize("name", ["default", "a b", "-x", "ü"])
async def test_a_folder_that_cannot_be_a_persona_is_named(tmp_path: Path, name: str, caplog) -> None:
    write(tmp_path, {f"personas/{name}/Domain-KB/a.md": "x"})
    with caplog.at_level(logging.WARNING):
        assert (await FolderKnowledge(tmp_path, max_bytes=100).look()).files == []
    assert f"personas/{name}" in caplog.text


async def test_a_missing_folder_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(NoKnowledgeFolderError, match="KNOWLEDGE_BASES_DIR"):
        await FolderKnowledge(tmp_path / "none", max_bytes=100).look()


async def test_a_changed_file_is_another_one_and_an_unchanged_one_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path, {"Domain-KB/a.md": "one", "Domain-KB/b.md": "two"})
    os.utime(tmp_path / "Domain-KB/b.md", (1_700_000_000, 1_700_000_000))
    folder = FolderKnowledge(tmp_path, max_bytes=100)
    first = {f.source: f.content_hash for f in (await folder.look()).files}
    write(tmp_path, {"Domain-KB/a.md": "ONE!"})
    # Nobody may read it any more, and nobody has to.
    content = (tmp_path / "Domain-KB/b.md").stat()
    (tmp_path / "Domain-KB/b.md").write_bytes(b"TWO")
    os.utime(tmp_path / "Domain-KB/b.md", ns=(content.st_atime_ns, content.st_mtime_ns))
    second = {f.source: f.content_hash for f in (await folder.look()).files}
    assert second["Domain-KB/a.md"] != first["Domain-KB/a.md"]
    assert second["Domain-KB/b.md"] == first["Domain-KB/b.md"]


async def test_two_changes_of_one_moment_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, {"Domain-KB/a.md": "one"})
    path = tmp_path / "Domain-KB/a.md"
    moment = path.stat()
    folder = FolderKnowledge(tmp_path, max_bytes=100)
    [first] = (await folder.look()).files
    # As long, and by the kernel's clock, which goes in steps, at the same time.
    path.write_bytes(b"two")
    os.utime(path, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    [second] = (await folder.look()).files
    assert second.content_hash != first.content_hash


async def test_a_file_with_a_date_to_come_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, {"Domain-KB/a.md": "one"})
    path = tmp_path / "Domain-KB/a.md"
    os.utime(path, (4_000_000_000, 4_000_000_000))
    folder = FolderKnowledge(tmp_path, max_bytes=100)
    [first] = (await folder.look()).files
    path.write_bytes(b"two")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    [second] = (await folder.look()).files
    assert second.content_hash == first.content_hash


async def test_links_that_lead_nowhere_are_named_and_folders_behind_links_are_not_entered(tmp_path: Path) -> None:
    write(tmp_path, {"Domain-KB/a.md": "one", "elsewhere/b.md": "two"})
    os.symlink("loop.md", tmp_path / "Domain-KB/loop.md")
    os.symlink(tmp_path / "elsewhere", tmp_path / "Domain-KB/linked")
    os.symlink(tmp_path / "elsewhere/b.md", tmp_path / "Domain-KB/c.md")
    found = await FolderKnowledge(tmp_path, max_bytes=100).look()
    assert [file.source for file in found.files] == ["Domain-KB/a.md", "Domain-KB/c.md"]
    assert found.unreadable.keys() == {"Domain-KB/loop.md"}


async def test_a_document_is_written_whole_and_deleted(tmp_path: Path) -> None:
    folder = FolderKnowledge(tmp_path, max_bytes=100)
    assert await folder.write("personas/dog/Domain-KB/deep/a.md", b"one") is True
    assert await folder.write("personas/dog/Domain-KB/deep/a.md", b"two") is False
    assert (tmp_path / "personas/dog/Domain-KB/deep/a.md").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "personas/dog/Domain-KB/deep").iterdir()] == ["a.md"]
    await folder.delete("personas/dog/Domain-KB/deep/a.md")
    assert (await folder.look()).files == []
    with pytest.raises(UnknownDocumentError):
        await folder.delete("personas/dog/Domain-KB/deep/a.md")


async def test_a_document_that_many_write_at_once_is_that_of_one_of_them(tmp_path: Path) -> None:
    folder = FolderKnowledge(tmp_path, max_bytes=1_000_000)
    bodies = [(str(i) * 100_000 * i).encode() for i in range(1, 9)]
    written = await asyncio.gather(*(folder.write("Domain-KB/a.md", body) for body in bodies))
    assert sum(written) >= 1
    assert (tmp_path / "Domain-KB/a.md").read_bytes() in bodies
    assert [path.name for path in (tmp_path / "Domain-KB").iterdir()] == ["a.md"]


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("", b"x"),
        ("a.md", b"x"),
        ("/etc/passwd", b"x"),
        ("Domain-KB/../../a.md", b"x"),
        ("Domain-KB/.hidden.md", b"x"),
        ("Domain-KB/a\\b.md", b"x"),
        ("Domain-KB/a\nb.md", b"x"),
        ("Domain-KB//a.md", b"x"),
        ("Domain-KB/" + "a" * 300 + ".md", b"x"),
        ("Domain-KB/" + "a/" * 300 + "a.md", b"x"),
        ("Domain-KB/a\udc80.md", b"x"),
        ("Mind-KB/a.md", b"x"),
        ("personas/default/Domain-KB/a.md", b"x"),
        ("personas/../Domain-KB/a.md", b"x"),
        ("Domain-KB/a.exe", b"x"),
        ("Domain-KB/a.md", b"x" * 101),
        ("Domain-KB/a.md", b"\xff\xfe"),
        ("Domain-KB/a.pdf", b"no pdf"),
    ],
)
async def test_what_cannot_be_a_document_is_not_written(tmp_path: Path, source: str, content: bytes) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InvalidArgumentError):
        await FolderKnowledge(root, max_bytes=100).write(source, content)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_nothing_is_written_or_deleted_through_a_link_that_leads_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, {"a.md": "theirs"})
    root = tmp_path / "root"
    (root / "Domain-KB").mkdir(parents=True)
    (root / "Domain-KB" / "link").symlink_to(outside)
    folder = FolderKnowledge(root, max_bytes=100)
    with pytest.raises(InvalidArgumentError, match="leads out"):
        await folder.write("Domain-KB/link/a.md", b"mine")
    with pytest.raises(InvalidArgumentError, match="leads out"):
        await folder.delete("Domain-KB/link/a.md")
    assert (outside / "a.md").read_text() == "theirs"


async def test_a_change_in_the_folders_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, {"Domain-KB/a.md": "one"})
    changes = FolderKnowledge(tmp_path, max_bytes=100).changes()
    async with asyncio.timeout(20):
        # The watch has begun; what was before it is looked for.
        await anext(changes)
        noticed = asyncio.ensure_future(anext(changes))
        write(tmp_path, {".hidden/a.md": "x", "Domain-KB/.a.md.part": "x"})
        done, _ = await asyncio.wait({noticed}, timeout=1.2)
        assert not done, "hidden files are nobody's documents"
        write(tmp_path, {"personas/dog/Domain-KB/b.md": "new"})
        await noticed
    await changes.aclose()


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    # A file stands where a folder is needed; a full or read-only disk raises the same kind of error.
    write(tmp_path, {"Domain-KB/a": "x"})
    with pytest.raises(StoreUnavailableError, match="cannot be changed"):
        await FolderKnowledge(tmp_path, max_bytes=100).write("Domain-KB/a/b.md", b"x")
