"""What to run: a configuration, a data set, the seeds that train together, and a preset for the evaluation."""

import copy
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator

from vae_variants.components import foreign_files
from vae_variants.datasets import DATASETS, Dataset, load_dataset, version
from vae_variants.datasets import read as read_dataset
from vae_variants.datasets.dataset import handed_out, in_use
from vae_variants.datasets.factored import absent
from vae_variants.evaluation import fidelity
from vae_variants.harness.fingerprint import fingerprint
from vae_variants.harness.migrate import MEANING
from vae_variants.models.base import MODELS
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, canonical, convert
from vae_variants.variants.recipe import Recipe

MOST_SEEDS = 1000
MANY = 2**28  # bytes of images that only the process that needs them keeps
Seeds = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]  # a count or a list, as text
TRAINING = 3  # version of the trained models; raise it after a change of how everything trains
# options added after the first runs, with what those runs did: at these values they change no key
ADDED_OPTIONS: dict[str, Any] = {
    "decay": "constant",
    "precision": "fp32",
    "optimizer": "adam",
    "weight_decay": 0.0,
    "clip": 0.0,
    "lr_warm_up": 0.0,
    "average": 0.0,
    "patience": 0,
    "keep": "last",
}
ADDED_PARTS: dict[str, dict[str, Any]] = {  # the same for parts of models, by the name of the model
    "vae": {"prior": "normal", "posterior": "diagonal", "regularizer": "none", "sampler": "prior"},
    "autoencoder": {"regularizer": "none", "sampler": "none", "noise": 0.0, "masked": 0.0},
    "gan": {"loss": "ns", "penalty_at": "auto", "spectral": False, "critic_steps": 1},
}
received: dict[tuple[str, str], Dataset] = {}  # (name, fidelity) -> data sent from another machine
seen: dict[str, object] = {}  # name of a data set -> its version


