"""`python -m cli.up [--once]`: the embedded supervisor. `scripts/run` comes here with signals held back."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    # Imports take a second; a signal in that time waits for its handler instead of breaking off in the middle.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    from cli.up.run import run
    from infra.telemetry.logs import configure

    configure(os.environ.get("TONGDA_LOG_LEVEL", "INFO"))
    parser = argparse.ArgumentParser(prog="scripts/run", description="Start the whole service on this machine.")
    parser.add_argument("--once", action="store_true", help="send one notification, check that it arrived, and stop")
    return asyncio.run(run(once=parser.parse_args().once, ending=ENDING))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is stopped and closed; what native libraries do while the interpreter goes must not change the code.
    os._exit(code)
