"""`python -m sandbox`: run until SIGTERM or SIGINT. Exit code 98: a port is taken; 2: a setting is wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys

import uvloop

from sandbox.box import serve
from sandbox.settings import BadSetting, Settings

PORT_TAKEN = 98
"""EADDRINUSE on Linux; the runner looks for it to try another port."""
BAD_SETTING = 2


async def run(settings: Settings) -> int:
    """Serve until told to stop; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serve(settings) as box:
            print(f"sandbox: SMTP {box.host}:{box.smtp_port}, HTTP {box.http_url}", flush=True)
            await stop.wait()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            print(f"sandbox: port taken: {error.strerror}", file=sys.stderr)
            return PORT_TAKEN
        raise
    return 0


def main() -> int:
    try:
        settings = Settings.from_env(os.environ)
    except BadSetting as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return BAD_SETTING
    return uvloop.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
