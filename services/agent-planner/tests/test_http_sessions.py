"""The files of a session over HTTP, and through a real sandbox servicer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pagi.sandbox.v1 import sandbox_pb2 as pb
from pagi.sandbox.v1 import sandbox_pb2_grpc
from pagi_chassis import correlation
from pagi_chassis.errors import InvalidArgumentError, NotFoundError, UnavailableError
from pagi_chassis.testing import serving
from pagi_planner.adapters.sandbox_files import SandboxFiles
from pagi_planner.domain.model import FileList, ToolOutcome, WorkspaceFile


class TestRoutes:
    @pytest.fixture(autouse=True)
    def contents(self, planner):
        planner.files.contents = {
            ("demo", "out/a b.txt"): b"abcde",
            ("demo", "größe.html"): b"<script>",
            ("x", "y"): b"",
        }

    async def test_lists_the_files(self, planner):
        async with planner.client() as client:
            answer = await client.get("/sessions/demo/files")
            below = await client.get("/sessions/demo/files", params={"path": "out/"})
        assert answer.status_code == 200
        assert answer.json() == {
            "session_id": "demo",
            "files": [
                {"path": "größe.html", "media_type": "text/plain", "size_bytes": 8},
                {"path": "out/a b.txt", "media_type": "text/plain", "size_bytes": 5},
            ],
            "used_bytes": 13,
            "quota_bytes": 1_000_000,
            "truncated": False,
        }
        assert [file["path"] for file in below.json()["files"]] == ["out/a b.txt"]

    async def test_a_session_without_files_has_an_empty_list(self, planner):
        async with planner.client() as client:
            assert (await client.get("/sessions/new/files")).json()["files"] == []

    async def test_sends_a_file_to_be_saved_not_run(self, planner):
        async with planner.client() as client:
            answer = await client.get("/sessions/demo/files/gr%C3%B6%C3%9Fe.html")
            other = await client.get("/sessions/demo/files/out/a%20b.txt")
        assert (answer.status_code, answer.content) == (200, b"<script>")
        assert answer.headers["content-length"] == "8"
        assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.html"
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert other.content == b"abcde"
        assert planner.files.open_now == 0

    async def test_what_is_not_there_is_404(self, planner):
        async with planner.client() as client:
            for path in ("/sessions/demo/files/missing", "/sessions/other/files/out/a b.txt"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
                assert "does not exist" in answer.json()["detail"]

    async def test_a_sandbox_that_is_away_is_503(self, planner):
        planner.files.away = UnavailableError("the sandbox is away", retry_after_s=2.0)
        async with planner.client() as client:
            for path in ("/sessions/demo/files", "/sessions/demo/files/y"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")

    async def test_nobody_gets_a_file_without_the_key(self, planner):
        planner.api_key = "key"
        async with planner.client() as client:
            for path in ("/sessions/demo/files", "/sessions/demo/files/out/a b.txt"):
                assert (await client.get(path)).status_code == 401
                assert (await client.get(path, headers={"X-API-Key": "key"})).status_code == 200

    async def test_a_caller_that_leaves_lets_the_file_go(self, planner):
        planner.files.contents = {("demo", "big"): bytes(1_000_000)}
        sent = []

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 3:
                raise OSError("the connection is gone")

        async def receive() -> Any:
            await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "path": "/sessions/demo/files/big", "raw_path": b"/sessions/demo/files/big", "query_string": b"",
            "headers": [], "scheme": "http", "root_path": "",
        }  # fmt: skip
        with pytest.raises((OSError, ExceptionGroup)):
            await planner.app()(scope, receive, send)
        assert planner.files.open_now == 0


class Sandbox(sandbox_pb2_grpc.ToolServiceServicer):
    """Knows one file."""

    def __init__(self) -> None:
        self.tenants: list[str] = []
        self.left = asyncio.Event()

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        self.tenants.append(correlation.current().tenant)
        if request.path == "..":
            raise InvalidArgumentError("no", field="path")
        files = [pb.Artifact(path="a", media_type="text/plain", size_bytes=3)]
        return pb.ListFilesResponse(files=files, used_bytes=4096, quota_bytes=9999, truncated=True)

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        if request.path == "missing":
            raise NotFoundError("'missing' does not exist in the workspace")
        yield pb.DownloadFileResponse(file=pb.Artifact(path=request.path, media_type="text/plain", size_bytes=3))
        try:
            for byte in (b"a", b"b", b"c"):
                yield pb.DownloadFileResponse(data=byte)
            while request.path == "endless":
                await asyncio.sleep(0.01)
                yield pb.DownloadFileResponse(data=b"x")
        finally:
            self.left.set()


class TestSandboxFiles:
    @pytest.fixture
    async def sandbox(self):
        return Sandbox()

    @pytest.fixture
    async def files(self, sandbox):
        async with serving(
            sandbox_pb2_grpc.add_ToolServiceServicer_to_server, sandbox, "pagi.sandbox.v1.ToolService"
        ) as client:
            yield SandboxFiles(client)

    async def test_lists_for_the_tenant(self, files, sandbox):
        with correlation.bind(tenant="acme"):
            listed = await files.list("s")
        assert listed == FileList((WorkspaceFile("a", "text/plain", 3),), 4096, 9999, truncated=True)
        assert sandbox.tenants == ["acme"]
        with pytest.raises(InvalidArgumentError) as caught:
            await files.list("s", "..")
        assert caught.value.field == "path"

    async def test_gives_a_file_in_pieces(self, files):
        async with files.open("s", "a") as (file, pieces):
            assert file == WorkspaceFile("a", "text/plain", 3)
            assert [piece async for piece in pieces] == [b"a", b"b", b"c"]

    async def test_what_is_not_there_is_not_opened(self, files):
        with pytest.raises(NotFoundError, match="does not exist"):
            async with files.open("s", "missing"):
                pass

    async def test_leaving_ends_the_transfer(self, files, sandbox):
        async with files.open("s", "endless") as (_, pieces):
            assert await anext(pieces) == b"a"
        async with asyncio.timeout(5):
            await sandbox.left.wait()


def test_files_stand_beside_the_answer_of_a_tool():
    files = (WorkspaceFile("a.png", "image/png", 9),)
    listed = [{"path": "a.png", "media_type": "image/png", "size_bytes": 9}]
    assert ToolOutcome("ok", {"value": None}, files=files).reply == {"value": None, "files": listed}
    assert ToolOutcome("timeout", stdout="x", files=files).reply == {"stdout": "x", "files": listed}
    assert ToolOutcome("ok", 3, files=files).reply == {"output": 3, "files": listed}
