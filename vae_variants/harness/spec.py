"""What is to be run: a configuration, a data set, the seeds that train together, a fidelity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vae_variants.datasets import Dataset, load_dataset
from vae_variants.evaluation import fidelity
from vae_variants.harness.fingerprint import fingerprint
from vae_variants.harness.migrate import MEANING
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, canonical, convert
from vae_variants.variants.recipe import Recipe

__all__ = ["LATER", "RunSpec", "capped", "identifying", "parse_seeds", "prepared", "unique"]

MOST_SEEDS = 1000
TRAINING = 1  # of trained models; a change of how anything trains makes a new one
# options younger than the first runs, with what those runs did: that makes no new run
BROUGHT: dict[tuple[str, str], Dataset] = {}  # what `prepared` gives where data have come from another machine
LATER: dict[str, Any] = {"decay": "constant", "precision": "fp32"}


def identifying(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values of a configuration that tell a run from others, by which runs from before an option was there stay what they are."""
    return {key: value for key, value in values.items() if key not in LATER or value != LATER[key]}


@dataclass(frozen=True)
class RunSpec:
    """One run: its seeds train together, and that tuple is the unit of reproducibility."""

    configuration: Configuration
    dataset: str
    seeds: tuple[int, ...]
    fidelity: str

    @property
    def label(self) -> str:
        return self.configuration.label

    @property
    def identity(self) -> str:
        """Everything that decides the numbers, but for the content of the images."""
        found = {"schema": MEANING, "values": identifying(self.configuration.values), "dataset": self.dataset}
        return canonical({**found, "seeds": list(self.seeds), "fidelity": fidelity(self.fidelity).name})

    def key(self) -> str:
        """SHA-256 of identity, images and the sources that can change the numbers; loads the data set."""
        return self._digest(f"{self.identity}|{self.code}")

    @property
    def code(self) -> str:
        """Fingerprint of those sources."""
        return fingerprint(self.configuration.values)

    @property
    def training_code(self) -> str:
        """The same of those that train alone."""
        return fingerprint(self.configuration.values, evaluation=False)

    def training_key(self) -> str:
        """The same of what decides the trained models alone: runs that share it share their models, whatever is measured on them."""
        return self._digest(canonical({"training": TRAINING, "values": identifying(self.configuration.values), "seeds": list(self.seeds)}))

    def _digest(self, text: str) -> str:
        return hashlib.sha256(f"{text}|{prepared(self.dataset, self.fidelity).digest}".encode()).hexdigest()

    @property
    def work(self) -> float:
        """A rough measure of how long it takes, to weigh a progress bar: decoder passes."""
        values = self.configuration.values
        return len(self.seeds) * (1 + values.get("epochs", 0) * (1 + values.get("samples", 1)))


def capped(defaults: Mapping[str, Any], fidelity_name: str) -> dict[str, Any]:
    """`defaults` with no more epochs than the fidelity trains; what a selector chooses stands above them."""
    cap, epochs = fidelity(fidelity_name).epochs, convert("epochs", defaults.get("epochs", Recipe.epochs), Recipe.epochs)
    return {**defaults, **({} if cap is None else {"epochs": min(cap, epochs)})}


@lru_cache(maxsize=4)
def prepared(dataset: str, fidelity_name: str) -> Dataset:
    """The data set as a run of that fidelity sees it."""
    if (dataset, fidelity_name) in BROUGHT:
        return BROUGHT[dataset, fidelity_name]
    level = fidelity(fidelity_name)
    return load_dataset(dataset).subset(level.train_images, level.evaluation_images)


def parse_seeds(text: str) -> tuple[int, ...]:
    """`5` is the seeds 0 to 4; `0,3,7` are those; `3,` is seed 3 alone."""
    try:
        seeds = tuple(int(s) for s in text.split(",") if s.strip()) if "," in text else tuple(range(min(int(text), MOST_SEEDS + 1)))
    except ValueError:
        seeds = ()
    if len(seeds) > MOST_SEEDS:
        raise UserError(f"seeds {text!r} are too many to train together; at most {MOST_SEEDS}")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"seeds {text!r} are neither a count such as 5 nor a list of different numbers such as 0,3,7")
    return seeds


def unique(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Without those that are the same run under another label."""
    found: dict[str, RunSpec] = {}
    for spec in specs:
        found.setdefault(spec.identity, spec)
    return list(found.values())
