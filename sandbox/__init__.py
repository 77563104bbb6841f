"""Strict local stand-ins of every provider, for demo and tests: they refuse what the real ones refuse.

`python -m sandbox` runs them; tests use `async with sandbox.running() as box:`. Imports nothing of the project.
"""

from sandbox.box import Box, running
from sandbox.record import Item, Record, Seen, Signature, Verdict
from sandbox.settings import BadSetting, Settings

__all__ = ["BadSetting", "Box", "Item", "Record", "Seen", "Settings", "Signature", "Verdict", "running"]
