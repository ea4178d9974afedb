"""The file tools: what they do, and that nothing leads out of the workspace."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pagi_sandbox.domain.tool import ToolContext, ToolFailedError
from pagi_sandbox.domain.tools.delete_file import DeleteFile
from pagi_sandbox.domain.tools.list_files import MAX_ENTRIES, ListFiles
from pagi_sandbox.domain.tools.read_file import ReadFile
from pagi_sandbox.domain.tools.write_file import WriteFile
from pagi_sandbox.domain.workspace_files import WorkspaceFiles


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    file = tmp_path / "outside" / "secret.txt"
    file.write_text("secret")
    return file


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


def read(workspace: Path, path: str, **more: Any) -> Mapping[str, Any]:
    return ReadFile().run({"path": path, **more}, ToolContext(workspace))


def write(workspace: Path, path: str, content: str, **more: Any) -> Mapping[str, Any]:
    return WriteFile().run({"path": path, "content": content, **more}, ToolContext(workspace))


def listed(workspace: Path, **arguments: Any) -> Mapping[str, Any]:
    return ListFiles().run(arguments, ToolContext(workspace))


def delete(workspace: Path, path: str) -> bool:
    return bool(DeleteFile().run({"path": path}, ToolContext(workspace))["deleted"])


def test_what_is_deleted_is_gone_with_all_that_is_below(workspace: Path) -> None:
    write(workspace, "a/b/c.txt", "x")
    write(workspace, "a/d.txt", "x")
    assert [delete(workspace, "a/d.txt"), delete(workspace, "a"), delete(workspace, "a")] == [True, True, False]
    assert delete(workspace, "not/there") is False
    assert list(workspace.iterdir()) == []


def test_a_link_is_deleted_never_what_it_points_to(workspace: Path, secret: Path) -> None:
    (workspace / "link").symlink_to(secret)
    (workspace / "d").mkdir()
    (workspace / "d" / "linked").symlink_to(secret.parent)
    os.link(secret, workspace / "hard")
    assert all(delete(workspace, path) for path in ("link", "d", "hard"))
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("path", [".", "..", "/", "../outside", "linked/secret.txt", "a\0", "file/below"])
def test_nothing_outside_is_deleted(workspace: Path, secret: Path, path: str) -> None:
    (workspace / "linked").symlink_to(secret.parent)
    (workspace / "file").touch()
    with pytest.raises(ToolFailedError):
        delete(workspace, path)
    assert secret.exists()


def test_what_is_written_is_read(workspace: Path) -> None:
    assert write(workspace, "a/b/c.txt", "grüße\n") == {"path": "a/b/c.txt", "size": 8, "created": True}
    assert write(workspace, "./a//b/c.txt", "new")["created"] is False
    expected = {"content": "new", "encoding": "utf-8", "size": 3, "offset": 0, "next_offset": None}
    assert read(workspace, "a/b/c.txt") == {"path": "a/b/c.txt", **expected}
    assert [file.name for file in (workspace / "a" / "b").iterdir()] == ["c.txt"]


def test_binary_content_goes_as_base64(workspace: Path) -> None:
    data = bytes(range(256))
    write(workspace, "blob", base64.b64encode(data).decode(), encoding="base64")
    answer = read(workspace, "blob")
    assert (answer["encoding"], base64.b64decode(answer["content"])) == ("base64", data)
    with pytest.raises(ToolFailedError, match="no base64"):
        write(workspace, "blob", "not base64!", encoding="base64")


def test_a_long_text_is_read_in_parts_without_losing_a_character(workspace: Path) -> None:
    text = "aé€😀" * 50
    write(workspace, "long.txt", text)
    parts, offset = [], 0
    while offset is not None:
        answer = read(workspace, "long.txt", offset=offset, limit=7)
        assert answer["encoding"] == "utf-8"
        parts.append(answer["content"])
        offset = answer["next_offset"]
    assert "".join(parts) == text


def test_lists_with_kind_and_size(workspace: Path, secret: Path) -> None:
    write(workspace, "b.txt", "12345")
    write(workspace, "a/in.txt", "1")
    (workspace / "out").symlink_to(secret)
    top = listed(workspace)
    assert [(one["path"], one["kind"]) for one in top["entries"]] == [
        ("a", "directory"),
        ("b.txt", "file"),
        ("out", "link"),
    ]
    assert top["entries"][1]["size"] == 5
    everything = listed(workspace, recursive=True)["entries"]
    assert [one["path"] for one in everything] == ["a", "a/in.txt", "b.txt", "out"]
    assert [one["path"] for one in listed(workspace, path="a")["entries"]] == ["a/in.txt"]


def test_a_long_list_is_cut_and_says_so(workspace: Path) -> None:
    for number in range(MAX_ENTRIES + 1):
        (workspace / f"{number:05}").touch()
    answer = listed(workspace)
    assert (len(answer["entries"]), answer["truncated"]) == (MAX_ENTRIES, True)


def test_a_name_that_is_not_utf8_is_listed(workspace: Path) -> None:
    Path(os.fsdecode(os.fsencode(workspace) + b"/\xff")).touch()
    assert listed(workspace)["entries"][0]["path"] == "\\xff"


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("../outside/secret.txt", "cannot leave"),
        ("a/../../outside/secret.txt", "cannot leave"),
        ("/etc/passwd", "absolute"),
        ("a\0b", "NUL"),
        ("link", "links are not followed"),
        ("linked_directory/secret.txt", "link"),
        ("hard", "hard link"),
        ("fifo", "special file"),
        ("missing", "does not exist"),
        ("directory", "directory"),
        ("file/below", "not a directory"),
        (".", "directory"),
        ("x" * 300, "name too long"),
        ("/".join(["d"] * 100), "parts"),
        ("\ud800", "Unicode"),
    ],
)
def test_nothing_but_the_workspaces_own_files_is_read(workspace: Path, secret: Path, path: str, complaint: str) -> None:
    (workspace / "a").mkdir()
    (workspace / "directory").mkdir()
    (workspace / "file").touch()
    (workspace / "link").symlink_to(secret)
    (workspace / "linked_directory").symlink_to(secret.parent)
    os.link(secret, workspace / "hard")
    os.mkfifo(workspace / "fifo")
    with pytest.raises(ToolFailedError) as caught:
        read(workspace, path)
    assert complaint.lower() in str(caught.value).lower()


@pytest.mark.parametrize("path", ["../new", "/tmp/new", "linked_directory/new", "directory", ".", "a\0", "file/below"])
def test_nothing_is_written_outside(workspace: Path, secret: Path, path: str) -> None:
    (workspace / "linked_directory").symlink_to(secret.parent)
    (workspace / "directory").mkdir()
    (workspace / "file").touch()
    with pytest.raises(ToolFailedError):
        write(workspace, path, "x")
    assert os.listdir(secret.parent) == ["secret.txt"]
    assert not Path("/tmp/new").exists()
    leftovers = [file for file in workspace.iterdir() if file.suffix == ".part"]
    assert leftovers == []


def test_a_link_is_replaced_never_written_through(workspace: Path, secret: Path) -> None:
    (workspace / "link").symlink_to(secret)
    os.link(secret, workspace / "hard")
    write(workspace, "link", "mine")
    write(workspace, "hard", "mine")
    assert secret.read_text() == "secret"
    assert not (workspace / "link").is_symlink()


@pytest.mark.parametrize("path", ["..", "/", "linked_directory"])
def test_nothing_outside_is_listed(workspace: Path, secret: Path, path: str) -> None:
    (workspace / "linked_directory").symlink_to(secret.parent)
    with pytest.raises(ToolFailedError):
        listed(workspace, path=path)


def test_a_directory_swapped_for_a_link_while_we_read_leads_nowhere(workspace: Path, secret: Path) -> None:
    (workspace / "real").mkdir()
    (workspace / "real" / "secret.txt").write_text("harmless")
    (workspace / "link").symlink_to(secret.parent)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(workspace / "real", workspace / "aside")
            os.rename(workspace / "link", workspace / "real")
            os.rename(workspace / "real", workspace / "link")
            os.rename(workspace / "aside", workspace / "real")

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        files = WorkspaceFiles(workspace)
        for _ in range(5000):
            try:
                seen.add(files.read("real/secret.txt", 0, 100)[0])
            except ToolFailedError:
                continue
    finally:
        stop.set()
        swapper.join()
    assert seen == {b"harmless"}
