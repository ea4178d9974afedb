"""fetch_url and web_search in the fork server, on a local server."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pagi_sandbox.adapters.fork_runner import ForkRunner
from pagi_sandbox.domain.model import Limits, ToolCall, ToolOutcome, Verdict
from pagi_sandbox.domain.tool import ToolContext, ToolFailedError
from pagi_sandbox.domain.tools.fetch_url import FetchUrl
from pagi_sandbox.domain.web import fetching
from pagi_sandbox.domain.web.addresses import AllowedHosts
from pagi_sandbox.domain.web.fetching import Bounds

from .local_web import LocalWeb, local_web, page, redirect

ARTICLE = "<p>" + "Something that is worth reading. " * 20 + "</p>"
HTML = f"""<!doctype html><html><head><title> A &amp;
 B </title><script>alert("no")</script><style>p {{}}</style></head><body><nav><a href="/">Home</a></nav>
<main><article><h1>Heading</h1>{ARTICLE}</article></main><footer>Imprint</footer></body></html>"""


@pytest_asyncio.fixture(loop_scope="module")
async def web() -> AsyncIterator[LocalWeb]:
    async with local_web() as web:
        yield web


class Web:
    """Calls the web tools in their own processes."""

    def __init__(self, runner: ForkRunner, web: LocalWeb, workspace: Path) -> None:
        self._runner, self._web, self._workspace = runner, web, workspace

    async def fetch(self, url: str, *, allow: bool = True, timeout_ms: int = 10_000, **arguments: Any) -> ToolOutcome:
        configuration = {"allow": [self._web.allowed]} if allow else {}
        limits = Limits(timeout_ms, 512, 100_000)
        call = ToolCall("fetch_url", {"url": url, **arguments}, limits, self._workspace, "s")
        return await self._runner.run(replace(call, configuration=configuration))

    async def read(self, path: str, **arguments: Any) -> dict[str, Any]:
        outcome = await self.fetch(self._web.url(path), **arguments)
        assert (outcome.verdict, outcome.error) == (Verdict.OK, "")
        answer: dict[str, Any] = json.loads(outcome.output_json)
        return answer

    async def search(self, instance: str, **arguments: Any) -> ToolOutcome:
        call = ToolCall("web_search", arguments, Limits(10_000, 512, 100_000), self._workspace, "s")
        return await self._runner.run(replace(call, configuration={"searxng_url": instance} if instance else {}))


@pytest.fixture
def tools(fork_runner: ForkRunner, web: LocalWeb, tmp_path: Path) -> Web:
    return Web(fork_runner, web, tmp_path)


class TestFetch:
    async def test_gives_title_and_main_text(self, tools: Web, web: LocalWeb) -> None:
        web.answers["/"] = page(HTML)
        answer = await tools.read("/")
        assert (answer["title"], answer["content_type"], answer["cut"]) == ("A & B", "text/html", False)
        assert answer["text"].startswith("Heading")
        for noise in ("alert", "Imprint", "Home", "p {"):
            assert noise not in answer["text"]
        assert "Imprint" in (await tools.read("/", whole_page=True))["text"]

    async def test_a_long_text_comes_in_parts(self, tools: Web, web: LocalWeb) -> None:
        web.answers["/long"] = page("".join(f"{number:04} " for number in range(1000)), "text/plain")
        first = await tools.read("/long", max_characters=2000)
        assert (first["characters"], first["next_offset"], len(first["text"])) == (5000, 2000, 2000)
        last = await tools.read("/long", offset=4000, max_characters=2000)
        assert (last["text"][:4], last["next_offset"]) == ("0800", None)

    @pytest.mark.parametrize(
        ("body", "content_type", "expected"),
        [
            ("größe".encode("latin-1"), "text/plain; charset=ISO-8859-1", "größe"),
            ("größe".encode(), "text/plain", "größe"),
            ("größe".encode("utf-16"), "text/plain; charset=latin1", "größe"),
            ("<meta charset=windows-1251><p>привет".encode("cp1251"), "text/html", "привет"),
            ("<p>日本語</p>".encode("shift_jis"), "text/html; charset=Shift_JIS", "日本語"),
            (b"a\xffb", "text/plain; charset=utf-8", "a\ufffdb"),
            (b"plain", 'text/plain; charset="no-such"', "plain"),
            (b'{"b":[1]}', "application/ld+json", '{\n "b": [\n  1\n ]\n}'),
        ],
    )
    async def test_charsets_and_kinds(
        self, tools: Web, web: LocalWeb, body: bytes, content_type: str, expected: str
    ) -> None:
        web.answers["/x"] = page(body, content_type)
        assert (await tools.read("/x"))["text"] == expected

    @pytest.mark.parametrize("content_type", ["application/pdf", "image/png", "application/octet-stream", "nonsense"])
    async def test_what_is_no_text_is_said_to_be_none(self, tools: Web, web: LocalWeb, content_type: str) -> None:
        web.answers["/x"] = page(b"%PDF", content_type)
        outcome = await tools.fetch(web.url("/x"))
        assert outcome.verdict is Verdict.FAILED
        assert f"is {content_type}; only pages and texts" in outcome.error

    async def test_follows_redirects_and_says_where_they_led(self, tools: Web, web: LocalWeb) -> None:
        web.answers |= {"/a": redirect("b"), "/b": redirect(web.url("/c"), 307), "/c": page("there", "text/plain")}
        answer = await tools.read("/a")
        assert (answer["url"], answer["text"]) == (web.url("/c"), "there")

    async def test_asks_as_a_guest(self, tools: Web, web: LocalWeb) -> None:
        web.answers["/"] = page("x", "text/plain")
        await tools.read("/")
        [head] = web.heads
        assert f"Host: 127.0.0.1:{web.port}\r\n" in head
        for name in ("Cookie", "Authorization", "Referer"):
            assert name not in head

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            (page("gone", status="404 Not Found"), "answered with status 404"),
            (b"", "broke off or answered badly"),
            (b"no http at all\r\n\r\n", "answered badly"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "broke off"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "answered badly"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "answered badly"),
            (page(b"x", "text/plain", "Content-Encoding: br"), "packs with 'br'"),
            (page(b"x" * 50, "text/plain", "Content-Encoding: gzip"), "cannot be unpacked"),
            (redirect("/loop"), "more than 5 redirects"),
            (redirect("file:///etc/passwd"), "no web address"),
            (redirect("http://["), "'http://[', which is no web address"),
            (redirect("http://169.254.169.254/latest/meta-data/"), "no address of the public Internet"),
            (redirect("http://[::ffff:127.0.0.1]/"), "no address of the public Internet"),
            (redirect("http://127.0.0.1:1999/"), "no address of the public Internet"),
            (redirect("http://2130706433/"), "no address of the public Internet"),
        ],
    )
    async def test_a_bad_answer_is_a_clear_failure(
        self, tools: Web, web: LocalWeb, answer: bytes, complaint: str
    ) -> None:
        web.answers["/loop"] = answer
        outcome = await tools.fetch(web.url("/loop"))
        assert outcome.verdict is Verdict.FAILED
        assert complaint in outcome.error

    async def test_a_local_address_that_the_operator_has_not_named_is_closed(self, tools: Web, web: LocalWeb) -> None:
        for host in ("127.0.0.1", "localhost", "0x7f.1", "[::ffff:7f00:1]"):
            outcome = await tools.fetch(web.url("/", host), allow=False)
            assert outcome.verdict is Verdict.FAILED
            assert "no address of the public Internet" in outcome.error
        assert web.heads == []

    async def test_a_body_packed_in_members_is_read_whole(self, tools: Web, web: LocalWeb) -> None:
        noise = random.Random(1).randbytes(100_000).hex().encode()
        for first in (b"one ", noise):
            packed = gzip.compress(first) + gzip.compress(b"two") + b"what is no member is nothing"
            web.answers["/members"] = page(packed, "text/plain", "Content-Encoding: gzip")
            answer = await tools.read("/members", max_characters=100)
            assert (answer["characters"], answer["cut"]) == (len(first + b"two"), False)

    @pytest.mark.parametrize("packed", [gzip.compress(b"0" * 2**28, 9), zlib.compress(b"0" * 2**28, 9)])
    async def test_a_bomb_is_cut(self, tools: Web, web: LocalWeb, packed: bytes) -> None:
        web.answers["/bomb"] = page(packed, "text/plain", "Content-Encoding: gzip")
        answer = await tools.read("/bomb")
        assert (answer["characters"], answer["cut"]) == (4 * 2**20, True)

    async def test_a_bomb_is_never_held_whole(self, web: LocalWeb) -> None:
        packed = gzip.compress(b"0" * 2**28, 9)
        web.answers["/bomb"] = page(packed, "text/plain", "Content-Encoding: gzip")
        bounds = Bounds(seconds=20, body=2**20)
        tracemalloc.start()
        document = await asyncio.to_thread(
            fetching.fetch, web.url("/bomb"), AllowedHosts((web.allowed,)), bounds, accept="*/*"
        )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(document.body), document.cut) == (2**20, True)
        assert peak < 16 * 2**20

    async def test_an_endless_body_is_cut(self, tools: Web, web: LocalWeb) -> None:
        async def endless(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()

        web.answers["/endless"] = endless
        assert (await tools.read("/endless"))["cut"] is True

    async def test_a_page_that_is_slow_to_read_ends_with_the_calls_time(self, tools: Web, web: LocalWeb) -> None:
        web.answers["/deep"] = page("<div>" * 200_000 + "x")
        outcome = await tools.fetch(web.url("/deep"), timeout_ms=1000)
        assert outcome.verdict is Verdict.TIMEOUT
        assert outcome.duration_ms < 5000

    async def test_a_server_that_hangs_ends_with_the_calls_time(self, tools: Web, web: LocalWeb) -> None:
        over = asyncio.Event()

        async def hang(writer: asyncio.StreamWriter) -> None:
            await over.wait()

        web.answers["/hang"] = hang
        outcome = await tools.fetch(web.url("/hang"), timeout_ms=300)
        over.set()
        assert outcome.verdict is Verdict.TIMEOUT

    async def test_a_server_that_drips_gets_no_more_time(self, web: LocalWeb, monkeypatch: pytest.MonkeyPatch) -> None:
        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X")
                await writer.drain()
                await asyncio.sleep(0.02)

        web.answers["/drip"] = drip
        bounds = Bounds(seconds=0.3, body=1000)
        with pytest.raises(ToolFailedError, match=r"within 0\.3 s|in time"):
            await asyncio.to_thread(
                fetching.fetch, web.url("/drip"), AllowedHosts((web.allowed,)), bounds, accept="*/*"
            )


class TestTls:
    async def test_a_certificate_that_nobody_vouches_for_is_refused(
        self, fork_runner: ForkRunner, tmp_path: Path
    ) -> None:
        own = tmp_path / "own.pem"
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=127.0.0.1"
        files = ["-keyout", str(own), "-out", str(own.with_suffix(".crt"))]
        subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(own.with_suffix(".crt"), own)
        async with local_web(tls) as web:
            outcome = await Web(fork_runner, web, tmp_path).fetch(f"https://127.0.0.1:{web.port}/")
            assert outcome.verdict is Verdict.FAILED
            assert "gives no valid TLS connection" in outcome.error
            assert "self-signed certificate" in outcome.error
            assert web.heads == []


class TestRebinding:
    async def test_a_name_is_resolved_once_and_the_checked_address_is_used(
        self, web: LocalWeb, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import socket

        asked: list[str] = []

        def resolve(host: str, port: int, **_: object) -> list[Any]:
            # Allowed at first, another the second time: as a name server of an attacker answers.
            asked.append(host)
            address = "127.0.0.1" if len(asked) == 1 else "127.0.0.99"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        web.answers["/"] = page("mine", "text/plain")
        context = ToolContext(Path(), configuration={"allow": [web.allowed]})
        url = web.url("/", "evil.example")
        answer = await asyncio.to_thread(FetchUrl().run, {"url": url}, context)
        assert (answer["text"], asked) == ("mine", ["evil.example"])
        with pytest.raises(ToolFailedError, match=r"evil\.example is at 127\.0\.0\.99"):
            await asyncio.to_thread(FetchUrl().run, {"url": url}, context)


class TestSearch:
    async def test_asks_and_takes_what_can_be_used(self, tools: Web, web: LocalWeb) -> None:
        results = [
            {"title": "One", "url": "https://one.example/", "content": "first"},
            {"title": "No address"},
            {"title": "Script", "url": "javascript:alert(1)"},
            "nonsense",
            {"title": None, "url": "http://two.example/", "content": "x" * 5000},
            {"title": "Three", "url": "http://three.example/"},
        ]
        web.answers["/searx/search"] = page(json.dumps({"results": results}), "application/json")
        outcome = await tools.search(web.url("/searx/"), query="größe & maß", max_results=2)
        answer = json.loads(outcome.output_json)
        assert web.heads[0].startswith("GET /searx/search?q=gr%C3%B6%C3%9Fe+%26+ma%C3%9F&format=json HTTP/1.1\r\n")
        assert answer["provider"] == "searxng"
        assert answer["results"][0] == {"title": "One", "url": "https://one.example/", "snippet": "first"}
        assert [hit["url"] for hit in answer["results"]] == ["https://one.example/", "http://two.example/"]
        assert len(answer["results"][1]["snippet"]) == 1000

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            (page("", status="403 Forbidden"), "formats: [html, json]"),
            (page("", status="429 Too Many Requests"), "try later"),
            (page("", status="500 No"), "status 500"),
            (page("<html>"), "something else than JSON"),
            (page("[]"), "without results"),
            (page(" " * (4 * 2**20 + 1)), "more than"),
            (redirect("http://127.0.0.1:9/"), "redirects"),
        ],
    )
    async def test_a_bad_answer_is_a_clear_failure(
        self, tools: Web, web: LocalWeb, answer: bytes, complaint: str
    ) -> None:
        web.answers["/search"] = answer
        outcome = await tools.search(web.url(""), query="x")
        assert outcome.verdict is Verdict.FAILED
        assert complaint in outcome.error

    async def test_no_instance_is_a_clear_failure(self, tools: Web) -> None:
        outcome = await tools.search("http://127.0.0.1:9", query="x")
        assert (outcome.verdict, "port 9 is no port of the web" in outcome.error) == (Verdict.FAILED, True)
        outcome = await tools.search("http://127.0.0.1:1999", query="x")
        assert (outcome.verdict, "cannot be reached" in outcome.error) == (Verdict.FAILED, True)

    async def test_without_a_provider_the_failure_says_what_to_set(self, tools: Web) -> None:
        outcome = await tools.search("", query="x")
        assert outcome.verdict is Verdict.FAILED
        assert "WEB_SEARCH_PROVIDER=searxng and SEARXNG_URL" in outcome.error
