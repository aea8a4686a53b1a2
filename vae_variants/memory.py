"""How much memory a piece of work takes, and how much there is."""

from __future__ import annotations

import errno
import re
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["allocations", "available", "exhausted", "granted", "installed"]

# what libraries say of it in errors that are of no kind of their own
SAID = ("can't allocate memory", "bad_alloc", "can't start new thread", "out of memory", "STATUS_ALLOC_FAILED")


class Allocations(TorchDispatchMode):
    """Adds up what operations inside give back that is no view of what there was."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not any(returned.alias_info for returned in func._schema.returns):
            self.bytes += sum(a.numel() * a.element_size() for a in tree_leaves(found) if isinstance(a, Tensor))
        return found


def exhausted(error: BaseException) -> bool:
    """Whether an error says that there was no memory left: of this process, of the machine, or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(text in str(error) for text in SAID)
    return said or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def allocations(work: Callable[[], object]) -> int:
    """Bytes of all that `work` makes, were none of it freed on the way: never less than it holds at once, often twice as much."""
    with Allocations() as seen:
        work()
    return seen.bytes


def available(device: torch.device) -> int:
    """Bytes that this process can still have on `device`; of a CPU's memory also no more than its own limit leaves."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    own = [] if limit == resource.RLIM_INFINITY else [limit - kilobytes("/proc/self/status", "VmData") * 1024]
    return max(0, min(kilobytes("/proc/meminfo", "MemAvailable") * 1024 or sys.maxsize, *own, sys.maxsize))


def installed() -> int | None:
    """Bytes of memory that this machine has, or of them what this process is granted; None where it does not say so."""
    there = kilobytes("/proc/meminfo", "MemTotal") * 1024
    return min([there, *granted()]) if there else None


def granted(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes that the control groups of this process allow: its own, which a scheduler or systemd made, and all above it."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    files = [root / "memory.max", root / "memory/memory.limit_in_bytes"]  # of version 2 and 1; in a container its own
    for line in lines:
        _, kinds, path = line.split(":", 2)
        for folder in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents):
            if not kinds:
                files.append(root / folder / "memory.max")
            elif "memory" in kinds.split(","):
                files.append(root / "memory" / folder / "memory.limit_in_bytes")
    found = []
    for file in files:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(file.read_text(encoding="ascii")))
    return found


def kilobytes(path: str, name: str) -> int:
    """What Linux says under that name; 0 elsewhere."""
    try:
        return int(re.findall(rf"^{name}:\s*(\d+) kB$", Path(path).read_text(encoding="ascii"), re.MULTILINE)[0])
    except (OSError, IndexError):
        return 0
