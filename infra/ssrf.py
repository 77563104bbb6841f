"""The guard against server-side request forgery: which targets an outgoing HTTP call may have.

Whoever registers a webhook chooses where this machine connects to. Everything that is not plainly public Internet is
refused, unless the operator allows its network. The table is written out, because `ipaddress.is_global` changed its mind
between Python's patch releases (3.11.9, 3.12.4) and is not a security boundary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

from channels.base import TargetRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED_V4: tuple[IPv4Network, ...] = tuple(
    IPv4Network(n)
    for n in (
        "0.0.0.0/8",  # "this network"; 0.0.0.0 connects to loopback on Linux
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # private (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT, where some clouds keep their metadata (100.100.100.200)
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, cloud metadata (169.254.169.254)
        "168.63.129.16/32",  # Azure's platform address: public in form, the host's own in fact
        "192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24",  # protocol assignments, documentation
        "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", "192.88.99.0/24",  # AS112, AMT, 6to4 relays
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)  # fmt: skip

GLOBAL_V6 = IPv6Network("2000::/3")
"""The only IPv6 space given out as global unicast: ::1, fc00::/7, fe80::/10 and ff00::/8 lie outside and need no rows."""

REFUSED_V6: tuple[IPv6Network, ...] = tuple(
    IPv6Network(n)
    for n in (
        "2001::/23",  # protocol assignments: Teredo (2001::/32) carries an IPv4 target inside, ORCHID, benchmarks
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4 carries an IPv4 target inside
        "2620:4f:8000::/48",  # AS112
    )
)  # fmt: skip

NAT64 = IPv6Network("64:ff9b::/96")
"""The translation prefix: in an IPv6-only network every public IPv4 target looks like this, so the inner one decides."""

REFUSED_PORTS = frozenset({
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 110, 111, 113, 119, 123, 135, 137, 139,
    143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 548, 554, 587, 601, 636, 873, 989, 990, 993, 995, 1433, 1521,
    1719, 1720, 1723, 2049, 2375, 2376, 2379, 3306, 3389, 3659, 4190, 5060, 5061, 5432, 5900, 6000, 6379, 6566, 6665, 6666,
    6667, 6668, 6669, 6679, 6697, 9042, 9200, 11211, 27017,
})  # fmt: skip
"""Services that speak something else and may obey what is inside an HTTP request (mail, Redis, memcached, databases)."""

MAIL_PORTS = frozenset({25, 465, 587})
"""Of those, what mail may be handed over to."""

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]*))*", re.IGNORECASE)


class SsrfGuard:
    """Decides targets. `allow_networks` are let through although the table refuses them; ports are never negotiable."""

    def __init__(self, *, allow_networks: Sequence[str] = ()) -> None:
        self._allowed: tuple[Network, ...] = tuple(ip_network(n) for n in allow_networks)
        self._literal_ok = lru_cache(maxsize=4096)(self._literal_is_allowed)

    def check_url(self, url: URL) -> None:
        """Everything that can be said without resolving. Raises TargetRefused (target_url, target_port, target_address)."""
        host = url.raw_host
        if url.scheme not in ("https", "http") or not host or url.raw_user is not None or url.raw_password is not None:
            raise TargetRefused("target_url")
        if ":" not in host and _HOST_NAME.fullmatch(host) is None:
            raise TargetRefused("target_address" if "%" in host else "target_url")
        if url.port is None or url.port in REFUSED_PORTS:
            raise TargetRefused("target_port")
        if not self._literal_ok(host):
            raise TargetRefused("target_address")

    def check_mail_host(self, host: str, *, port: int) -> None:
        """The same for a mail server. Raises TargetRefused."""
        if ":" not in host and _HOST_NAME.fullmatch(host) is None:
            raise TargetRefused("target_url")
        if port in REFUSED_PORTS - MAIL_PORTS:
            raise TargetRefused("target_port")
        if not self._literal_ok(host):
            raise TargetRefused("target_address")

    def _literal_is_allowed(self, host: str) -> bool:
        """False for a literal address that is refused; names are decided when they are resolved."""
        if "%" in host:  # a zone: link-local by nature
            return False
        try:
            return self.allows(ip_address(host))
        except ValueError:
            # "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1": libc reads them as addresses, and no honest URL has them
            return ":" not in host and _NUMERIC_HOST.fullmatch(host) is None

    def allows(self, address: Address) -> bool:
        """True if a connection to exactly this address may be made."""
        inner = _inner(address)
        if any(address in n or inner in n for n in self._allowed):
            return True
        if isinstance(inner, IPv4Address):
            return not any(inner in n for n in REFUSED_V4)
        return inner in GLOBAL_V6 and not any(inner in n for n in REFUSED_V6)

    def allows_text(self, address: str) -> bool:
        """The same for an address as the resolver or the kernel writes it; a zone, or what is no address, is refused."""
        try:
            return "%" not in address and self.allows(ip_address(address))
        except ValueError:
            return False


def _inner(address: Address) -> Address:
    """The IPv4 address that the kernel or a NAT64 gateway will really connect to, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
