"""What child processes do instead of their work. Imports nothing heavy, so that they start at once."""

from __future__ import annotations

import faulthandler
import os
import signal
import time

__all__ = ["closes", "crashes", "exits", "floods", "forks", "leaves", "sleeps", "waits"]


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


def leaves(pipe, *_: object) -> None:
    """Leaves a process with a session of its own, and another that this one has started."""
    if os.fork() == 0:
        os.setsid()
        child = os.fork()
        if child:
            pipe.send((os.getpid(), child))
        time.sleep(120)
    time.sleep(120)


def waits(pipe, *_: object) -> None:
    """Says that it begins, and does nothing else."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    pipe.send(None)
    time.sleep(120)


def floods(pipe, *_: object) -> None:
    """Trains epochs that take no time."""
    pipe.send(None)
    for epoch in range(1, 10**6):
        pipe.send((epoch, 10**6))


def sleeps(*_: object) -> None:
    """Does not even begin."""
    time.sleep(120)


def exits(*_: object) -> None:
    """Dies before it is asked for anything."""
    os._exit(3)


def crashes(pipe, folder, plugins, last_words) -> None:
    """Ends with a fault, and writes down where."""
    faulthandler.enable(last_words.fileno())
    os.abort()
