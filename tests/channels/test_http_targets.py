"""Which addresses are never connected to, by whatever name, and what an error tells of them: nothing."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import infra.http
from channels.base import NotSent, TargetRefused, TransportError
from infra.http import HttpClient
from tests.channels.certificates import Certificate
from tests.channels.http_calls import LOOPBACK, client, post
from tests.channels.lean_http import OK, LeanHttp, lean_http


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "http://[::1]:{}/", "http://localhost:{}/", "http://127.1:{}/"])
async def test_a_private_target_is_never_connected_to(web: LeanHttp, url: str) -> None:
    http = HttpClient(connections=4)
    with pytest.raises(TargetRefused):
        await post(http, url.format(web.port))
    assert web.connections == 0
    await http.close()


async def test_a_name_is_judged_by_the_address_that_is_connected_to(web: LeanHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: public when it is looked up first, loopback the next time. There is one look-up, and it is used."""
    answers = iter([["203.0.114.1", "127.0.0.1"], ["127.0.0.1"], ["::1", "10.0.0.1"]])
    asked: list[str] = []

    def lookup(host: str, port: int, family: int) -> list[Any]:
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in next(answers)
        ]

    reached: list[str] = []

    async def start_connection(*, addr_infos: list[Any], **_: object) -> socket.socket:
        reached.extend(info[4][0] for info in addr_infos)
        raise ConnectionRefusedError

    monkeypatch.setattr(infra.http, "_lookup_blocking", lookup)
    monkeypatch.setattr("aiohappyeyeballs.start_connection", start_connection)
    http = HttpClient(connections=4)
    with pytest.raises(NotSent):
        await post(http, f"http://first.example:{web.port}/")
    for name in ("second", "third"):
        with pytest.raises(TargetRefused, match="target_address"):
            await post(http, f"http://{name}.example:{web.port}/")
    assert reached == ["203.0.114.1"]
    assert len(asked) == 3
    await http.close()


async def test_the_last_gate_is_the_socket_itself(web: LeanHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a look-up to slip past the guard, the socket would still not be made."""
    monkeypatch.setattr("infra.ssrf.SsrfGuard.check_url", lambda *_: None)
    http = HttpClient(connections=4)
    with pytest.raises(NotSent, match="http_connect_failed"):
        await post(http, web.url)
    assert web.connections == 0
    await http.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "http://[::1",
        "http://a b/",
        "http://x:y/",
        "ftp://example.com/",
        "\0",
        "http://%6c%6f/",
        "http://a\r\nb/",
        "http://a/ HTTP/1.1",
        "http://a/x\ty",
        "http://a/x\r\nX-Evil: 1",
    ],
)
async def test_bad_urls_are_refused(url: str) -> None:
    async with client() as http:
        with pytest.raises(TargetRefused):
            await post(http, url)


async def test_tls_is_verified(certificate: Certificate) -> None:
    async with lean_http(certificate.server()) as lean:
        url = f"https://localhost:{lean.port}/"
        async with lean_http() as plain:
            for tls, target, failure in (
                (certificate.client(), url, None),
                (None, url, "http_tls_failed"),  # an authority that we do not know
                (certificate.client(), f"https://127.0.0.1:{lean.port}/", "http_tls_failed"),  # another name
                (certificate.client(), f"https://localhost:{plain.port}/", "http_"),  # no TLS there at all
            ):
                http = HttpClient(connections=1, allow_networks=LOOPBACK, tls=tls)
                if failure is None:
                    assert (await post(http, target)).status == 200
                    assert (await post(http, target)).status == 200
                else:
                    with pytest.raises(NotSent, match=failure):
                        await post(http, target, timeout_s=1)
                await http.close()
            assert plain.requests == []
        assert (len(lean.requests), OK[:12]) == (2, "HTTP/1.1 200")


async def test_failures_name_no_host() -> None:
    async with client() as http:
        for url in ("http://127.0.0.1:2/secret", "http://secret.invalid/", "http://10.1.1.1/secret"):
            with pytest.raises(TransportError) as raised:
                await post(http, url, timeout_s=3)
            shown = repr(raised.value) + str(raised.value)
            assert not any(word in shown for word in ("secret", "127.0", "10.1"))
            assert raised.value.__cause__ is None
            assert raised.value.__suppress_context__ or raised.value.__context__ is None