def added(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a configuration that were added after the first runs, at the values that those runs had."""
    return (ADDED_OPTIONS if "epochs" in values else {}) | ADDED_PARTS.get(str(values.get("model")), {})


def identifying(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that tell a run from others: all but added ones at the value that older runs had."""
    usual = added(values).items()
    return {key: value for key, value in values.items() if (key, value) not in usual}


@dataclass(frozen=True)
class RunSpec:
    """One run. Its seeds train together, except those that another run has trained; each depends on its seed alone."""

    configuration: Configuration
    dataset: str
    seeds: tuple[int, ...]
    fidelity: str
    tuning: Mapping[str, Any] = field(default_factory=dict, compare=False)  # how its options were chosen, as its record says it

    @property
    def label(self) -> str:
        return self.configuration.label

    @cached_property
    def identity(self) -> str:
        """Everything that decides the numbers, except the content of the images and the code."""
        found = {"schema": MEANING, "values": identifying(self.configuration.values), "dataset": self.dataset}
        return canonical({**found, "seeds": list(self.seeds), "fidelity": fidelity(self.fidelity).name})

    def key(self) -> str:
        """SHA-256 of identity, images and the sources that can change the numbers. Loads the data set."""
        return self._digest(f"{self.identity}|{self.code}")

    @property
    def foreign(self) -> frozenset[str]:
        """The files of plug-ins whose model, part or data set it uses."""
        name = self.dataset.partition("?")[0].partition(":")[0]
        return frozenset(foreign_files(self.configuration.values)) | ({DATASETS.places[name].file} if name in DATASETS.foreign else set())

    @property
    def code(self) -> str:
        """Fingerprint of the sources that can change the numbers."""
        return fingerprint(self.configuration.values)

    @property
    def training_code(self) -> str:
        """Fingerprint of the sources that can change the trained models."""
        return fingerprint(self.configuration.values, evaluation=False)

    def training_key(self, together: bool = True) -> str:
        """SHA-256 of what decides the trained models, whatever is measured on them: runs that share it share their models.

        Without `together` the seeds do not count: runs share the models of the seeds that they have in common.
        """
        seeds = {"seeds": list(self.seeds)} if together else {}
        return self._digest(canonical({"training": TRAINING, "values": identifying(self.configuration.values), **seeds}))

    def _digest(self, text: str) -> str:
        return hashlib.sha256(f"{text}|{digest_of(self.dataset, self.fidelity)}".encode()).hexdigest()

    @cached_property
    def stack(self) -> str:
        """Equal for runs that may train in one stack: trials of tuning that differ in the learning rate, or in real numbers of the model.

        Empty if it trains alone.
        """
        values, model = self.configuration.values, MODELS[self.configuration.values["model"]]
        if not (fidelity(self.fidelity).choosing and model.stackable and model.players):
            return ""
        own = {key for key, value in self.configuration.options.items() if type(value) is float}
        own.add("recipe.lr" if "recipe.lr" in values else "lr")
        told = {"values": {key: None if key in own else value for key, value in values.items()}, "dataset": self.dataset}
        return canonical(told | {"seeds": list(self.seeds), "fidelity": fidelity(self.fidelity).name})

    @property
    def work(self) -> float:
        """A rough measure of its duration, in decoder passes: the weight of the run in a progress bar."""
        values = self.configuration.values
        return len(self.seeds) * (1 + values.get("epochs", 0) * (1 + values.get("samples", 1)))


def capped(defaults: Mapping[str, Any], fidelity_name: str) -> dict[str, Any]:
    """`defaults` with at most the epochs of the preset. Options of a selector take precedence over them."""
    cap, epochs = fidelity(fidelity_name).epochs, convert("epochs", defaults.get("epochs", Recipe.epochs), Recipe.epochs)
    return {**defaults, **({} if cap is None else {"epochs": min(cap, epochs)})}


@lru_cache(maxsize=4)
def prepared(dataset: str, fidelity_name: str) -> Dataset:
    """The data set as a run of that preset sees it."""
    if (dataset, fidelity_name) in received:
        return handed_out(copy.deepcopy(received[dataset, fidelity_name]))  # what is sent stays as it was
    level = fidelity(fidelity_name)
    if level.choosing:
        return handed_out(load_dataset(dataset).without_test())
    return handed_out(load_dataset(dataset).subset(level.train_images, level.evaluation_images))


@lru_cache(maxsize=64)
def digest_of(dataset: str, fidelity_name: str) -> str:
    """The digest of what `prepared` returns, which outlives it."""
    return prepared(dataset, fidelity_name).digest


def look_again(names: Iterable[str]) -> None:
    """Has `prepared` read data again whose files or loader have changed since this was last called."""
    found = {name: version(name) for name in names}
    if any(seen.get(name) != now for name, now in found.items()):
        forget()
    seen.update(found)


def digest_today(dataset: str, fidelity_name: str) -> str | None:
    """Digest of the data as it lies on disk today. None if it cannot be read. Downloads nothing."""
    with suppress(UserError):
        if not absent(dataset.partition("?")[0]):
            look_again([dataset])
            return digest_of(dataset, fidelity_name)
    return None


def receive_dataset(spec: RunSpec, dataset: Dataset) -> None:
    """Has `prepared` return this data set, sent by another machine, instead of loading it."""
    received[spec.dataset, spec.fidelity] = dataset
    forget()


def forget() -> None:
    prepared.cache_clear()
    digest_of.cache_clear()


def lay_aside() -> None:
    """Frees data sets if one of them has many images: child processes read them, too. `prepared` would read them again."""
    if any(isinstance(data, Dataset) and sum(data.sizes.values()) * data.dim > MANY for data in list(in_use.values())):
        prepared.cache_clear()
        read_dataset.cache_clear()
        Dataset.as_.cache_clear()


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads a count or a list: `5` gives seeds 0 to 4, `0,3,7` those three, and `3,` seed 3 alone. Raises `UserError`."""
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
    """Drops runs that differ from an earlier one in the label only."""
    found: dict[str, RunSpec] = {}
    for spec in specs:
        found.setdefault(spec.identity, spec)
    return list(found.values())
