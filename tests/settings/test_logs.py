"""One JSON object a line, whoever logs, and nothing in it that somebody was written to."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SCRIPT = """
import asyncio, logging, warnings
import structlog
from infra.telemetry.logs import configure
configure("INFO")
def refuse(address):
    raise OSError(f"no mail for {address}")
try:
    refuse("fang@example.com")
except OSError:
    logging.getLogger("asyncpg.pool").warning("reset of %s failed", "fang@example.com", exc_info=True)
    structlog.get_logger().exception("ours.failed")
logging.getLogger("httpx").info("GET /u/fang@example.com")
logging.getLogger("library").error("made whole: fang@example.com")
logging.getLogger("odd").warning("too few %s %s", 1)
warnings.warn("fang@example.com is odd")
async def lost():
    asyncio.get_running_loop().call_exception_handler({"message": "gone", "exception": OSError("fang@example.com")})
asyncio.run(lost())
"""


def logged() -> list[dict[str, Any]]:
    """In a process of its own, as logging is one for a whole process."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert "fang" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_what_libraries_log_is_an_object_a_line_without_personal_data() -> None:
    """Caught: warnings of asyncpg's pool came as bare text, with tracebacks of many lines."""
    pool, ours, library, odd, warned, lost = logged()
    assert (pool["event"], pool["logger"], pool["level"]) == ("library.said", "asyncpg.pool", "warning")
    assert (pool["said"], pool["error"]) == ("reset of %s failed", "OSError")
    assert pool["where"][-1].endswith("refuse")
    assert ours["error"] == "OSError"
    assert (library["logger"], "said" in library) == ("library", False)
    assert odd["said"] == "too few %s %s", "a message that cannot be made is logged, too"
    assert warned["logger"] == "py.warnings"
    assert (lost["logger"], lost["error"]) == ("asyncio", "OSError")
    assert {"timestamp", "level", "event"} <= lost.keys()
