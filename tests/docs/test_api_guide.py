"""docs/api-guide.md, followed from top to bottom against a running service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.docs.markdown import ROOT, blocks
from tests.up.running import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GUIDE = ROOT / "docs/api-guide.md"
SAID = (
    '"lane":"high"',
    "idempotent-replay: true",
    '"accepted":1,"rejected":1',
    '"reason":"requested"',
    '"token_hint":"fcm-to***"',
    '"inbox_unread":0',
    '"format":"tongda.user/1"',
    '"progress":"under_way"',
    '"published_version":1',
    "Your order <b>A-77</b> has left.",
    '"code":"not_carried"',
    '"why":"exact","found":"absent"',
    '"code":"made"',
    '"resend_after":"',
    '"attempts_left":4',
    "retry-after: ",
    '"status":"collected"',
    '"type":"attempt"',
    '"result":"cancelled"',
    '"result":"edited"',
    '"result":"recalled"',
    '"dry_run":true',
    '"result":"expedited"',
    '"code":"handed_off"',
    '"deleted":true',
    "event: unread",
    '"writeOnly":true',
    '"secrets":["password"]',
    '"state":"paused"',
    '"rate_per_second":20.0',
    '"workers":[',
    '"code":"unknown_field"',
    '"pointer":"/to/email"',
)
FLAGS = ["--no-sandbox", "--disable-features=LocalNetworkAccessChecks"]
"""The page comes from nowhere, which a browser would not let reach a service on this machine."""
TOKEN = """
made = api.post("/v1/users/u-1024/tokens")
print(made.json()["token"])
"""
SEND = """
api.post("/v1/notifications", json={
    "to": {"user": "u-1024"}, "channels": ["inapp"], "content": {"title": "Live", "text": "seen at once"},
}).raise_for_status()
"""


@pytest.fixture(scope="module")
def service() -> Iterator[dict[str, str]]:
    """Environment in which the guide's commands find a service of their own."""
    with tempfile.TemporaryDirectory(prefix="tongda-guide-") as folder:
        Path(folder).chmod(0o711)
        instance = Instance(Path(folder) / "home", arguments=())
        try:
            facts = instance.until_ready()
            yield {**os.environ, "TONGDA_API_URL": facts["api_url"], "TONGDA_API_KEY_FILE": facts["key_file"]}
        finally:
            instance.signal(signal.SIGTERM)
            instance.wait()


def _run(command: list[str], text: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, input=text, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_shell_and_python_blocks_do_what_they_say(service: dict[str, str]) -> None:
    said = _run(["bash", "-eu"], "\n".join(blocks(GUIDE, "sh")), service)
    for wanted in SAID:
        assert wanted.lower() in said.lower(), wanted
    shown = _run([sys.executable, "-"], "\n".join(blocks(GUIDE, "python")), service)
    for wanted in (
        "100 0",
        "erased under_way 1",
        "delivered None",
        "test: True sent",
        "otp_wrong",
        "finished",
        "True",
        "422 recipient_unknown",
    ):
        assert wanted in shown, shown

    _see_it_live(service)


def _see_it_live(service: dict[str, str]) -> None:
    """The browser's snippet, in a browser where there is one: it lists what is there and shows what comes."""
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("the browser's part of the guide needs Chromium")
    first = blocks(GUIDE, "python")[0]
    token = _run([sys.executable, "-"], first + TOKEN, service).strip()
    [page_source] = blocks(GUIDE, "html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = browser.new_page()
            page.add_init_script(f"window.TONGDA_API = {service['TONGDA_API_URL']!r}; window.TONGDA_TOKEN = {token!r}")
            page.route("http://127.0.0.1:9/", lambda route: route.fulfill(body=page_source, content_type="text/html"))
            page.goto("http://127.0.0.1:9/")
            expect(page.locator("#inbox")).to_contain_text("A-77")
            _run([sys.executable, "-"], first + SEND, service)
            expect(page.locator("#inbox")).to_contain_text("seen at once")
        finally:
            browser.close()
