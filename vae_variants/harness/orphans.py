"""Ends what a run has started and left, also processes with a session of their own, and also after the driver was killed.

Each worker has an environment variable of its own, which all its descendants inherit. This file is also a program: it waits until its
standard input is closed, which happens however the driver ends. Linux only; elsewhere nothing is found.
"""

import atexit
import os
import signal
import subprocess
import sys
from functools import lru_cache

MARK = "VAE_VARIANTS_WORKER"
LOOKS = 3  # a process may fork while others are ended


def marked(mark: str) -> list[int]:
    """Processes of this user whose environment at their start had a mark that begins so."""
    found, wanted = [], f"\0{MARK}={mark}".encode()
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdecimal() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in b"\0" + file.read():
                        found.append(int(name))
            except OSError:
                continue
    return found


def end_marked(mark: str) -> None:
    """Kills them."""
    for _ in range(LOOKS):
        for pid in marked(mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


@lru_cache(maxsize=1)
def driver(pid: int) -> str:
    """The beginning of the marks of this process's workers, whose descendants a program ends once this process is gone."""
    mark = f"{pid}-{os.urandom(8).hex()}"
    command = [sys.executable, "-I", "-S", __file__, mark]
    watch = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    assert watch.stdin is not None
    atexit.register(watch.wait)
    atexit.register(watch.stdin.close)  # called first
    return mark


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(sys.argv[1])
