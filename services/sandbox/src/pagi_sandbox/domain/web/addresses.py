"""Which addresses a tool may connect to.

Sources: the IANA special-purpose address registries (RFC 6890), and the addresses at which clouds serve credentials.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pagi_sandbox.domain.tool import ToolFailedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# `is_global` differs between Python's patch releases, so what matters is named here too. An IPv6 address with an IPv4
# address in it (mapped, compatible, NAT64, 6to4, Teredo) may lead to any network behind it.
# 168.63.129.16 is Azure's host: a public address that is answered inside.
_SPECIAL = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32
::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20
5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
"""
_CLOSED = tuple(ipaddress.ip_network(network) for network in _SPECIAL.split())


def is_public(address: Address) -> bool:
    """Whether it is a host of the open Internet: not private, loopback, link-local, multicast, reserved or mapped."""
    if getattr(address, "scope_id", None):
        return False
    closed = any(address in network for network in _CLOSED if network.version == address.version)
    return address.is_global and not address.is_multicast and not closed


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Hosts that the operator has named, "host:port" each; all else must be public.

    A name stands for whatever it resolves to; an address stands for itself, however a URL spells it.
    """

    entries: Sequence[str] = ()

    def check(self, host: str, port: int, addresses: Sequence[str]) -> None:
        """Refuses a host of which one address is not open to tools.

        Raises:
            ToolFailedError: names the host and the address.
        """
        if _key(host, port) in self.entries:
            return
        for text in addresses:
            address = ipaddress.ip_address(text)
            if not is_public(address) and _key(str(address), port) not in self.entries:
                raise ToolFailedError(
                    f"{host[:200]} is at {address}, which is no address of the public Internet; tools may not go there"
                )


def _key(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_allowed(entry: str) -> str:
    """An entry as it is compared.

    Raises:
        ValueError: it is no "host:port".
    """
    host, colon, port = entry.strip().lower().rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host or "@" in host:
        raise ValueError(f"{entry!r} is no host:port, such as 127.0.0.1:8080, [::1]:8080 or searxng:8080")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        bare = str(ipaddress.ip_address(bare))
    except ValueError:
        if ":" in bare:
            raise ValueError(f"{entry!r} is no host:port: {bare!r} is no IPv6 address") from None
    return _key(bare, int(port))
