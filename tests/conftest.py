"""Shared fixtures; `--plugin FILE.py` runs the conformance checks over what that file registers as well."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trying import smaller
from vae_variants import isolation
from vae_variants.datasets import Dataset, load_dataset, split
from vae_variants.plugins import load_plugins

MARKS = Path(__file__).with_name("marks.toml")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="a Python file that registers something of yours")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    load_plugins(config.getoption("--plugin"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Applies the marks of `marks.toml`. The long files of training come first, so that none of them starts when the others have ended."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/training/"))
    marks = {entry: mark for mark, entries in tomllib.loads(MARKS.read_text(encoding="utf-8")).items() for entry in entries}
    for item in items:
        file, _, rest = item.nodeid.partition("::")
        for entry in (file, f"{file}::{rest.partition('[')[0]}"):
            if entry in marks:
                item.add_marker(marks[entry])


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    root = os.environ.get("VAE_VARIANTS_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not under VAE_VARIANTS_DATA")
    return load_dataset("mnist")


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """Sixty images of 2x5 pixels in 4 levels, two classes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 4, (60, 1, 2, 5), generator=generator, dtype=torch.uint8)
    return split("tiny", images, images.flatten(1).sum(1) % 2, levels=4, validation=10, test=10)


@pytest.fixture(scope="module")
def smaller_smoke() -> Iterator[None]:
    """The preset smoke on fewer images and samples, for a module that tests what is done with the values."""
    with pytest.MonkeyPatch.context() as patch:
        smaller(patch)
        isolation.forget()  # data and what follows from data, in the sizes of before
        yield
    isolation.forget()


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def unchanged_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that foreign code has changed makes no more runs: what one test's plug-in changed and was undone is not the next test's."""
    monkeypatch.setattr(isolation, "changed", [])
