"""The pages without a browser: languages, what they say when Tongda is not there, and their backend."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import sandbox
from sandbox.behaviours import BEHAVIOURS
from sandbox.words import accepted
from tests.sandbox.fake_api import KEY, FakeApi, fake_api
from tests.sandbox.mails import mail, new_delivery, transferred

DOCS = Path(__file__).parents[2] / "docs" / "sandbox.md"


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as api:
        yield api


@pytest.fixture
async def connected(api: FakeApi, tmp_path: Path) -> AsyncIterator[sandbox.Box]:
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    async with sandbox.running(api_url=api.url, key_file=key_file) as box:
        yield box


async def page(http: aiohttp.ClientSession, url: str, *, language: str = "en") -> str:
    async with http.get(url, headers={"Accept-Language": language}) as response:
        assert response.status == 200
        return await response.text()


async def test_both_languages_and_the_switch(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    assert "Nothing has arrived yet" in await page(http, f"{box.http_url}/")
    assert "还没有收到消息" in await page(http, f"{box.http_url}/", language="zh-CN,zh;q=0.9,en;q=0.8")
    assert "还没有收到消息" in await page(http, f"{box.http_url}/?lang=zh")
    async with http.get(f"{box.http_url}/", headers={"Cookie": "lang=zh"}) as response:
        assert "还没有收到消息" in await response.text()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("fr,zh-TW;q=0.5", "zh"),
        ("zh;q=0.2,en", "en"),
        ("de", "en"),
        ("zh;q=x", "en"),
        ("*", "en"),
    ],
)
def test_accept_language(header: str, language: str) -> None:
    assert accepted(header) == language


async def test_table_on_page_and_in_docs(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    docs = DOCS.read_text()
    for language in ("en", "zh"):
        text = await page(http, f"{box.http_url}/?lang={language}")
        for word, behaviour in BEHAVIOURS.items():
            assert f'data-word="{word}"' in text
            assert getattr(behaviour, language) in text
            assert f"| `{word}` |" in docs


async def test_html_of_a_mail_is_only_a_sandboxed_frames_source(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    content = mail(html=False).replace(b"text/plain", b"text/html").replace(b"base64", b"7bit")
    head = content.partition(b"\r\n\r\n")[0]
    await transferred(box, head + b"\r\n\r\n<script>alert(1)</script>\"'></iframe>\r\n", to=b"<b>@x.example")
    await transferred(box, head + b"\r\n\r\n<script>alert(1)</script>\"'></iframe>\r\n")
    item = box.record.find()[0][0]
    async with http.get(f"{box.http_url}/m/{item.id}") as response:
        text = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in text
    assert "default-src 'none'; script-src 'self'" in policy
    async with http.get(f"{box.http_url}/m/none") as response:
        assert response.status == 404


async def test_nothing_is_loaded_from_elsewhere(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    for path in ("/", "/inbox", "/static/page.css", "/static/common.js", "/static/inbox.js", "/static/messages.js"):
        text = (await page(http, box.http_url + path)).replace("http://www.w3.org/2000/svg", "").replace(box.http_url, "")
        assert re.findall(r"""(?:https?:|["'(])//""", text) == []


async def test_filter_and_more(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    for subject in ("apples", "pears", "plums"):
        await transferred(box, mail(subject=subject))
    rows = await page(http, f"{box.http_url}/rows?q=pears%20demo.example")
    assert ("pears" in rows, "apples" in rows) == (True, False)
    assert "Show more (2)" in await page(http, f"{box.http_url}/?limit=1")


async def test_says_what_to_set(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    for path in ("/", "/inbox"):
        text = await page(http, box.http_url + path)
        assert "TONGDA_API_URL" in text
        assert "TONGDA_KEY_FILE" in text
    async with http.get(f"{box.http_url}/inbox/items?user=u-demo") as response:
        assert response.status == 503


async def test_key_file_may_come_late(http: aiohttp.ClientSession, api: FakeApi, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    async with sandbox.running(api_url=api.url, key_file=key_file) as box:
        assert "TONGDA_KEY_FILE" in await page(http, f"{box.http_url}/inbox")
        key_file.write_text(KEY)
        assert "TONGDA_KEY_FILE" not in await page(http, f"{box.http_url}/inbox")


@pytest.mark.parametrize(
    ("channel", "recipient", "to"),
    [
        ("email", "fang@demo.example", {"email": "fang@demo.example"}),
        ("inapp", "u-demo", {"user": "u-demo"}),
        ("webhook", "http://h/hook/ok", {"channel": "webhook", "address": "http://h/hook/ok"}),
    ],
)
async def test_send_form(
    channel: str, recipient: str, to: dict[str, str], http: aiohttp.ClientSession, api: FakeApi, connected: sandbox.Box
) -> None:
    form = {"channel": channel, "recipient": recipient, "title": "hello", "text": "world"}
    async with http.post(f"{connected.http_url}/send", json=form) as response:
        assert response.status == 200
        sent = await response.json()
    assert api.sent == [{"to": to, "channels": [channel], "content": {"title": "hello", "text": "world"}}]
    async with http.get(f"{connected.http_url}/send/{sent['id']}") as response:
        standing = await response.json()
    assert (standing["status"], standing["workflow"]) == ("delivered", "http://ui.test/2")


async def test_problems_of_the_api_reach_the_page(http: aiohttp.ClientSession, connected: sandbox.Box) -> None:
    form = {"channel": "email", "recipient": "x", "title": "refuse", "text": ""}
    async with http.post(f"{connected.http_url}/send", json=form) as response:
        assert (response.status, await response.json()) == (422, {"problem": "/content/title: not liked"})


async def test_foreign_sites_cannot_spend_the_key(
    http: aiohttp.ClientSession, api: FakeApi, connected: sandbox.Box
) -> None:
    """What a browser posts across sites without asking first is refused."""
    for path in ("/send", "/inbox/stream", "/inbox/mark"):
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            headers = {"Content-Type": content_type}
            async with http.post(connected.http_url + path, data=b'{"user": "u-demo"}', headers=headers) as response:
                assert response.status == 415
    assert not api.sent
    assert not api.tickets


async def test_inbox_backend(http: aiohttp.ClientSession, api: FakeApi, connected: sandbox.Box) -> None:
    item = await api.deliver("hello", "world")
    async with http.post(f"{connected.http_url}/inbox/stream", json={"user": "u-demo"}) as response:
        url = (await response.json())["url"]
    assert url == f"{api.url}/v1/inbox/stream?ticket={next(iter(api.tickets))}"
    for mark, field in (("read", "read_at"), ("archive", "archived_at")):
        body = {"user": "u-demo", "item": item, "mark": mark}
        async with http.post(f"{connected.http_url}/inbox/mark", json=body) as response:
            assert response.status == 200
        assert api.items[0][field]
    body = {"user": "u-demo", "item": new_delivery(), "mark": "delete"}
    async with http.post(f"{connected.http_url}/inbox/mark", json=body) as response:
        assert response.status == 400
    assert KEY not in await page(http, f"{connected.http_url}/inbox")
