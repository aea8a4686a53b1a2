"""Trains the same model with one sample of z per image and with many, under equal updates, decoder evaluations and time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from vae_variants.analysis.soundness import course, unfinished
from vae_variants.evaluation.latent import active_units
from vae_variants.evaluation.likelihood import elbo, log_likelihood, rate
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.models.base import Model
from vae_variants.studies import Lab, Tables, table
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import Configuration, build

from .settings import BASE, Comparison, Setting, along, comparisons, data_name, plan, view

VARIANT = "vae-bernoulli"
OF_THE_SUITE = {"elbo": "vae-samples", "iwae": "iwae"}  # objective -> what the suite's names of the baseline with K samples begin with
ELBO_SAMPLES = 100  # for the ELBO of a trained model, whatever was the K of training
ROUNDS, TIMED = 15, 3  # of the timing: the K take turns in each round, with so many updates after one that is not counted


class Experiment:
    """Trains and scores the settings of a plan; `tried` has a row for each learning rate that was tried."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plan = lab, plan(lab)
        self.seeds = lab.seeds(self.plan.seeds)
        self.tried: list[dict[str, Any]] = []
        self.suite: dict[Setting, RunSpec] = {}  # the runs of the suite that are settings too

    def configuration(self, setting: Setting) -> Configuration:
        """The baseline of the suite with the options of a setting, or the suite's own."""
        if setting in self.suite:
            return self.suite[setting].configuration
        options = ",".join(f"{name}={value}" for name, value in asdict(setting).items() if name not in ("pixels", "whole"))
        (found,) = self.lab.configurations(f"{VARIANT}[{options}]")
        return found

    def of_the_suite(self, samples: int, objective: str = "elbo") -> Setting:
        """As the suite trains the baseline with K samples, each K with the learning rate that was chosen for it."""
        label = VARIANT if samples == 1 else f"{OF_THE_SUITE[objective]}-{samples}"
        (spec,) = self.lab.specs(label, None)
        r = spec.configuration.recipe
        setting = Setting(samples, r.batch, r.rate(self.lab.dataset.dim), r.epochs, r.decay, objective, whole=True)
        self.suite[setting] = spec
        return setting

    def images(self, setting: Setting) -> int:
        """Number of training images."""
        return len(self.lab.dataset.train) if setting.whole else self.plan.training_images

    def data_name(self, setting: Setting) -> str:
        return data_name(self.lab, self.images(setting), setting.pixels)

    def seeds_of(self, setting: Setting) -> tuple[int, ...]:
        return self.suite[setting].seeds if setting in self.suite else self.seeds

    def models(self, setting: Setting, seeds: tuple[int, ...] | None = None) -> dict[int, Model]:
        """seed -> trained model, without seeds that diverged."""
        return self.lab.models(self.configuration(setting), seeds or self.seeds_of(setting), self.data_name(setting))

    def curves(self, setting: Setting) -> dict[str, list[list[float | None]]]:
        """The curves of a training by seed and epoch."""
        return self.lab.trained(self.configuration(setting), self.seeds_of(setting), self.data_name(setting))[1]

    def validated(self, setting: Setting) -> float | None:
        """Mean ELBO of validation images over the tuning seeds that did not diverge; None if all did."""
        images = view(self.lab.dataset, "validation", self.plan.test_images)
        trained = self.models(setting, self.seeds[: self.plan.tuning_seeds])
        values = [elbo(self.lab.evaluation(model, seed, images, elbo_samples=ELBO_SAMPLES)) for seed, model in trained.items()]
        values = [value for value in values if math.isfinite(value)]
        return statistics.fmean(values) if values else None

    def best_rate(self, settings: Sequence[Setting]) -> float:
        """The learning rate with the highest validation ELBO, of settings that differ in nothing else; the first if all diverged."""
        values = {s: self.validated(s) for s in settings}
        top = max(settings, key=lambda s: -math.inf if (v := values[s]) is None else v)
        for s, v in values.items():
            row = {"batch": s.batch, "decay": s.decay, "K": s.samples, "epochs": s.epochs, "learning rate": s.lr}
            self.tried.append({**row, "validation ELBO (nats)": v, "chosen": "yes" if s is top else ""})
        return top.lr

    def comparisons(self) -> tuple[list[Comparison], dict[int, float]]:
        """All comparisons, with tuned learning rates, and K -> seconds for an update."""
        chosen = self.plan
        places = [(BASE, chosen.epochs, "constant"), (BASE, chosen.epochs, "cosine")]
        places += [(batch, epochs, "constant") for batch, epochs in chosen.batches.items()]
        rates = {(b, decay): self.best_rate([Setting(1, b, lr, n, decay) for lr in chosen.rates]) for b, n, decay in places}
        tries = zip(*(along(chosen, lr) for lr in chosen.rates), strict=True)
        line = {tried[0].batch: self.best_rate(tried) for tried in tries}
        at = chosen.rates.index(rates[BASE, "constant"])
        near = chosen.rates[max(0, at - 1) : at + 2]
        retuned = self.best_rate([Setting(chosen.retuned, BASE, lr, chosen.epochs) for lr in near])
        seconds = self.seconds_per_update(rates[BASE, "constant"])
        suite = [self.of_the_suite(k, objective) for objective in OF_THE_SUITE for k in chosen.whole if k > 1 or objective == "elbo"]
        found = comparisons(chosen, rates, line, retuned, seconds, suite)
        return [c for c in found if not (self.lab.dataset.static and c.setting.pixels == "static")], seconds

    def seconds_per_update(self, lr: float) -> dict[int, float]:
        """K -> median seconds for an update of all seeds. The K take turns, so that other load on the machine slows all of them."""
        device = self.lab.device
        images = prepared(data_name(self.lab, self.plan.training_images, "dynamic"), self.lab.fidelity)
        trainings, times = {}, {k: list[float]() for k in self.plan.samples}
        for k in self.plan.samples:
            c = self.configuration(Setting(k, BASE, lr, self.plan.epochs))
            population = Population(partial(build, c, images), self.seeds, device)
            trainings[k] = Training(population, images.as_(c.support), c.recipe, images.digest)
        with self.lab.noise("time of an update"):
            batch, t = next(trainings[1].batches()), torch.zeros((), device=device)
            for number in range(ROUNDS):
                for k in self.plan.samples[:: 1 if number % 2 else -1]:
                    for n in range(1 + TIMED):
                        begin = time.perf_counter()
                        trainings[k].turn(0, batch, t)
                        if device.type == "cuda":
                            torch.cuda.synchronize(device)
                        times[k] += [time.perf_counter() - begin] if number > 0 and n > 0 else []
        return {k: statistics.median(found) for k, found in times.items()}

    def scores(self, setting: Setting) -> list[dict[str, Any]]:
        """A row for each seed that did not diverge: bound and ELBO on test images, ELBO on training images, active units."""
        chosen = self.plan
        sizes = {"elbo_samples": ELBO_SAMPLES, "bound_samples": chosen.bound_samples, "bound_images": chosen.bound_images}
        test = view(self.lab.dataset, "test", chosen.test_images)
        train = view(prepared(self.data_name(setting), self.lab.fidelity), "train", chosen.test_images)
        rows = []
        for seed, model in self.models(setting).items():
            e = self.lab.evaluation(model, seed, test, **sizes)
            values = {"bound": log_likelihood(e), "ELBO": elbo(e), "rate": rate(e)}
            values["training ELBO"] = elbo(self.lab.evaluation(model, seed, train, **sizes))
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
            rows.append({"seed": seed, **finite, "active units": int(active_units(e))})
        return rows

    def described(self, comparison: Comparison, runs: Mapping[Setting, int]) -> dict[str, Any]:
        """What a comparison is; `run` and `against run` are its rows in `training_scores`."""
        s, images = comparison.setting, self.images(comparison.setting)
        return {
            "budget": comparison.budget,
            "objective": s.objective,
            "training images": images,
            "batch": s.batch,
            "schedule": s.decay,
            "learning rate": s.lr,
            "K": s.samples,
            "epochs": s.epochs,
            "updates": s.updates(images),
            "decoder evaluations (thousands)": s.decoded(images) / 1000,
            "claim": "yes" if comparison.claim else "no",
            "not converged": "yes" if s.whole and unfinished(course(self.curves(s)), {"objective": s.objective}) else "",
            "run": runs[s],
            "against run": None if comparison.against is None else runs[comparison.against],
        }


