"""How a law is tried by a test, the state in which the program works, and how a test leaves no plug-in behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from vae_variants.checks import Broken, Law, Untried
from vae_variants.registry import Registry, loaded

__all__ = ["broken", "flushed", "forget"]


def broken(law: Law, name: str) -> str:
    """What is said of a thing that breaks a law; nothing where it holds. Skips what cannot be tried."""
    try:
        law(name)
    except Untried as reason:
        pytest.skip(str(reason))
    except Broken as found:
        return str(found)
    return ""


@contextmanager
def flushed() -> Iterator[None]:
    """The smallest numbers are 0, as `prepare` has it: without, a step of a classifier that knows its images by heart takes many times
    as long. Neither onnxruntime leaves it so nor would Hypothesis work with it, so that it is for a command at a time."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def forget(folder: Path) -> None:
    """What plug-ins in a folder have registered in this process."""
    for registry in Registry.every:
        for name in [name for name in registry if Path(registry.places[name].file).is_relative_to(folder)]:
            registry.drop(name)
    for module in [name for name in loaded if name in sys.modules and Path(str(sys.modules[name].__file__)).is_relative_to(folder)]:
        del sys.modules[module], loaded[module]
