"""The pages in a real browser. Skipped where no Chromium is found; nothing is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

import sandbox
from tests.sandbox.fake_api import KEY, FakeApi, fake_api
from tests.sandbox.mails import mail, transferred

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no Chromium found: one of {', '.join(NAMES)} on the PATH is needed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that fails the test when its scripts fail."""
    context = await browser.new_context(locale="en-US")
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as api:
        yield api


@pytest.fixture
async def connected(api: FakeApi, tmp_path: Path) -> AsyncIterator[sandbox.Box]:
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    async with sandbox.running(api_url=api.url, key_file=key_file) as box:
        yield box


async def test_messages_arrive_live_and_open(page: Page, box: sandbox.Box) -> None:
    await page.goto(box.http_url)
    await expect(page.get_by_text("Nothing has arrived yet")).to_be_visible()
    await transferred(box, mail())
    await transferred(box, mail(to="full@demo.example"), to=b"full@demo.example")
    await expect(page.locator("#rows li")).to_have_count(2)
    await expect(page.locator("#rows .chip").first).to_have_text("refused")
    await page.fill("input[type=search]", "fang@")
    await expect(page.locator("#rows li")).to_have_count(1)
    await page.click("#rows .message")
    await expect(page.locator("h1")).to_have_text("订单 A-77 已发货")
    await expect(page.frame_locator("iframe.mail").locator("h1")).to_have_text("您的订单 A-77 已发货")
    await page.click("label[for=tab-source]")
    await expect(page.locator("[data-tab=source] pre")).to_contain_text("Message-ID")
    await expect(page.locator("iframe.mail")).to_be_hidden()


@pytest.fixture
async def tracker() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that a mail would like to call, and what it was asked for."""
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{what}", note)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


HOSTILE = """From: a@tongda.example\r
Date: Mon, 23 Nov 2026 10:00:00 +0800\r
Message-ID: <1@tongda.example>\r
Subject: <img src=x onerror=alert(1)>\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<p>shown</p><script>top.location='TRACKER/script'</script>\r
<img src='TRACKER/img' onerror="top.document.title='got you'"><iframe src='TRACKER/frame'></iframe>\r
<link rel=stylesheet href='TRACKER/css'><meta http-equiv=refresh content='0;url=TRACKER/refresh'>\r
<style>p{background:url(TRACKER/background)}@font-face{font-family:f;src:url(TRACKER/font)}p{font-family:f}</style>\r
<form action='TRACKER/form'><button>go</button></form>\r
"""


async def test_a_hostile_mail_stays_inert(page: Page, box: sandbox.Box, tracker: tuple[str, list[str]]) -> None:
    """No script runs, nothing is fetched, no form is sent, and the page stays where it is."""
    remote, asked = tracker
    assert (await transferred(box, HOSTILE.replace("TRACKER", remote).encode())).startswith("250")
    url = f"{box.http_url}/m/{box.record.find()[0][0].id}"
    await page.goto(url)
    frame = page.frame_locator("iframe.mail")
    await expect(frame.get_by_text("shown")).to_be_visible()
    await frame.get_by_text("go").click()
    await page.wait_for_timeout(500)
    assert page.url == url
    assert "got you" not in await page.title()
    assert asked == []


async def test_a_word_fills_the_form_and_it_is_sent(page: Page, api: FakeApi, connected: sandbox.Box) -> None:
    await page.goto(connected.http_url)
    await page.click("button.word[data-word=greylist]")
    await expect(page.locator("[name=recipient]")).to_have_value("greylist@demo.example")
    await page.select_option("[name=channel]", "webhook")
    await page.click("button.word[data-word=drop]")
    await expect(page.locator("[name=recipient]")).to_have_value(f"{connected.http_url}/hook/drop")
    await page.click("#send button")
    await expect(page.locator("#outcome")).to_have_text("delivered")
    assert api.sent[0]["to"] == {"channel": "webhook", "address": f"{connected.http_url}/hook/drop"}
    await expect(page.locator("#workflow")).to_have_attribute("href", "http://ui.test/2")


async def test_an_inbox_of_nobody_says_so_and_does_not_try_for_ever(page: Page, connected: sandbox.Box) -> None:
    """Caught: it said that the connection was lost, and asked again and again."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{connected.http_url}/inbox?user=u-nobody")
    await expect(page.locator("#state")).to_have_text("no such user")
    await expect(page.locator("#problem")).to_contain_text("POST /v1/users")
    await page.wait_for_timeout(1200)  # the first pause of a lost connection is 0.5 s
    assert sum(url.endswith("/inbox/stream") for url in asked) == 1


async def test_live_inbox(page: Page, api: FakeApi, connected: sandbox.Box) -> None:
    await api.deliver("first", "was there before", url="javascript:alert(1)")
    await page.goto(f"{connected.http_url}/inbox")
    await expect(page.locator("#state")).to_have_text("live")
    await expect(page.locator(".item")).to_have_count(1)
    await expect(page.locator(".item a")).to_have_count(0)  # only http and https are links
    await api.deliver("<b>second</b>", "comes live", url="https://tongda.example/x")
    await expect(page.locator(".item strong").first).to_have_text("<b>second</b>")
    await expect(page.locator(".toast")).to_contain_text("comes live")
    await expect(page.locator("#unread")).to_have_text("2")
    await page.get_by_role("button", name="Mark read").first.click()
    await expect(page.locator("#unread")).to_have_text("1")
    await page.get_by_role("button", name="Archive").first.click()
    await expect(page.locator(".item")).to_have_count(1)


async def test_live_inbox_follows_other_devices_and_resync(page: Page, api: FakeApi, connected: sandbox.Box) -> None:
    await page.goto(f"{connected.http_url}/inbox")
    await expect(page.locator("#state")).to_have_text("live")
    item = await api.deliver("one", "read elsewhere")
    await expect(page.locator("#unread")).to_have_text("1")
    await api.change(item, "read")
    await expect(page.locator("#unread")).to_be_hidden()
    await expect(page.get_by_role("button", name="Mark read")).to_have_count(0)
    await api.change(item, "archive")
    await expect(page.locator(".item")).to_have_count(0)
    api.streams, streams = [], api.streams
    await api.deliver("two", "left out of the stream")
    api.streams = streams
    api.resync()
    await expect(page.locator(".item")).to_have_count(1)
    await expect(page.locator("#unread")).to_have_text("1")


async def test_live_inbox_comes_back_with_a_new_ticket(page: Page, api: FakeApi, connected: sandbox.Box) -> None:
    await page.goto(f"{connected.http_url}/inbox")
    await expect(page.locator("#state")).to_have_text("live")
    await api.deliver("one", "before the cut")
    await expect(page.locator(".item")).to_have_count(1)
    api.cut_streams()
    await api.deliver("two", "during the cut")
    await expect(page.locator(".item")).to_have_count(2)
    await expect(page.locator("#state")).to_have_text("live")
    assert api.resumed[0] is None
    assert api.resumed[1]