def by_epoch(setting: Setting, curves: Mapping[str, Sequence[Sequence[float | None]]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each seed and epoch: the ELBO of validation images, from as many samples as in training. IWAE has another bound."""
    sign, name = (-1.0, "validation_loss") if "validation_loss" in curves else (1.0, "validation_log_prob")
    if setting.objective != "elbo":
        return []
    rows = zip(seeds, curves[name], strict=True)
    return [{"seed": s, "epoch": n, "ELBO": sign * v} for s, row in rows for n, v in enumerate(row, 1) if v is not None]


def measure(lab: Lab) -> Tables:
    """Trains and scores every setting.

    Returns:
        Tables `training_setup`, `training_rates` (tuning), `training_seconds` (time of an update), `training_cells` (what is compared),
        `training_scores` (nats per image, by setting and seed) and `training_curves` (nats, by epoch, of the trainings to the end).
    """
    experiment = Experiment(lab)
    found, seconds = experiment.comparisons()
    runs = {setting: number for number, setting in enumerate(dict.fromkeys(c.setting for c in found))}
    timing = [{"K": k, "milliseconds per update": 1000 * s, "times that of K = 1": s / seconds[1]} for k, s in seconds.items()]
    scores = [{"run": number, **row} for setting, number in runs.items() for row in experiment.scores(setting)]
    whole = {setting: number for setting, number in runs.items() if setting.whole}
    curves = [{"run": n, **row} for s, n in whole.items() for row in by_epoch(s, experiment.curves(s), experiment.seeds_of(s))]
    sizes = {name.replace("_", " "): size for name, size in asdict(experiment.plan).items() if isinstance(size, int)}
    return {
        "training_setup": table("Training: sizes", [{"data set": lab.name, **sizes, "seeds": len(experiment.seeds)}]),
        "training_rates": table("Training: validation ELBO by learning rate, from which it was chosen", experiment.tried),
        "training_seconds": table(f"Training: time of an update of {BASE} images and all seeds", timing),
        "training_cells": table("Training: what is compared", [experiment.described(c, runs) for c in found]),
        "training_scores": table("Training: every trained model, nats per image", scores),
    } | ({"training_curves": table("Training to the end: ELBO of validation images by epoch, nats per image", curves)} if curves else {})
