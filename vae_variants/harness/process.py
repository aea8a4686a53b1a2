"""Settings of a process that make training faster, and what the process does when a signal asks it to stop."""

import ctypes
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from typing import NoReturn

import torch

THRESHOLD, TRIM, PAD = (-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)  # glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, in bytes


@lru_cache(maxsize=1)
def prepare() -> None:
    """Sets up a process. Call it before the first tensor operation, because existing threads keep their settings.

    Numbers below the smallest normal one (1.2e-38 in float32) become 0: Adam's averages of a zero gradient decay to them within some
    800 steps, and operations on them are many times slower. With glibc, freed memory is kept for the next step instead of being
    returned to the system, which would hand it out again page by page.
    """
    torch.set_flush_denormal(True)
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for setting in (THRESHOLD, TRIM, PAD):
            mallopt(*setting)


def stoppable() -> None:
    """Handles SIGTERM and SIGHUP, from a scheduler or a closed terminal, like Ctrl-C; Ctrl-Z also stops child processes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup SIGHUP is ignored
            signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
        signal.signal(signal.SIGTSTP, suspend)


def suspend(*_: object) -> None:
    """Stops the child processes, each a process group of its own, and this process, until it is resumed."""
    children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for what in (signal.SIGSTOP, signal.SIGCONT):
        for pid in children:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, what)
        if what == signal.SIGSTOP:
            os.kill(os.getpid(), what)


def interrupt(number: int, _: object) -> NoReturn:
    """Raises KeyboardInterrupt, once."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
