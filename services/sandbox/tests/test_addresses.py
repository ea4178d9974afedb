"""Which addresses tools may go to."""

from __future__ import annotations

import ipaddress

import pytest
from pagi_chassis.settings import SettingsError, load
from pagi_sandbox.domain.tool import ToolFailedError
from pagi_sandbox.domain.web.addresses import AllowedHosts, is_public, parse_allowed
from pagi_sandbox.domain.web.fetching import parse_url
from pagi_sandbox.settings import SandboxSettings

CLOSED = """
0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 169.254.170.2 172.16.0.1
172.31.255.255 192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.255 168.63.129.16 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::7f00:1
64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0
fec0::1 ff02::1
"""


@pytest.mark.parametrize("address", CLOSED.split())
def test_what_is_not_public_is_closed(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(ToolFailedError, match="no address of the public Internet"):
        AllowedHosts().check("host.example", 80, [address])


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]
)
def test_what_is_public_is_open(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    AllowedHosts().check("host.example", 443, [address])


def test_one_closed_address_among_open_ones_closes_the_host() -> None:
    with pytest.raises(ToolFailedError, match=r"10\.0\.0\.1"):
        AllowedHosts().check("host.example", 80, ["8.8.8.8", "10.0.0.1"])


class TestAllowed:
    def test_an_address_is_open_at_its_port_only(self) -> None:
        allowed = AllowedHosts((parse_allowed("127.0.0.1:8080"), parse_allowed("[::1]:81")))
        allowed.check("localhost", 8080, ["127.0.0.1"])
        allowed.check("::1", 81, ["::1"])
        for host, port, address in (("localhost", 8081, "127.0.0.1"), ("x", 8080, "127.0.0.2"), ("x", 8080, "::1")):
            with pytest.raises(ToolFailedError):
                allowed.check(host, port, [address])

    def test_a_name_stands_for_whatever_it_resolves_to(self) -> None:
        allowed = AllowedHosts((parse_allowed("SearXNG:8080"),))
        allowed.check("searxng", 8080, ["172.18.0.3"])
        with pytest.raises(ToolFailedError):
            allowed.check("other", 8080, ["172.18.0.3"])

    @pytest.mark.parametrize(
        "entry", ["localhost", "127.0.0.1", "http://x:80", "x:0", "x:70000", "x:y", ":80", "::1:80x"]
    )
    def test_an_entry_that_is_none_names_its_variable(self, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
        monkeypatch.setenv("SANDBOX_FETCH_ALLOW", entry)
        with pytest.raises(SettingsError, match="SANDBOX_FETCH_ALLOW"):
            load(SandboxSettings)


WRONG_URLS = """
file:///etc/passwd ftp://x/ gopher://x javascript:alert(1) //x x http:// http://a@b/ http://a:b@c/ http://x:22/
http://x:70000/ http://[::1 http://a..b/
"""


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "host", "port", "path"),
        [
            ("http://Example.com", "example.com", 80, "/"),
            ("https://example.com./a b?c=ä#frag", "example.com", 443, "/a%20b?c=%C3%A4"),
            ("https://bücher.example:8443/%20", "xn--bcher-kva.example", 8443, "/%20"),
            ("http://[2606:4700::1]/", "2606:4700::1", 80, "/"),
        ],
    )
    def test_where_an_address_leads(self, url: str, host: str, port: int, path: str) -> None:
        target = parse_url(url)
        assert (target.host, target.port, target.path) == (host, port, path)

    @pytest.mark.parametrize(
        "url",
        WRONG_URLS.split(),
    )
    def test_what_is_no_web_address_is_refused(self, url: str) -> None:
        with pytest.raises(ToolFailedError):
            parse_url(url)
