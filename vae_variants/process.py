"""Settings of a whole process that training gains from, none of which changes a number by more than the rounding of the smallest.

And what it does when it is told to end.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from typing import NoReturn

import torch

__all__ = ["interrupt", "prepare", "stoppable"]

THRESHOLD, TRIM, PAD = (-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)  # glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, and bytes


@lru_cache(maxsize=1)
def prepare() -> None:
    """To be called before the first tensor operation: threads that are there already stay as they are.

    Numbers below the smallest normal one (1.2e-38 in float32) become 0: Adam's averages of a gradient that has ceased sink there within
    some 800 steps, where each operation on them takes many times as long. And where memory is glibc's, what a step frees is kept for the
    next instead of being given back to the system, which would hand it out again page by page.
    """
    torch.set_flush_denormal(True)
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for setting in (THRESHOLD, TRIM, PAD):
            mallopt(*setting)


def stoppable() -> None:
    """Being told to end, by a scheduler or a terminal that is closed, is to this process what Ctrl-C is."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has SIGHUP ignored
            signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
        signal.signal(signal.SIGTSTP, suspend)


def suspend(*_: object) -> None:
    """A handler by which Ctrl-Z stops what this process has started as well, each in a group of its own, until it is told to go on."""
    children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for what in (signal.SIGSTOP, signal.SIGCONT):
        for pid in children:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, what)
        if what == signal.SIGSTOP:
            os.kill(os.getpid(), what)


def interrupt(number: int, _: object) -> NoReturn:
    """A handler that raises KeyboardInterrupt, once."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
