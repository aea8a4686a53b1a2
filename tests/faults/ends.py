"""What processes do instead of their work; imports nothing, so that one is there at once."""

from __future__ import annotations

import os
import signal
import time

__all__ = ["Silent", "closes", "forks", "sleeps", "waits"]


class Silent:
    """Last words that are none."""

    def __init__(self, file) -> None:
        if file is not None:
            file.close()

    def __reduce__(self):
        return Silent, (None,)

    def read(self) -> str:
        return ""


def closes(*_: object) -> None:
    """Closes all that is open, and goes on."""
    os.setpgrp()
    os.closerange(3, 256)
    time.sleep(120)


def forks(pipe, *_: object) -> None:
    """Dies, and leaves a process that has the pipe open."""
    os.setpgrp()
    if (child := os.fork()) == 0:
        time.sleep(120)
    pipe.send((child, 1))
    os._exit(3)


def waits(pipe, *_: object) -> None:
    """Says that it begins, and does nothing else."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    pipe.send(None)
    time.sleep(120)


def sleeps(*_: object) -> None:
    """Does not even begin."""
    time.sleep(120)
