"""The machine and versions behind a record."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from vae_variants.registry import UserError

PACKAGES = ("vae-variants", "torch", "torchvision", "numpy", "pandas", "scikit-learn")

_jobs = 1  # runs made side by side on this machine, including this process's


def share(jobs: int, threads: int) -> None:
    """Gives this process its share of the machine: it is one of `jobs` processes, with `threads` threads."""
    global _jobs
    _jobs = jobs
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # the threads of numpy and scipy


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one. Raises `UserError`."""
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
    """Name of the GPU, or of the CPU with its threads, and how many runs shared it."""
    beside = [f"{jobs} runs side by side"] if jobs > 1 else []
    if device.type == "cuda":
        name, notes = torch.cuda.get_device_name(device), beside
    else:
        name, notes = cpu_name(), [f"{threads} thread{'s' * (threads > 1)}", *beside]
    return f"{name} ({', '.join(notes)})" if notes else name


def commit() -> str | None:
    """The commit of the source tree, with a + if files were changed; None unless its repository tracks this file."""
    try:
        here = ["git", "-C", str(Path(__file__).parent)]
        subprocess.run([*here, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True, timeout=10)
        command = [*here, "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def environment(device: torch.device, threads: int | None = None, jobs: int | None = None) -> dict[str, Any]:
    """The machine and software that a number may depend on. `threads` and `jobs` are this process's unless given.

    Early records have no `jobs`: their runs were made one at a time.
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
