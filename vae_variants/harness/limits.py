"""What a run may take of the machine, and what it does take."""

import ctypes
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from vae_variants.memory import installed, kilobytes
from vae_variants.registry import UserError

UNITS = {"m": 2**20, "g": 2**30, "t": 2**40}
LEAST = 2**30  # bytes that Python, torch and scikit-learn take before a run starts
SHARE = 0.9  # of the machine's memory: beyond it, runs are stopped before the system stops something else


def parse_memory(text: str, jobs: int = 1) -> int | None:
    """Bytes of a size such as `4g` or `1500m`; `auto` is `ceiling(jobs)` and `none` is None. Raises `UserError`."""
    if text == "auto":
        return ceiling(jobs)
    if text == "none":
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([mgt])i?b?", text.strip().lower(), re.ASCII)
    if match is None:
        raise UserError(f"memory {text!r} is not a size such as 4g or 1500m, and neither auto nor none")
    found = int(float(match[1]) * UNITS[match[2]])
    if found < LEAST:
        raise UserError(f"memory {text!r} is too little: the program itself takes most of {format_bytes(LEAST)}, give it at least that")
    if sys.platform != "linux":
        raise UserError("--memory needs Linux; use --memory none")
    return found


def format_bytes(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"


def ceiling(jobs: int = 1) -> int | None:
    """Bytes that each of `jobs` runs may take: its share of 90 % of the memory; None if the machine does not say how much it has."""
    total = installed()
    return None if total is None else max(LEAST, int(SHARE * total / jobs))


def set_memory_limit(memory: int | None, device: torch.device) -> None:
    """Has the system refuse allocations of this process beyond `memory` bytes: of its own data, or on a GPU.

    GPU drivers reserve more addresses than there is memory, so with a GPU the process itself gets no limit.
    """
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        total = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (memory or total) / total), index)
    elif sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        least = hard if memory is None else memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))


def release_memory() -> None:
    """Returns memory to the system that this process has freed: training keeps it for its next step (see `process.prepare`)."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def require_machine(machines: Sequence[Mapping[str, float]], needed: Mapping[str, float]) -> None:
    """Raises `UserError` if no machine of a cluster has what a run needs; Ray would wait for one without a word."""
    if not any(all(machine.get(name, 0) >= count for name, count in needed.items()) for machine in machines):
        wanted, *there = (" and ".join(f"{one.get(name, 0):g} {name}s" for name in needed) for one in (needed, *machines))
        raise UserError(f"no machine of the cluster has {wanted} for a run: there is {'; '.join(sorted(set(there))) or 'none'}")


def resident_bytes(pid: int) -> int:
    """Memory that a process and those that it has started hold; 0 if the system does not say."""
    family = [pid]
    for each in family:
        family += children(each)
    if len(family) > 1:  # pages that several share count once
        return sum(kilobytes(f"/proc/{each}/smaps_rollup", "Pss") * 1024 for each in family)
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def children(pid: int) -> list[int]:
    """Processes that a process has started and that still belong to it."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError, ValueError):
            found += map(int, file.read_text(encoding="ascii").split())
    return found


def out_of_memory_kills() -> int:
    """How many processes this system has killed so far because memory ran out."""
    try:
        found = re.findall(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[0]) if found else 0
