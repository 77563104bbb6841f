"""`python -m cli` is `python -m cli.tongda`."""

from __future__ import annotations

from cli.tongda.app import main

if __name__ == "__main__":
    main()
