"""Every time-out, pause and retry count of the supervisor, in one table. Names end in their unit."""

from __future__ import annotations

from typing import Final

# How long a child may take until it is ready. Generous: a small machine unpacks and compiles on the first start.
INITDB_S: Final = 180.0
POSTGRES_READY_S: Final = 180.0  # crash recovery replays up to max_wal_size
TEMPORAL_READY_S: Final = 60.0
MIGRATE_S: Final = 300.0
CHILD_READY_S: Final = 90.0
POLL_S: Final = 0.1
REQUEST_S: Final = 5.0

# How long a child may take to stop before its whole process group is killed.
API_STOP_S: Final = 10.0
WORKER_STOP_S: Final = 15.0  # workers drain what they handed over
SANDBOX_STOP_S: Final = 5.0
TEMPORAL_STOP_S: Final = 10.0  # measured: 3 s
POSTGRES_STOP_S: Final = 30.0  # fast stop writes a checkpoint
STEP_STOP_S: Final = 3.0  # initdb, migrations: safe to kill
KILLED_S: Final = 5.0  # until the kernel has ended a killed group

# A start that lost its port, or found the shared memory of a server that is just ending, is tried again.
START_ATTEMPTS: Final = 5
START_PAUSE_S: Final = 0.5
ORPHAN_S: Final = 40.0  # a PostgreSQL whose supervisor was killed is ending by itself

# The demo.
DEMO_S: Final = 60.0
DEMO_POLL_S: Final = 0.05
OWN_MAIL_S: Final = 10.0  # an operator's mail server may take or refuse the message in this time

# The screen.
BLINK_S: Final = 0.2
LOG_LINES: Final = 15
"""Last lines of a dead child's log that are shown."""
STILL_S: Final = 10.0
"""A log is told so often that something still goes on."""
NOTICE_S: Final = 1.0
"""A child's death is noticed within this time of what it breaks."""
