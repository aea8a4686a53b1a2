"""How much memory a computation takes, and how much there is."""

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

# messages of libraries that raise a plain RuntimeError
SAID = ("can't allocate memory", "bad_alloc", "can't start new thread", "out of memory", "STATUS_ALLOC_FAILED")


class Allocations(TorchDispatchMode):
    """Adds up the sizes of new tensors that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not any(returned.alias_info for returned in func._schema.returns):
            self.bytes += sum(a.numel() * a.element_size() for a in tree_leaves(found) if isinstance(a, Tensor))
        return found


def exhausted(error: BaseException) -> bool:
    """Whether an error means that memory ran out: of this process, of the machine, or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(text in str(error) for text in SAID)
    return said or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def allocations(work: Callable[[], object]) -> int:
    """Bytes of all tensors that `work` makes. This is an upper bound of what it holds at once, often twice as much."""
    with Allocations() as seen:
        work()
    return seen.bytes


def available(device: torch.device) -> int:
    """Bytes that this process can still allocate on `device`. On a CPU its own limit counts as well."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    own = [] if limit == resource.RLIM_INFINITY else [limit - kilobytes("/proc/self/status", "VmData") * 1024]
    return max(0, min(kilobytes("/proc/meminfo", "MemAvailable") * 1024 or sys.maxsize, *own, sys.maxsize))


def installed() -> int | None:
    """Bytes of memory of this machine, or fewer if a control group grants fewer; None if the system does not say."""
    there = kilobytes("/proc/meminfo", "MemTotal") * 1024
    return min([there, *granted()]) if there else None


def granted(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes that each control group of this process allows: those that a scheduler or systemd made, and all above them."""
    files = [root / "memory.max", root / "memory/memory.limit_in_bytes"]  # versions 2 and 1, as seen from inside a container
    with suppress(OSError):
        for line in proc.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for folder in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents):
                if not controllers:
                    files.append(root / folder / "memory.max")
                elif "memory" in controllers.split(","):
                    files.append(root / "memory" / folder / "memory.limit_in_bytes")
    found = []
    for file in files:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            found.append(int(file.read_text(encoding="ascii")))
    return found


def kilobytes(path: str, name: str) -> int:
    """A number in one of Linux's files; 0 on other systems."""
    try:
        return int(re.findall(rf"^{name}:\s*(\d+) kB$", Path(path).read_text(encoding="ascii"), re.MULTILINE)[0])
    except (OSError, IndexError):
        return 0
