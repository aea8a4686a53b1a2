"""How a test runs a check, what kind a variant is of, the state in which the program works, and how a test leaves no plug-in behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_variants.checks import Check, Failed, Skipped
from vae_variants.checks.fixtures import configuration
from vae_variants.evaluation.fidelities import FIDELITIES
from vae_variants.plugins import loaded
from vae_variants.registry import Registry
from vae_variants.variants.recipe import Recipe

__all__ = ["Asked", "failure", "flushed", "forget", "kind_of", "smaller"]

RECIPE = {field.name for field in fields(Recipe)}


class Asked(TorchDispatchMode):
    """Notes operations whose result, or its shape, depends on values: Python waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.of = list[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        numbers = func is torch.ops.aten.index.Tensor and not any(i is not None and i.dtype is torch.bool for i in args[1])
        if not numbers and {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            self.of.append(str(func))
        return func(*args, **(kwargs or {}))


def failure(check: Check, name: str) -> str:
    """What a check found wrong with a component; empty if it passed. Skips the test if the check does not apply."""
    try:
        check(name)
    except Skipped as reason:
        pytest.skip(str(reason))
    except Failed as found:
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


def kind_of(name: str) -> str:
    """What the steps of a variant are made of: of a number, whether it is 0, below 1, 1 or above, since more makes larger tensors."""
    values = {key: value for key, value in configuration(name).values.items() if key not in RECIPE}
    return str({key: (value > 0) + (value >= 1) + (value > 1) if type(value) in (int, float) else value for key, value in values.items()})


def smaller(patch: pytest.MonkeyPatch) -> None:
    """Has the preset smoke of this process measure everything on fewer images and samples, for tests of what is done with the values."""
    sizes = {"train_images": 200, "evaluation_images": 50, "bound_samples": 30, "bound_images": 20, "image_samples": 50}
    steps = {"timing_seconds": 0.001, "temperatures": 2, "chains": 4, "local_steps": 3, "classifier_steps": 15}
    patch.setitem(FIDELITIES, "smoke", replace(FIDELITIES["smoke"], **sizes, **steps))
