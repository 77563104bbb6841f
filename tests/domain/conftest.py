"""Properties without a deadline: the machine is shared, and a slow example is not a wrong one."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tongda", deadline=None)
settings.load_profile("tongda")
