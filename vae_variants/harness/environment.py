"""The machine and versions behind a record."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from vae_variants.registry import UserError

__all__ = ["choose_device", "device_name", "environment", "share"]

PACKAGES = ("vae-variants", "torch", "torchvision", "numpy", "pandas", "scikit-learn")

_jobs = 1  # runs that are made at the same time on this machine, this process's among them


def share(jobs: int, threads: int) -> None:
    """Says that this process is one of `jobs` that make runs side by side, and gives it so many threads."""
    global _jobs
    _jobs = jobs
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # of numpy and scipy, whose threads are not torch's


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one."""
    if name not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", name):
        raise UserError(f"unknown device {name!r}; choices: auto, cpu, cuda, cuda:N")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name!r} is not there: torch {torch.__version__} finds no GPU; use --device cpu")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)


def cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def device_name(device: torch.device, threads: int, jobs: int) -> str:
    """As throughput rows carry it: the GPU's name, or the CPU's with its threads, and how many runs shared it."""
    beside = [f"{jobs} runs side by side"] if jobs > 1 else []
    if device.type == "cuda":
        name, notes = torch.cuda.get_device_name(device), beside
    else:
        name, notes = cpu_name(), [f"{threads} thread{'s' * (threads > 1)}", *beside]
    return f"{name} ({', '.join(notes)})" if notes else name


def commit() -> str | None:
    """Of the source tree, with a + where it was changed; None for an installed package."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def environment(device: torch.device, threads: int | None = None, jobs: int | None = None) -> dict[str, Any]:
    """What a figure may depend on beside its configuration; `threads` and `jobs` are this process's unless given.

    Records from before `jobs` was there have none: they were made one at a time.
    """
    threads, jobs = threads or torch.get_num_threads(), jobs or _jobs
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    found = {"python": platform.python_version(), "platform": platform.platform(), "versions": versions, "commit": commit()}
    return {**found, "device": device_name(device, threads, jobs), "device_type": device.type, "threads": threads, "jobs": jobs}
