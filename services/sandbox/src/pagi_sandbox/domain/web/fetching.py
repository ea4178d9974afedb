"""Fetches one document over HTTP, within bounds."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from pagi_sandbox.domain.tool import ToolFailedError
from pagi_sandbox.domain.web.addresses import AllowedHosts
from pagi_sandbox.domain.web.connection import Deadline, Target, connected

if TYPE_CHECKING:
    import http.client

MAX_REDIRECTS = 5
MAX_URL = 4096
_CHUNK = 65_536
_REDIRECTS = {301, 302, 303, 307, 308}
_AGENT = "Mozilla/5.0 (compatible; pagi-sandbox)"
# What may stand in a path and a query as it is; "%" because the address may be quoted already.
_SAFE = "!#$%&'()*+,/:;=?@[]~"
# How one begins, also where a chunk ends after its first byte.
_GZIP = {b"\x1f\x8b", b"\x1f"}
# Ports below 1024 besides these belong to other protocols.
_LOW_PORTS = {80, 443}


@dataclass(frozen=True, slots=True)
class Document:
    """What a server sent; `url` is where the redirects led, `cut` tells that there was more than the bound."""

    url: str
    status: int
    content_type: str
    body: bytes
    cut: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one fetch.

    Attributes:
        seconds: for all of it, redirects included.
        body: bytes, after decompression.
        redirects: how many are followed.
    """

    seconds: float
    body: int
    redirects: int = MAX_REDIRECTS


def fetch(url: str, allowed: AllowedHosts, bounds: Bounds, *, accept: str) -> Document:
    """The document at a URL.

    Raises:
        ToolFailedError: the address is not allowed, cannot be reached, or answers badly.
    """
    deadline = Deadline(bounds.seconds)
    for _ in range(bounds.redirects + 1):
        document, location = _exchange(url, allowed, deadline, bounds, accept)
        if location is None:
            return document
        try:
            url = urljoin(url, location)
        except ValueError as error:
            raise ToolFailedError(f"{url[:200]} leads to {location[:200]!r}, which is no web address") from error
    raise ToolFailedError(f"there are more than {bounds.redirects} redirects, the last to {url[:200]}")


def _exchange(
    url: str, allowed: AllowedHosts, deadline: Deadline, bounds: Bounds, accept: str
) -> tuple[Document, str | None]:
    """What one request brings, and where it leads on; of a redirect the body is not read."""
    import http.client

    target = parse_url(url)
    headers = {"User-Agent": _AGENT, "Accept": accept, "Accept-Encoding": "gzip", "Connection": "close"}
    with connected(target, allowed, deadline) as connection:
        try:
            connection.request("GET", target.path, headers=headers)
            with connection.getresponse() as response:
                location = response.getheader("Location") if response.status in _REDIRECTS else None
                body, cut = _read(response, bounds.body) if location is None else (b"", False)
                if location is None and not cut and response.length:
                    raise ToolFailedError(f"{target.host[:200]} broke off {response.length} bytes before the end")
                return Document(url, response.status, response.getheader("Content-Type") or "", body, cut), location
        except TimeoutError as error:
            raise ToolFailedError(f"{target.host[:200]} did not answer in time") from error
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise ToolFailedError(f"{target.host[:200]} broke off or answered badly: {_said(error)}") from error


def parse_url(url: str) -> Target:
    """Where a URL leads.

    Raises:
        ToolFailedError: it is no address that can be fetched.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as error:
        raise ToolFailedError(f"{url[:200]!r} is no web address: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise ToolFailedError(f"{url[:200]!r} is no web address; one begins with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ToolFailedError("an address with a user or a password in it is not fetched")
    port = port or (443 if parts.scheme == "https" else 80)
    if port < 1024 and port not in _LOW_PORTS:
        raise ToolFailedError(f"port {port} is no port of the web; allowed are 80, 443 and those from 1024 on")
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    if len(path) > MAX_URL:
        raise ToolFailedError(f"the address is longer than {MAX_URL} characters")
    return Target(parts.scheme, host, port, path)


def _read(response: http.client.HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """The body, unpacked, and whether there was more: never more than `limit` and a chunk is held."""
    encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if encoding in {"identity", ""}:
        body = response.read(limit + 1)
        return body[:limit], len(body) > limit
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise ToolFailedError(f"the server packs with {encoding[:40]!r}, which was not asked for")
    body, unpack = b"", zlib.decompressobj(wbits=47)
    while len(body) <= limit:
        packed = response.read(_CHUNK)
        if not packed:
            break
        while packed and len(body) <= limit:
            if unpack.eof:
                if packed[:2] not in _GZIP:
                    return body, False
                # One more member (RFC 1952, 2.2).
                unpack = zlib.decompressobj(wbits=47)
            try:
                body += unpack.decompress(packed, limit + 1 - len(body))
            except zlib.error as error:
                raise ToolFailedError(f"what the server packed cannot be unpacked: {error}") from error
            packed = unpack.unconsumed_tail or unpack.unused_data
    return body[:limit], len(body) > limit


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
