"""What a study measures with: one data set, a preset, seeds, and the trained models and records that it asks for."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation import Evaluation, fidelity
from vae_variants.harness import Record, RunSpec, Store, Suite, Watcher, load_suite, parse_seeds, run_all, suite_files, unique
from vae_variants.harness.engines import Engine
from vae_variants.harness.locks import PendingRun, training_lock
from vae_variants.harness.progress import Log
from vae_variants.harness.protocols import Settings
from vae_variants.harness.spec import capped, prepared
from vae_variants.harness.trainings import trained
from vae_variants.models.base import Model
from vae_variants.registry import UserError
from vae_variants.training.batches import derive_seed
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import Configuration, build, canonical, configure

T = TypeVar("T")
LARGE = 400  # pixels: images from this size use the networks of the suite `mnist`, smaller ones those of `digits`


class Lab:
    """Trains and scores through the runner and store of all suites, so that finished runs are reused.

    Args:
        dataset: its name.
        fidelity: the preset.
        seeds: which; None leaves them to the study or to the suite.
        store: where records are kept.
        device: for what a study trains or times in this process.
        engine: for the runs of `records`.
    """

    def __init__(
        self,
        dataset: str,
        fidelity: str,
        seeds: tuple[int, ...] | None,
        store: Store,
        device: torch.device,
        engine: Engine | None = None,
    ) -> None:
        self.name, self.fidelity, self.given_seeds, self.store, self.device, self.engine = dataset, fidelity, seeds, store, device, engine
        assert self.dataset  # reports a mistake in the data now
        self.begun = False  # whether the engine has been used
        self.asked: dict[str, str] = {}  # request of a study -> digest of the configurations that it got

    @property
    def dataset(self) -> Dataset:
        return prepared(self.name, self.fidelity)

    @property
    def suite(self) -> Suite:
        """The suite of this data set, else `disentangle` if its factors are known, else the one for images of its size."""
        usual = "disentangle" if self.dataset.factors is not None else "mnist" if self.dataset.dim >= LARGE else "digits"
        return load_suite(self.name if self.name in suite_files() else usual)

    def of(self, dataset: str) -> Self:
        """The same for another data set."""
        return type(self)(dataset, self.fidelity, self.given_seeds, self.store, self.device, self.engine)

    def choose(self, *, smoke: T, quick: T, full: T) -> T:
        """A size by preset; `thorough` counts as `full`."""
        return {"smoke": smoke, "quick": quick}.get(fidelity(self.fidelity).name.partition("[")[0], full)

    def seeds(self, count: int) -> tuple[int, ...]:
        """The seeds given by the user, else the first `count`."""
        return self.given_seeds or tuple(range(count))

    def say(self, text: str) -> None:
        """A line of progress, unless --quiet."""
        if not Log.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def noise(self, purpose: str) -> Iterator[None]:
        """Random numbers inside come from a stream of their own, the same each time; gradients stay on."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(derive_seed("study", self.dataset.digest, purpose))
            yield

    def configurations(self, selector: str, **chosen: Any) -> list[Configuration]:
        """Configurations of a selector. The suite's defaults, then `chosen`, fill in options that the selector leaves open."""
        found = configure(selector, capped(self.suite.options, self.fidelity))
        found = [c.with_defaults(**chosen) for c in found]
        self.note({"selector": selector, "chosen": chosen}, [dict(c.values) for c in found])
        return found

    def records(self, labels: Sequence[str], seeds: int | None = None) -> dict[str, Record]:
        """Trains and scores rows of the suite, or other selectors with its defaults, with every metric -> record by label.

        Raises `UserError` if a run failed for every seed.
        """
        specs = [spec for label in labels for spec in self.specs(label, seeds)]
        with Log(unique(specs), None if self.begun else self.engine) as log:
            records = run_all(unique(specs), self.store, device=self.device, watcher=log, engine=self.engine)
        self.begun = True
        found = {record.identity: record for record in records}
        for spec in specs:
            if "ok" not in (record := found[spec.identity]).status.values():
                raise UserError(f"the run of {spec.label!r} failed: {next(iter(record.reason.values()), '')}")
        return {spec.label: found[spec.identity] for spec in specs}

    def specs(self, label: str, seeds: int | None) -> list[RunSpec]:
        """The runs behind a label."""
        planned = {spec.label: spec for spec in self.suite.plan(dataset=self.name, fidelity=self.fidelity)}
        default = self.given_seeds or (None if seeds is None else tuple(range(seeds)))
        if label in planned:
            spec = planned[label]
            exact = len(spec.seeds) == 1 and spec.label.startswith("reference-")  # no random numbers: more seeds add nothing
            found = [spec if default is None or exact else replace(spec, seeds=default)]
        else:
            count = default or parse_seeds(self.suite.seeds)
            found = [RunSpec(c, self.name, count, self.fidelity) for c in self.configurations(label)]
        self.note({"label": label, "seeds": seeds}, [spec.identity for spec in found])
        return found

    def note(self, request: Mapping[str, Any], answer: object) -> None:
        self.asked[canonical(request)] = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:16]

    def still(self, asked: Mapping[str, str]) -> bool:
        """Whether these requests would get the same today: suites, variants and their defaults may have changed since."""
        try:
            for request in map(json.loads, asked):
                if "selector" in request:
                    self.configurations(request["selector"], **request["chosen"])
                else:
                    self.specs(request["label"], request["seeds"])
        except UserError:
            return False
        return all(self.asked[request] == answer for request, answer in asked.items())

    def pictures(self, record: Record) -> Mapping[str, torch.Tensor]:
        """Images that the runner kept of the first seed, by name."""
        folder = next(path for path, found in self.store.records() if found.key == record.key)
        return self.store.pictures(folder)

    def models(self, configuration: Configuration, seeds: tuple[int, ...], dataset: str | None = None) -> dict[int, Model]:
        """Trained models by seed, stored like those of a run but without scores; seeds that diverged are left out.

        `dataset` replaces that of the study, e.g. `mnist?static`.
        """
        return self.trained(configuration, seeds, dataset)[0]

    def trained(
        self, configuration: Configuration, seeds: tuple[int, ...], dataset: str | None = None
    ) -> tuple[dict[int, Model], dict[str, list[list[float | None]]]]:
        """The models of `models`, and the curves of their training: name -> seed -> epoch, with None where a value is not finite."""
        spec = RunSpec(configuration, dataset or self.name, seeds, self.fidelity)
        images, key, begin = prepared(spec.dataset, spec.fidelity), spec.key(), time.perf_counter()
        population = Population(lambda: build(configuration, images), seeds, self.device)
        training = Training(population, images.as_(configuration.support), configuration.recipe, images.digest)
        with training_lock(self.store, spec.training_key()):
            history = trained(training, PendingRun(spec, key), Settings(self.store, self.device), Watcher())
        if (took := time.perf_counter() - begin) > 1:
            self.say(f"  {configuration.label} x {len(seeds)} seeds: {took:.0f} s")
        members = zip(seeds, population.members(), strict=True)
        return {seed: model for seed, model in members if str(seed) not in history["diverged"]}, history["curves"]

    def evaluation(self, model: Model, seed: int, dataset: Dataset | None = None, **sizes: Any) -> Evaluation:
        """One model on the test images, at this preset with other `sizes`, e.g. `bound_samples=100`."""
        return Evaluation(model, dataset or self.dataset, seed, replace(fidelity(self.fidelity), **sizes), self.device)

    def evaluations(self, configuration: Configuration, seeds: tuple[int, ...]) -> Iterator[Evaluation]:
        """One per seed, on the CPU: the models are small, and most of the work on them is in float64."""
        for seed, model in self.models(configuration, seeds).items():
            yield Evaluation(model.cpu(), self.dataset, seed, fidelity(self.fidelity))

    def need_labels(self) -> None:
        """Raises `UserError` if the images have no labels, or labels of one class only."""
        labels = self.dataset.labels
        if labels is None:
            raise UserError(f"data set {self.name!r} has no labels, which this study needs")
        if len(labels["train"].unique()) < 2:
            raise UserError(f"data set {self.name!r} has labels of one class only; this study needs at least two")
