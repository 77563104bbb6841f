"""What is written: headers and methods as they were given, or nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.channels.http_calls import client, post
from tests.channels.lean_http import lean_http


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nX-Evil: 1"), ("X-A", "b\nc"), ("X-A", "b\rc"), ("X-A", "b\0c"), ("X-A", "\x7f"), ("X-A", "\x0b"),
        ("X-A", "\ud800"), ("X A", "b"), ("X-A: b\r\nX-Evil", "1"), ("X-A:", "b"), ("", "b"), ("标题", "b"), ("X-A\n", "b"),
        ("Host", "other.example"), ("content-length", "0"), ("Transfer-Encoding", "chunked"), ("Connection", "close"),
        ("Upgrade", "h2c"), ("Expect", "100-continue"),
    ],
)  # fmt: skip
def test_a_header_that_would_make_another_request_is_a_defect(runner: asyncio.Runner, name: str, value: str) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            with pytest.raises(ValueError, match=r"."):
                await http.request("POST", lean.url, headers={name: value}, body=b"", timeout_s=2)
            assert lean.connections == 0

    runner.run(check())


@pytest.mark.parametrize("method", ["", "post", "CONNECT", "GET /evil HTTP/1.1\r\nX:", "GET ", "ПОСТ"])
def test_a_method_that_is_none_is_a_defect(runner: asyncio.Runner, method: str) -> None:
    async def check() -> None:
        async with client() as http:
            with pytest.raises(ValueError, match="method"):
                await http.request(method, "http://127.0.0.1:8080/", headers={}, body=b"", timeout_s=2)

    runner.run(check())


def test_header_values_are_written_as_they_are(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            values = {"X-Tab": "a\tb", "X-Name": "通达", "X-Empty": "", "X-Soft": "a\u00adb"}
            await http.request("POST", lean.url, headers=values, body=b"", timeout_s=2)
            await http.request("DELETE", lean.url, headers={}, body=b"", timeout_s=2)
            (first, _), (second, _) = lean.requests
            for name, value in values.items():
                assert f"\r\n{name}: {value}\r\n".encode() in first
            assert b"\r\nContent-Length: 0\r\n" in first
            assert b"content-length" not in second.lower()

    runner.run(check())


def test_head_has_an_answer_without_a_body(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            lean.then("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
            reply = await http.request("HEAD", lean.url, headers={}, body=b"", timeout_s=2)
            assert (reply.headers["content-length"], reply.body) == ("500", b"")
            assert (await post(http, lean.url)).status == 200

    runner.run(check())
