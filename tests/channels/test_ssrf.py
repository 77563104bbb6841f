"""Which targets an outgoing call may have."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from channels.base import TargetRefused
from infra.ssrf import NAT64, REFUSED_V4, SsrfGuard

GUARD = SsrfGuard()
LOOPBACK = SsrfGuard(allow_networks=("127.0.0.0/8", "::1/128"))

private_v4 = st.sampled_from(REFUSED_V4).flatmap(lambda network: st.ip_addresses(v=4, network=network))
any_v4 = st.ip_addresses(v=4)
any_v6 = st.ip_addresses(v=6)


def refused(url: str, guard: SsrfGuard = GUARD) -> str:
    """The code of the refusal, "" if the URL passes."""
    try:
        guard.check_url(URL(url))
    except TargetRefused as error:
        return error.code
    except ValueError:
        return "target_url"
    return ""


def spellings(address: IPv4Address) -> list[str]:
    """An IPv4 address in every notation that inet_aton reads."""
    n = int(address)
    a, b, c, d = address.packed
    return [
        str(address),
        str(n),
        hex(n),
        f"0{n:o}",
        f"{a}.{n & 0xFFFFFF}",
        f"{a}.{b}.{n & 0xFFFF}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:#x}.{n & 0xFFFFFF}",
        f"{address}.",
    ]


@given(private_v4)
def test_no_notation_of_a_private_address_passes(address: IPv4Address) -> None:
    for host in spellings(address):
        assert refused(f"http://{host}/"), host


@given(any_v4)
def test_public_addresses_pass_in_the_usual_notation_only(address: IPv4Address) -> None:
    public = not any(address in network for network in REFUSED_V4)
    assert (refused(f"https://{address}/hook") == "") == public
    assert public or not GUARD.allows(address)
    if not address.is_global:  # the standard library's opinion, wherever it is the stricter one
        assert not GUARD.allows(address)


@given(any_v4)
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_what_it_is(address: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{address}")
    translated = IPv6Address(int(NAT64.network_address) + int(address))
    assert GUARD.allows(mapped) == GUARD.allows(translated) == GUARD.allows(address)
    for outer in (mapped, translated):
        assert (refused(f"http://[{outer}]/") == "") == GUARD.allows(address)
    six_to_four = IPv6Address((0x2002 << 112) + (int(address) << 80))
    teredo = IPv6Address((0x20010000 << 96) + (int(address) ^ 0xFFFFFFFF))
    compatible = IPv6Address(int(address))
    assert not any(GUARD.allows(a) for a in (six_to_four, teredo, compatible))


@given(any_v6)
def test_ipv6_outside_global_unicast_is_refused(address: IPv6Address) -> None:
    inside = address in ip_network("2000::/3") or address in NAT64 or address.ipv4_mapped is not None
    assert inside or not GUARD.allows(address)
    if address in ip_network("2000::/3") and not address.is_global:
        assert not GUARD.allows(address)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "127.0.0.1", "127.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
        "100.100.100.200", "169.254.169.254", "168.63.129.16", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1",
        "255.255.255.255", "240.0.0.1", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]",
        "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[fec0::1]", "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]", "[5f00::1]",
        "①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "0x7f.1", "0177.1", "127.0.0.1.",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(host: str) -> None:
    assert refused(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "[2606:4700::1111]", "[2400:3200::1]",
     "[64:ff9b::808:808]", "[::ffff:8.8.8.8]", "example.com", "例子.测试", "xn--fsqu00a.xn--0zwm56d", "a1.b2"],
)  # fmt: skip
def test_addresses_and_names_that_pass(host: str) -> None:
    assert refused(f"https://{host}/") == ""


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.com/", "target_url"),
        ("file:///etc/passwd", "target_url"),
        ("gopher://example.com/", "target_url"),
        ("//example.com/", "target_url"),
        ("example.com/hook", "target_url"),
        ("", "target_url"),
        ("http://", "target_url"),
        ("http:///x", "target_url"),
        ("http://user@example.com/", "target_url"),
        ("http://user:secret@example.com/", "target_url"),
        ("http://:secret@example.com/", "target_url"),
        ("http://@example.com/", ""),  # nothing before the @ is nothing
        ("http://8.8.8.8@127.0.0.1/", "target_url"),
        ("http://example.com:25/", "target_port"),
        ("http://example.com:6379/", "target_port"),
        ("http://example.com:0/", "target_port"),
        ("http://example.com:99999/", "target_url"),
        ("http://example.com:8080/", ""),
        ("https://example.com:8443/a?b=c#d", ""),
    ],
)
def test_urls(url: str, code: str) -> None:
    assert refused(url) == code


def test_allowed_networks_open_addresses_and_no_ports() -> None:
    assert refused("http://127.0.0.1:8025/", LOOPBACK) == ""
    assert refused("http://[::1]:8025/", LOOPBACK) == ""
    assert refused("http://[::ffff:127.0.0.1]:8025/", LOOPBACK) == ""
    assert refused("http://127.0.0.1:25/", LOOPBACK) == "target_port"
    assert refused("http://10.0.0.1/", LOOPBACK) == "target_address"
    assert refused("http://127.1/", LOOPBACK) == "target_address"
    with pytest.raises(ValueError, match="not-a-network"):
        SsrfGuard(allow_networks=("not-a-network",))


@given(st.text(st.sampled_from("0123456789abcdefx."), min_size=1, max_size=20))
def test_whatever_libc_reads_as_an_address_is_judged_as_one(host: str) -> None:
    try:
        address = ip_address(socket.inet_aton(host))
    except OSError:
        return
    if not GUARD.allows(address):
        assert refused(f"http://{host}/"), host


@given(any_v4 | any_v6)
def test_what_the_resolver_writes_is_judged_the_same(address: IPv4Address | IPv6Address) -> None:
    assert GUARD.allows_text(str(address)) == GUARD.allows(address)
    assert not GUARD.allows_text(f"{address}%eth0")
    assert not GUARD.allows_text("example.com")
