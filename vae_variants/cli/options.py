"""What the commands have in common: their options, and how they fail."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_variants.registry import UserError

__all__ = [
    "Address",
    "Baseline",
    "Cpus",
    "Dataset",
    "Device",
    "DryRun",
    "EngineOption",
    "Epochs",
    "Fidelity",
    "Gpus",
    "Jobs",
    "LogOption",
    "Memory",
    "Plugin",
    "Precision",
    "Reports",
    "RetryOption",
    "Runs",
    "Seeds",
    "SuiteFidelity",
    "Timeout",
    "beginning",
    "guarded",
    "seconds",
]

Dataset = Annotated[str, typer.Option(help="digits, mnist, ..., npz:FILE, images:FOLDER; see `list datasets`")]
Seeds = Annotated[str, typer.Option(help="a count, or a list such as 0,3,7; they train together")]
FIDELITY = (
    "full; thorough: also annealing, 5000 draws; quick: at most 10 epochs of 10 000 images; smoke: 2 of 400; "
    'with options such as "thorough[temperatures=10000,start=prior,schedule=linear,annealed_images=50]"'
)
Fidelity = Annotated[str, typer.Option(help=FIDELITY)]
SuiteFidelity = Annotated[str | None, typer.Option(help=f"instead of the suite's: {FIDELITY}")]
Epochs = Annotated[int | None, typer.Option(min=0, help="instead of those of the variant or suite")]
Precision = Annotated[str | None, typer.Option(help="of products of matrices in training: fp32, tf32, bf16")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu, cuda, cuda:N")]
EngineOption = Annotated[str, typer.Option("--engine", help="local: processes of this machine; ray: a Ray cluster's")]
Address = Annotated[str | None, typer.Option(help="of the Ray cluster, such as 10.0.0.1:6379; without it one is started here")]
Cpus = Annotated[int, typer.Option(min=1, help="processors of each run on a Ray cluster")]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs of each run there with --device cuda, such as 0.25")]
JOBS = "runs side by side, in processes that share the threads: a count, or auto, one per core (1 on a GPU); 0: here, unprotected"
Jobs = Annotated[str, typer.Option(help=JOBS)]
Timeout = Annotated[str | None, typer.Option(help="limit of each run, such as 90s, 10m, 2h; what takes longer is stopped")]
Memory = Annotated[str, typer.Option(help="limit of each run, such as 4g; auto: its part of nine tenths of the machine's; none")]
RETRY = "make again: never; failed; older, what other code made; scores, from the models that were kept; all"
RetryOption = Annotated[str, typer.Option(help=RETRY)]
Plugin = Annotated[list[Path] | None, typer.Option(help="a Python file that registers something of yours; may be repeated")]
Baseline = Annotated[Path | None, typer.Option(help="a report or folder of records: what changed since is in report.html")]
Runs = Annotated[Path, typer.Option(help="the folder of records")]
Reports = Annotated[Path, typer.Option(help="the folder of reports")]
LogOption = Annotated[str | None, typer.Option("--log", help="tensorboard: event files for each run and seed, in the run's folder")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be run, and stop")]

beginning: list[Callable[[], None]] = []  # what the program does before a command, and not before its help


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """One clear line and an exit code instead of a traceback: 2 for bad usage or no data, 130 when interrupted."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            for begin in beginning:
                begin()
            command(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted; finished runs and whole epochs are kept, and the same command goes on from there", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapper


def seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", text.strip(), re.ASCII)
    if match is None or float(match[1]) == 0:
        raise UserError(f"timeout {text!r} is not a time such as 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
