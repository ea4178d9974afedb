"""What workspaces hold: census, artifacts, quota, listing, download and removal by age."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, PagiError
from pagi_chassis.grpc_client import GrpcClient
from pagi_chassis.testing import serving
from pagi_sandbox.adapters import openat2_files
from pagi_sandbox.adapters.directory_census import MAX_ARTIFACTS, DirectoryCensus
from pagi_sandbox.adapters.directory_removal import DirectoryRemoval, delete_below
from pagi_sandbox.adapters.directory_workspaces import DirectoryWorkspaces
from pagi_sandbox.adapters.openat2_files import FILE, open_below, open_by_steps, open_regular
from pagi_sandbox.domain.deletion import delete
from pagi_sandbox.domain.disk import DiskGuard, DiskPolicy
from pagi_sandbox.domain.errors import FilePathError, NoSuchFileError
from pagi_sandbox.domain.execution import Sandbox
from pagi_sandbox.domain.media_types import media_type
from pagi_sandbox.domain.model import Artifact, Census, Limits, ToolCall, ToolOutcome, ToolRequest, Verdict
from pagi_sandbox.domain.session_files import SessionFiles
from pagi_sandbox.servicer import SERVICE, ToolServicer
from pagi_sandbox.testing import ScriptedCensus, ScriptedRunner

MIB = 2**20


@pytest.fixture
def workspace(workspaces: DirectoryWorkspaces) -> Path:
    return workspaces.directory("", "s")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    file = tmp_path / "outside" / "secret.txt"
    file.write_text("secret")
    return file


async def python(sandbox: Sandbox, code: str, **limits: int) -> ToolOutcome:
    return await sandbox.execute(ToolRequest("python", json.dumps({"code": code}), "s", Limits(**limits)))


def test_a_workspace_that_a_tool_has_closed_is_opened_for_the_next_call(workspaces: DirectoryWorkspaces) -> None:
    workspace = workspaces.directory("", "s")
    workspace.chmod(0)
    assert workspaces.directory("", "s") == workspace
    assert stat.S_IMODE(workspace.stat().st_mode) == 0o700


async def test_a_download_that_is_given_up_while_its_file_is_opened_leaves_nothing_open(
    files: SessionFiles, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "a").write_text("x")
    begun, go = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> tuple[int, os.stat_result]:
        found = open_regular(*arguments)
        begun.set()
        go.wait(5)
        return found

    monkeypatch.setattr("pagi_sandbox.adapters.directory_files.open_regular", slow)

    async def download() -> None:
        async with files.open("", "s", "a"):
            pytest.fail("it was given up")

    task = asyncio.create_task(download())
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await asyncio.wait({task})
    go.set()
    assert task.cancelled()
    until = time.monotonic() + 2
    while str(workspace / "a") in open_files():
        assert time.monotonic() < until, "what was opened for nobody stays open"
        await asyncio.sleep(0.01)


def open_files() -> list[str]:
    found = []
    for one in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{one}"))
    return found


class TestMediaTypes:
    @pytest.mark.parametrize(
        ("name", "head", "expected"),
        [
            ("plot.png", b"\x89PNG\r\n\x1a\n..", "image/png"),
            ("plot", b"\x89PNG\r\n\x1a\n..", "image/png"),
            ("lies.txt", b"%PDF-1.7", "application/pdf"),
            ("a.csv", b"a,b\n1,2\n", "text/csv"),
            ("a.json", b"{}", "application/json"),
            ("a.docx", b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            ("a.zip", b"PK\x03\x04", "application/zip"),
            ("a", b"PK\x03\x04", "application/zip"),
            ("a.txt", b"PK\x03\x04", "application/zip"),
            ("a.tar.gz", b"\x1f\x8b\x08", "application/gzip"),
            ("a.html", b"<p>", "text/html"),
            ("a.txt", b"\x00\x01", "application/octet-stream"),
            ("a.txt", b"", "text/plain"),
            ("notes", "grüße".encode()[:4], "text/plain"),
            ("notes", b"\xff\xfe\x00", "application/octet-stream"),
            ("empty", b"", "application/octet-stream"),
            ("a.webp", b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
            ("a.md", b"# x", "text/markdown"),
        ],
    )
    def test_by_first_bytes_and_name(self, name: str, head: bytes, expected: str) -> None:
        assert media_type(name, head) == expected


class TestCensus:
    async def test_counts_what_is_there(self, census: DirectoryCensus, workspace: Path) -> None:
        (workspace / "a").mkdir()
        (workspace / "a" / "big").write_bytes(os.urandom(100_000))
        (workspace / "link").symlink_to("/etc/passwd")
        os.mkfifo(workspace / "fifo")
        taken = await census.take(workspace)
        assert list(taken.files) == ["a/big"]
        assert 100_000 <= taken.used_bytes < 150_000
        assert taken.fault == ""

    async def test_a_workspace_that_is_not_there_holds_nothing(self, census: DirectoryCensus, tmp_path: Path) -> None:
        assert await census.take(tmp_path / "missing") == Census(0, {})
        assert await census.take_after(tmp_path / "missing", Census(0, {})) == (Census(0, {}), ())

    async def test_a_file_with_two_names_counts_once(self, census: DirectoryCensus, workspace: Path) -> None:
        (workspace / "one").write_bytes(os.urandom(100_000))
        os.link(workspace / "one", workspace / "two")
        assert (await census.take(workspace)).used_bytes < 150_000

    async def test_too_many_files_too_deep_and_closed_are_faults_in_bounded_time(
        self, census: DirectoryCensus, workspace: Path
    ) -> None:
        deep = workspace / "/".join(["d"] * 70)
        deep.mkdir(parents=True)
        assert "nested deeper than 64" in (await census.take(workspace)).fault
        (workspace / "d").rename(workspace.parent / "aside")
        for number in range(501):
            (workspace / str(number)).touch()
        assert "more than 500" in (await census.take(workspace)).fault

    async def test_what_is_new_or_changed_is_an_artifact(self, census: DirectoryCensus, workspace: Path) -> None:
        for name in ("same", "changed", "stealthy", "gone"):
            (workspace / name).write_text("old")
        before = await census.take(workspace)
        (workspace / "changed").write_text("new")
        times = (workspace / "stealthy").stat()
        (workspace / "stealthy").write_text("NEW")
        os.utime(workspace / "stealthy", ns=(times.st_atime_ns, times.st_mtime_ns))
        (workspace / "gone").unlink()
        (workspace / "new").mkdir()
        (workspace / "new" / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (workspace / "__pycache__").mkdir()
        (workspace / "__pycache__" / "x.pyc").touch()
        (workspace / "link").symlink_to("same")
        os.mkfifo(workspace / "fifo")
        Path(os.fsdecode(os.fsencode(workspace) + b"/\xff")).touch()
        after, artifacts = await census.take_after(workspace, before)
        assert artifacts == (
            Artifact("changed", "text/plain", 3),
            Artifact("new/plot.png", "image/png", 8),
            Artifact("stealthy", "text/plain", 3),
            Artifact("\\xff", "application/octet-stream", 0),
        )
        assert await census.take_after(workspace, after) == (after, ())

    async def test_artifacts_are_bounded(self, census: DirectoryCensus, workspace: Path) -> None:
        for number in range(MAX_ARTIFACTS + 50):
            (workspace / str(number)).touch()
        assert len((await census.take_after(workspace, Census(0, {})))[1]) == MAX_ARTIFACTS


def full(mib: float, fault: str = "") -> Census:
    return Census(int(mib * MIB), {}, fault)


class TestDiskGuard:
    """With a scripted census: what is decided."""

    async def run(
        self, counts: Sequence[Census], disk_mb: int = 0, end: ToolOutcome | None = None
    ) -> tuple[ToolOutcome, ScriptedRunner]:
        runner = ScriptedRunner("t", [end or ToolOutcome(Verdict.OK, "{}")])
        guard = DiskGuard(DiskPolicy(100 * MIB), ScriptedCensus(counts, [Artifact("a", "text/plain", 1)]))
        call = ToolCall("t", {}, Limits(1000, 64, 1000, disk_mb=disk_mb), Path("/w"))
        return await guard.run(runner, call, None), runner

    async def test_a_call_that_stays_within_ends_as_it_ends(self) -> None:
        outcome, runner = await self.run([full(10), full(20)], disk_mb=30)
        assert (outcome.verdict, outcome.artifacts) == (Verdict.OK, (Artifact("a", "text/plain", 1),))
        assert runner.calls[0].limits.disk_mb == 30

    @pytest.mark.parametrize(("disk_mb", "expected"), [(0, 40), (50, 40), (30, 30)])
    async def test_a_call_may_add_what_is_left_at_most(self, disk_mb: int, expected: int) -> None:
        _, runner = await self.run([full(60), full(60)], disk_mb=disk_mb)
        assert runner.calls[0].limits.disk_mb == expected

    async def test_a_call_that_adds_too_much_says_so_and_keeps_what_it_printed(self) -> None:
        end = ToolOutcome(Verdict.OK, '{"a": 1}', stdout="out")
        outcome, _ = await self.run([full(10), full(31)], disk_mb=20, end=end)
        assert (outcome.verdict, outcome.output_json, outcome.stdout) == (Verdict.DISK, '{"a": 1}', "out")
        assert "added 21.0 MiB to the workspace, where it may add 20.0" in outcome.error

    async def test_what_stopped_a_call_first_stands(self) -> None:
        outcome, _ = await self.run([full(10), full(90)], disk_mb=20, end=ToolOutcome(Verdict.TIMEOUT, error="late"))
        assert (outcome.verdict, outcome.error) == (Verdict.TIMEOUT, "late")

    @pytest.mark.parametrize(("count", "why"), [(full(100), "100.0 of 100.0 MiB"), (full(1, "odd"), "odd")])
    async def test_nothing_starts_in_a_full_workspace(self, count: Census, why: str) -> None:
        outcome, runner = await self.run([count])
        assert outcome.verdict is Verdict.DISK
        assert why in outcome.error
        assert "not started" in outcome.error
        assert runner.calls == []

    async def test_a_call_that_leaves_too_many_files_says_so(self) -> None:
        outcome, _ = await self.run([full(1), full(2, "it holds more than 5 files")])
        assert (outcome.verdict, "more than 5 files" in outcome.error) == (Verdict.DISK, True)

    async def test_the_last_count_serves_the_next_call_until_the_workspace_is_removed(self) -> None:
        census = ScriptedCensus([full(1)])
        guard = DiskGuard(DiskPolicy(100 * MIB), census)
        call = ToolCall("t", {}, Limits(1000, 64, 1000), Path("/w"))
        taken = []
        for _ in range(3):
            await guard.run(ScriptedRunner("t", [ToolOutcome(Verdict.OK)]), call, None)
            taken.append(census.taken)
        guard.forget(Path("/w"))
        await guard.run(ScriptedRunner("t", [ToolOutcome(Verdict.OK)]), call, None)
        assert [*taken, census.taken] == [2, 3, 4, 6]


class TestRealCalls:
    async def test_files_come_back_as_artifacts(self, sandbox: Sandbox) -> None:
        code = "import os\nos.makedirs('out')\nopen('out/a.csv', 'w').write('a,b')\nopen('b.bin', 'wb').write(bytes(9))"
        outcome = await python(sandbox, code)
        expected = (Artifact("b.bin", "application/octet-stream", 9), Artifact("out/a.csv", "text/csv", 3))
        assert outcome.artifacts == expected
        assert (await python(sandbox, "print(open('out/a.csv').read())")).artifacts == ()
        assert (await python(sandbox, "open('b.bin', 'ab').write(b'x')")).artifacts == (
            Artifact("b.bin", "application/octet-stream", 10),
        )

    async def test_a_call_that_writes_too_much_is_stopped_soon_with_what_it_printed(
        self, sandbox: Sandbox, workspace: Path
    ) -> None:
        code = (
            "import time\nprint('so far', flush=True)\nn = 0\nwhile True:\n"
            "    open(f'f{n}', 'wb').write(bytes(2**20)); n += 1; time.sleep(0.005)"
        )
        outcome = await python(sandbox, code, disk_mb=5)
        assert (outcome.verdict, outcome.stdout) == (Verdict.DISK, "so far\n")
        held = sum(file.stat().st_size for file in workspace.iterdir())
        assert 5 * MIB < held < 60 * MIB

    async def test_a_full_workspace_says_so_and_loses_nothing(self, sandbox: Sandbox, workspace: Path) -> None:
        (workspace / "mine").write_bytes(os.urandom(65 * MIB))
        outcome = await python(sandbox, "open('more', 'w')")
        assert (outcome.verdict, "full" in outcome.error) == (Verdict.DISK, True)
        assert not (workspace / "more").exists()
        reads = ToolRequest("list_files", "{}", "s")
        assert json.loads((await sandbox.execute(reads)).output_json)["entries"][0]["path"] == "mine"

    async def test_many_small_files_are_stopped_and_can_be_deleted(self, sandbox: Sandbox, workspace: Path) -> None:
        code = "import os\nos.mkdir('many')\nn = 0\nwhile True:\n    open(f'many/{n}', 'w'); n += 1"
        outcome = await python(sandbox, code)
        assert (outcome.verdict, "more than 500 files" in outcome.error) == (Verdict.DISK, True)
        assert "delete_file" in (await python(sandbox, "1")).error
        deleted = await sandbox.execute(ToolRequest("delete_file", '{"path": "many"}', "s"))
        assert (deleted.verdict, deleted.error) == (Verdict.OK, "")
        assert (await python(sandbox, "1")).verdict is Verdict.OK


class Client:
    def __init__(self, client: GrpcClient) -> None:
        self._client = client
        self._stub = sandbox_pb2_grpc.ToolServiceStub(client.channel)

    async def list(self, path: str = "", session: str = "s") -> pb.ListFilesResponse:
        request = pb.ListFilesRequest(session_id=session, path=path)
        response = await self._client.call(self._stub.ListFiles, request, timeout_s=5.0)
        assert isinstance(response, pb.ListFilesResponse)
        return response

    async def download(self, path: str, session: str = "s") -> tuple[pb.Artifact, bytes]:
        request = pb.DownloadFileRequest(session_id=session, path=path)
        messages = [one async for one in self._client.stream(self._stub.DownloadFile, request, timeout_s=5.0)]
        assert [one.HasField("file") for one in messages] == [True] + [False] * (len(messages) - 1)
        return messages[0].file, b"".join(one.data for one in messages)


@pytest_asyncio.fixture(loop_scope="module")
async def client(sandbox: Sandbox, files: SessionFiles) -> AsyncIterator[Client]:
    servicer = ToolServicer(sandbox, files)
    async with serving(sandbox_pb2_grpc.add_ToolServiceServicer_to_server, servicer, SERVICE) as connection:
        yield Client(connection)


BAD_PATHS: list[tuple[str, type[PagiError], str]] = [
    ("../outside/secret.txt", InvalidArgumentError, "cannot leave"),
    ("a/../../outside/secret.txt", InvalidArgumentError, "cannot leave"),
    ("/etc/passwd", InvalidArgumentError, "absolute"),
    ("a\0b", InvalidArgumentError, "NUL"),
    ("link", InvalidArgumentError, "link"),
    ("linked/secret.txt", InvalidArgumentError, "link"),
    ("hard", InvalidArgumentError, "hard link"),
    ("fifo", InvalidArgumentError, "no regular file"),
    ("socket", InvalidArgumentError, "no regular file"),
    ("folder", InvalidArgumentError, "directory"),
    ("file/below", InvalidArgumentError, "no directory"),
    ("missing", NotFoundError, "does not exist"),
    ("", InvalidArgumentError, "names no file"),
    (".", InvalidArgumentError, "names no file"),
    ("x" * 300, InvalidArgumentError, "too long"),
    ("x" * 5000, InvalidArgumentError, "5000 characters"),
    ("/".join(["d"] * 100), InvalidArgumentError, "100 parts"),
]


class TestFilesOverGrpc:
    async def test_lists_what_calls_left(self, client: Client, sandbox: Sandbox) -> None:
        await python(
            sandbox, "import os\nos.mkdir('a')\nopen('a/b.txt', 'w').write('grüße')\nopen('c.json', 'w').write('{}')"
        )
        listed = await client.list()
        assert [(one.path, one.media_type, one.size_bytes) for one in listed.files] == [
            ("a/b.txt", "text/plain", 7),
            ("c.json", "application/json", 2),
        ]
        assert 0 < listed.used_bytes < MIB
        assert (listed.quota_bytes, listed.truncated) == (64 * MIB, False)
        assert [one.path for one in (await client.list("a")).files] == ["a/b.txt"]

    async def test_a_session_without_a_workspace_is_empty_and_gets_none(self, client: Client, tmp_path: Path) -> None:
        assert list((await client.list(session="new")).files) == []
        assert not (tmp_path / "workspaces").exists()
        with pytest.raises(NotFoundError):
            await client.list("a", session="new")
        with pytest.raises(NotFoundError):
            await client.download("a", session="new")

    async def test_downloads_in_pieces(self, client: Client, workspace: Path) -> None:
        data = os.urandom(1_000_000)
        (workspace / "größe.bin").write_bytes(data)
        (workspace / "empty").touch()
        file, got = await client.download("größe.bin")
        assert (file.path, file.size_bytes, got == data) == ("größe.bin", 1_000_000, True)
        assert (await client.download("./empty"))[1] == b""

    async def test_tenants_and_sessions_see_their_own(self, client: Client, workspace: Path) -> None:
        (workspace / "mine").write_text("x")
        with pytest.raises(NotFoundError):
            await client.download("mine", session="other")
        with correlation.bind(tenant="acme"):
            assert list((await client.list()).files) == []
            with pytest.raises(NotFoundError):
                await client.download("mine")

    @pytest.mark.parametrize(("path", "error", "complaint"), BAD_PATHS)
    async def test_no_path_leads_out_or_hangs(
        self, client: Client, workspace: Path, secret: Path, path: str, error: type[PagiError], complaint: str
    ) -> None:
        furnish(workspace, secret)
        with pytest.raises(error) as caught:
            await client.download(path)
        assert complaint in caught.value.message
        assert "secret.txt" not in caught.value.message or "secret.txt" in path
        if isinstance(caught.value, InvalidArgumentError):
            assert caught.value.field == "path"

    @pytest.mark.parametrize("path", ["..", "/", "linked", "link", "fifo", "file", "missing", "a\0"])
    async def test_no_folder_outside_is_listed(self, client: Client, workspace: Path, secret: Path, path: str) -> None:
        furnish(workspace, secret)
        with pytest.raises((InvalidArgumentError, NotFoundError)):
            await client.list(path)
        assert [one.path for one in (await client.list()).files] == ["file"]

    @pytest.mark.parametrize("session", ["", "../s", "a/b", "x" * 201])
    async def test_a_session_id_that_could_be_a_path_is_refused(self, client: Client, session: str) -> None:
        for ask in (client.list(session=session), client.download("a", session=session)):
            with pytest.raises(InvalidArgumentError) as caught:
                await ask
            assert caught.value.field == "session_id"

    async def test_a_long_list_is_cut_and_says_so(
        self, client: Client, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pagi_sandbox.adapters.directory_files._MOST_LISTED_BYTES", 1000)
        for number in range(300):
            (workspace / f"{number:04}").touch()
        listed = await client.list()
        assert (len(listed.files), listed.truncated) == (250, True)

    async def test_leaving_a_download_gives_the_file_back(self, files: SessionFiles, workspace: Path) -> None:
        (workspace / "big").write_bytes(bytes(MIB))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            async with files.open("", "s", "big") as (_, pieces):
                assert len(await anext(pieces)) == 262_144
            for path in ("missing", "a\0"):
                with pytest.raises((FilePathError, NoSuchFileError)):
                    async with files.open("", "s", path):
                        pass
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def furnish(workspace: Path, secret: Path) -> None:
    (workspace / "folder").mkdir()
    (workspace / "file").touch()
    (workspace / "link").symlink_to(secret)
    (workspace / "linked").symlink_to(secret.parent)
    os.link(secret, workspace / "hard")
    os.mkfifo(workspace / "fifo")
    os.mknod(workspace / "socket", stat.S_IFSOCK | 0o600)


@pytest.fixture(params=["openat2", "steps"])
def opens(request: pytest.FixtureRequest) -> Callable[[int, Sequence[str], int], int]:
    return open_below if request.param == "openat2" else open_by_steps


class TestOpening:
    """Both ways of opening keep inside."""

    def test_opens_what_is_there(self, opens: Callable[..., int], workspace: Path) -> None:
        (workspace / "a" / "b").mkdir(parents=True)
        (workspace / "a" / "b" / "c").write_text("x")
        top = os.open(workspace, os.O_RDONLY)
        descriptor = opens(top, ["a", "b", "c"], FILE)
        assert os.read(descriptor, 9) == b"x"
        os.close(descriptor)
        os.close(top)

    @pytest.mark.parametrize(
        ("path", "number"),
        [("link", errno.ELOOP), ("linked/secret.txt", None), ("missing", errno.ENOENT), ("file/x", errno.ENOTDIR)],
    )
    def test_refuses_links(
        self, opens: Callable[..., int], workspace: Path, secret: Path, path: str, number: int | None
    ) -> None:
        furnish(workspace, secret)
        top = os.open(workspace, os.O_RDONLY)
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            opens(top, path.split("/"), FILE)
        assert caught.value.errno in ({number} if number else {errno.ELOOP, errno.ENOTDIR})
        os.close(top)

    def test_a_directory_swapped_for_a_link_meanwhile_leads_nowhere(
        self, opens: Callable[..., int], workspace: Path, secret: Path
    ) -> None:
        (workspace / "real").mkdir()
        (workspace / "real" / "secret.txt").write_text("harmless")
        (workspace / "link").symlink_to(secret.parent)
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for old, new in (("real", "aside"), ("link", "real"), ("real", "link"), ("aside", "real")):
                    os.rename(workspace / old, workspace / new)

        swapper = threading.Thread(target=swap)
        swapper.start()
        top, seen = os.open(workspace, os.O_RDONLY), set()
        try:
            # On a busy machine the swapper may be held up where the name leads nowhere.
            ends, tries = time.monotonic() + 20, 0
            while tries < 5000 or (not seen and time.monotonic() < ends):
                tries += 1
                try:
                    descriptor = opens(top, ["real", "secret.txt"], FILE)
                except OSError:
                    continue
                seen.add(os.read(descriptor, 100))
                os.close(descriptor)
        finally:
            stop.set()
            swapper.join()
            os.close(top)
        assert seen == {b"harmless"}

    def test_where_openat2_is_missing_the_steps_are_taken(
        self, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (workspace / "file").write_text("x")

        def missing(*_: Any) -> int:
            raise OSError(errno.ENOSYS, "no such call")

        monkeypatch.setattr(openat2_files, "_openat2", missing)
        top = os.open(workspace, os.O_RDONLY)
        descriptor, _ = open_regular(top, ["file"])
        assert os.read(descriptor, 9) == b"x"
        os.close(descriptor)
        os.close(top)


class TestMark:
    def test_it_stays_with_the_directory_and_no_other_has_it(self, tmp_path: Path) -> None:
        mark = DirectoryWorkspaces(tmp_path / "a").mark()
        assert len(mark) == 32
        assert DirectoryWorkspaces(tmp_path / "a").mark() == mark != DirectoryWorkspaces(tmp_path / "b").mark()
        assert [one.name for one in (tmp_path / "a").iterdir()] == [".mark"]


class TestRemoval:
    def removal(self, workspaces: DirectoryWorkspaces, after_s: float, **more: Any) -> DirectoryRemoval:
        return DirectoryRemoval(workspaces, max_age_s=3600, now=lambda: time.time() + after_s, **more)

    async def test_what_was_not_used_for_long_goes_and_the_rest_stays(self, workspaces: DirectoryWorkspaces) -> None:
        old = workspaces.directory("acme", "old")
        (old / "a" / "b").mkdir(parents=True)
        (old / "a" / "b" / "file").touch()
        gone: list[Path] = []
        assert await self.removal(workspaces, 3500).sweep() == 0
        assert await self.removal(workspaces, 3700, removed=gone.append).sweep() == 1
        assert gone == [old]
        assert workspaces.find("acme", "old") is None
        assert list(workspaces.removed.iterdir()) == []

    async def test_no_tool_can_make_its_workspace_look_old(self, workspaces: DirectoryWorkspaces) -> None:
        used = workspaces.directory("", "used")
        os.utime(used, (0, 0))
        assert await self.removal(workspaces, 0).sweep() == 0

    async def test_what_is_used_again_meanwhile_stays(self, workspaces: DirectoryWorkspaces) -> None:
        used = workspaces.directory("", "used")
        assert workspaces.unused_since(time.time() + 5) == [used]
        assert workspaces.take_away(used, time.time() - 5) is False
        assert workspaces.take_away(workspaces.directory("", "used") / "gone", time.time() + 5) is False
        assert used.is_dir()

    async def test_what_a_call_works_in_stays_however_long_it_takes(self, workspaces: DirectoryWorkspaces) -> None:
        working, old = workspaces.directory("", "working"), workspaces.directory("", "old")
        moments: list[float] = []

        async def forget(moment: float) -> int:
            moments.append(moment)
            return 0

        removal = self.removal(workspaces, 4000, is_used=lambda workspace: workspace == working, forget=forget)
        assert await removal.sweep() == 1
        assert (working.is_dir(), old.is_dir()) == (True, False)
        assert moments == [pytest.approx(time.time() + 400, abs=60)]

    async def test_never_where_the_age_is_zero(self, workspaces: DirectoryWorkspaces) -> None:
        workspaces.directory("", "old")
        removal = DirectoryRemoval(workspaces, max_age_s=0, now=lambda: time.time() + 1e9)
        assert await removal.sweep() == 0
        assert workspaces.find("", "old") is not None

    async def test_it_works_in_the_background_and_ends_what_another_began(
        self, workspaces: DirectoryWorkspaces
    ) -> None:
        workspaces.directory("", "old")
        (workspaces.removed / "half" / "deleted").mkdir(parents=True)
        removal = self.removal(workspaces, 4000)
        await removal.start()
        async with asyncio.timeout(5):
            while workspaces.find("", "old") is not None or any(workspaces.removed.iterdir()):
                await asyncio.sleep(0.005)
        await removal.stop()

    def test_hostile_trees_are_deleted_and_nothing_else(self, tmp_path: Path, secret: Path) -> None:
        place = tmp_path / "place"
        top = place / "w"
        top.mkdir(parents=True)
        (top / "link").symlink_to(secret.parent)
        os.link(secret, top / "hard")
        os.mkfifo(top / "fifo")
        Path(os.fsdecode(os.fsencode(top) + b"/\xff" + b"x" * 200)).mkdir()
        (top / "closed").mkdir()
        (top / "closed" / "in").touch()
        (top / "closed").chmod(0)
        depth = os.open(top, os.O_RDONLY)
        for _ in range(2200):  # deeper than any path or stack
            os.mkdir("d", dir_fd=depth)
            below = os.open("d", os.O_RDONLY, dir_fd=depth)
            os.close(depth)
            depth = below
        os.close(depth)
        delete_below(place)
        assert list(place.iterdir()) == []
        assert secret.read_text() == "secret"
        delete_below(tmp_path / "missing")

    def test_directories_that_are_closed_to_their_owner_are_deleted_too(self, tmp_path: Path) -> None:
        top = os.open(tmp_path, os.O_RDONLY)
        was_root = os.geteuid() == 0
        if was_root:  # to whom nothing is closed
            os.chown(top, 65_534, -1)
            os.seteuid(65_534)
        try:
            os.mkdir("a", dir_fd=top)
            inside = os.open("a", os.O_RDONLY, dir_fd=top)
            os.mkdir("b", dir_fd=inside)
            os.mkdir("b/c", dir_fd=inside)
            for path in ("b/c", "b", "."):
                os.chmod(path, 0, dir_fd=inside)
            os.close(inside)
            delete(top, "a")
            assert os.listdir(top) == []
        finally:
            if was_root:
                os.seteuid(0)
            os.close(top)


async def test_the_deletion_of_a_call_in_between_is_no_fault(sandbox: Sandbox, workspace: Path) -> None:
    (workspace / "a").touch()
    outcome = await python(sandbox, "import os\nos.remove('a')")
    assert (outcome.verdict, outcome.artifacts) == (Verdict.OK, ())
