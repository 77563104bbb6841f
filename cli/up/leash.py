"""Becomes another program that cannot outlive its parent. Standard library only; started as
`python -I -S leash.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT ...]` (UID -1: stay who we are).

The kernel sends SIGNAL to the program when the supervisor ends, however it ends, `kill -9` included. A wrapper rather than
`preexec_fn`, because nothing but exec is safe between fork and exec of a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LEFT_ALONE = 3  # exit code: the parent was gone before we were tied to it


def main(arguments: list[str]) -> None:
    parent, signal_number, uid, gid = (int(a) for a in arguments[:4])
    program = arguments[4:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, which clears it (prctl(2)).
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(_LEFT_ALONE)
    os.execvp(program[0], program)  # noqa: S606 - becoming the given program is what this file is for


if __name__ == "__main__":
    main(sys.argv[1:])
