"""`python -m cli.tongda`, which `scripts/tongda` calls."""

from __future__ import annotations

from cli.tongda.app import main

if __name__ == "__main__":
    main()
