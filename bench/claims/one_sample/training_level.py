"""One draw of z per training image or many: what it does to the trained model, under equal updates, evaluations and time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from vae_variants.evaluation.latent import active_units
from vae_variants.evaluation.likelihood import elbo, log_likelihood, rate
from vae_variants.harness.spec import parse_seeds, prepared
from vae_variants.models.base import Model
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import Cell as Value
from vae_variants.studies.study import Findings, Table
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import Configuration, build

from .training_cells import BASE, Cell, Plan, Setting, along, cells, data_name, plan, view
from .training_gains import half_width
from .training_pictures import draw
from .training_verdict import CRITERION, judge

__all__ = ["CRITERION", "DESCRIPTION", "draw", "judge", "measure"]

DESCRIPTION = """\
The same model is trained with K draws of z for each image and with one: same initial weights, same order of the images, same noise of
the evaluation, for each of several seeds. Under equal updates K draws cost K times the decoder evaluations. Under equal evaluations or
equal time they have to make do with fewer epochs, to the nearest whole one, by seconds that were measured with all K in turn. Along
batch x K = 64 both updates and evaluations are equal, and images are exchanged for draws.

The learning rate is the best of a few for one draw, on validation images, for each size of batch and once more for a rate that decays by
a cosine. All K have it, and it is chosen again for one large K, and for each setting with batch x K = 64. Smaller batches than 100 are
trained for fewer epochs, and images of many pixels on a part of the training images; the tables say how many. Both arms of a comparison
have the same. On images of many pixels the model of the suite is trained besides as the suite trains it: on all images, for its epochs, at
its learning rate and with its seeds, with one draw and with more; those comparisons have a vote as well.

Test images are scored by the importance-weighted bound and by the ELBO of 100 draws, in one binarisation. Training images are binarised
afresh in each epoch, but for the arm whose pixels were drawn once, where noise can keep a model from learning them by heart.

What could mislead: trainings are short, and models that are trained for hours may differ by other amounts. Under equal evaluations or time,
K draws have few updates at a rate chosen for many, which makes their loss there larger than it had to be. A margin of a nat is about
half of what IWAE gains on binary MNIST; images of 64 pixels have less to gain, so look at the differences themselves. The bound is loosest
for the models whose q(z|x) fits worst. Learning rates come from a coarse grid."""
VARIANT = "vae-bernoulli"
ELBO_DRAWS = 100  # K_eval, whatever was the K of training
ROUNDS, TIMED = 15, 3  # of the timing: the K take turns in each, with so many updates after one that is not counted


def measure(lab: Lab) -> Findings:
    """Tables `training_setup`, `_rates` (tuning), `_seconds` (time of an update), `_cells` (what is compared) and `_scores` (by seed)."""
    chosen, seeds = plan(lab), lab.seeds(plan(lab).seeds)
    rate, tuning = tuned(lab, chosen, seeds)
    line, rows = tuned_along(lab, chosen, seeds)
    retuned, more = tuned_for(lab, chosen, seeds, rate[BASE, "constant"])
    seconds = seconds_per_update(lab, chosen, seeds, rate[BASE, "constant"])
    everything = cells(chosen, rate, line, retuned, seconds, of_the_suite(lab))
    found = [c for c in everything if not (lab.dataset.static and c.setting.pixels == "static")]
    settings = list(dict.fromkeys(cell.setting for cell in found))
    scores: list[Mapping[str, Value]] = []
    for number, setting in enumerate(settings):
        scores += [{"run": number, **row} for row in scored(lab, chosen, setting, seeds)]
    setup: dict[str, Value] = {
        "training images": chosen.images,
        "data set": lab.name,
        "test images": min(chosen.test, len(lab.dataset.test)),
        "images of the bound": min(chosen.bound_images, chosen.test, len(lab.dataset.test)),
        "draws of the bound": chosen.bound_samples,
        "draws of the ELBO": ELBO_DRAWS,
        "seeds": len(seeds),
        "epochs in equal updates": chosen.epochs,
        "epochs of K = 1 in equal evaluations and time": chosen.long,
        "base batch": BASE,
    }
    tables = {
        "training_setup": Table.of("Training: what was measured with", [setup]),
        "training_rates": Table.of(
            "Training: validation ELBO by learning rate, from which it was chosen", tuning + rows + more, folded=True
        ),
        "training_seconds": Table.of(f"Training: time of an update of {BASE} images and all seeds", timing(chosen, seconds)),
        "training_cells": described(lab, chosen, found, settings, scores),
        "training_scores": Table.of("Training: every trained model, nats per image", scores, folded=True),
    }
    return Findings(tables)


def of_the_suite(lab: Lab) -> Setting:
    """As the suite trains its baseline."""
    recipe = lab.configurations(VARIANT)[0].recipe
    return Setting(1, recipe.batch, recipe.lr, recipe.epochs, recipe.decay, whole=True)


def images_of(lab: Lab, chosen: Plan, setting: Setting) -> int:
    return len(lab.dataset.train) if setting.whole else chosen.images


def configuration(lab: Lab, setting: Setting) -> Configuration:
    """The baseline of the suite with the options of a setting."""
    options = ",".join(f"{name}={value}" for name, value in asdict(setting).items() if name not in ("pixels", "whole"))
    (found,) = lab.configurations(f"{VARIANT}[{options}]")
    return found


def models(lab: Lab, chosen: Plan, setting: Setting, seeds: tuple[int, ...]) -> dict[int, Model]:
    seeds = lab.given_seeds or parse_seeds(lab.suite.seeds) if setting.whole else seeds
    return lab.models(configuration(lab, setting), seeds, data_name(lab, images_of(lab, chosen, setting), setting.pixels))


def validated(lab: Lab, chosen: Plan, setting: Setting, seeds: tuple[int, ...]) -> float | None:
    """Mean ELBO of validation images over the seeds that did not diverge; None where all did."""
    images = view(lab.dataset, "validation", chosen.test)
    trained = models(lab, chosen, setting, seeds)
    values = [elbo(lab.evaluation(model, seed, images, elbo_samples=ELBO_DRAWS)) for seed, model in trained.items()]
    values = [value for value in values if math.isfinite(value)]
    return statistics.fmean(values) if values else None


def best(lab: Lab, chosen: Plan, seeds: tuple[int, ...], settings: list[Setting]) -> tuple[float, list[Mapping[str, Value]]]:
    """The learning rate of the highest validation ELBO, and a row for each that was tried."""
    values = {s: validated(lab, chosen, s, seeds[: chosen.tuning_seeds]) for s in settings}
    known = {s: v for s, v in values.items() if v is not None}
    top = max(known, key=known.__getitem__) if known else settings[0]
    rows: list[Mapping[str, Value]] = [
        {
            "batch": s.batch,
            "decay": s.decay,
            "K": s.samples,
            "epochs": s.epochs,
            "learning rate": s.lr,
            "validation ELBO (nats)": v,
            "chosen": "yes" if s is top else "",
        }
        for s, v in values.items()
    ]
    return top.lr, rows


def tuned(lab: Lab, chosen: Plan, seeds: tuple[int, ...]) -> tuple[dict[tuple[int, str], float], list[Mapping[str, Value]]]:
    """The best learning rate of K = 1 for every (batch, decay), at the epochs that it will have."""
    rows: list[Mapping[str, Value]] = []
    rate: dict[tuple[int, str], float] = {}
    places = [(BASE, chosen.epochs, "constant"), (BASE, chosen.epochs, "cosine")]
    for batch, epochs, decay in [*places, *((b, e, "constant") for b, e in chosen.batches.items())]:
        tried = [Setting(1, batch, lr, epochs, decay) for lr in chosen.rates]
        rate[batch, decay], more = best(lab, chosen, seeds, tried)
        rows += more
    return rate, rows


def tuned_along(lab: Lab, chosen: Plan, seeds: tuple[int, ...]) -> tuple[dict[int, float], list[Mapping[str, Value]]]:
    """The best learning rate of each setting with equal batch x K, by batch: they have fewer updates than those of `tuned`."""
    rows: list[Mapping[str, Value]] = []
    rate: dict[int, float] = {}
    for tried in zip(*(along(chosen, lr) for lr in chosen.rates), strict=True):
        rate[tried[0].batch], more = best(lab, chosen, seeds, list(tried))
        rows += more
    return rate, rows


def tuned_for(lab: Lab, chosen: Plan, seeds: tuple[int, ...], lr: float) -> tuple[float, list[Mapping[str, Value]]]:
    """The best of the learning rates next to `lr` for K = `chosen.retuned`."""
    at = chosen.rates.index(lr)
    near = chosen.rates[max(0, at - 1) : at + 2]
    return best(lab, chosen, seeds, [Setting(chosen.retuned, BASE, r, chosen.epochs) for r in near])


def seconds_per_update(lab: Lab, chosen: Plan, seeds: tuple[int, ...], lr: float) -> dict[int, float]:
    """K -> median seconds of an update of all seeds. The K take turns, to and fro: whatever else the machine does slows all of them."""
    images = prepared(data_name(lab, chosen.images, "dynamic"), lab.fidelity)
    trainings, times = {}, {k: list[float]() for k in chosen.samples}
    for k in chosen.samples:
        c = configuration(lab, Setting(k, BASE, lr, chosen.epochs))
        population = Population(partial(build, c, images), seeds, lab.device)
        trainings[k] = Training(population, images.as_(c.support), c.recipe, images.digest)
    with lab.noise("time of an update"):
        batch = next(trainings[1].batches())
        t = torch.zeros((), device=lab.device)
        for number in range(ROUNDS):
            for k in chosen.samples[:: 1 if number % 2 else -1]:
                for n in range(1 + TIMED):
                    begin = time.perf_counter()
                    trainings[k].turn(0, batch, t)
                    if lab.device.type == "cuda":
                        torch.cuda.synchronize(lab.device)
                    times[k] += [time.perf_counter() - begin] if number > 0 and n > 0 else []
    return {k: statistics.median(found) for k, found in times.items()}


def timing(chosen: Plan, seconds: Mapping[int, float]) -> list[dict[str, Value]]:
    return [
        {
            "K": k,
            "milliseconds per update": 1000 * s,
            "times that of K = 1": s / seconds[1],
            "epochs in equal time, before rounding": chosen.long * seconds[1] / s,
        }
        for k, s in seconds.items()
    ]


def scored(lab: Lab, chosen: Plan, setting: Setting, seeds: tuple[int, ...]) -> list[dict[str, Value]]:
    """A row for each seed that did not diverge: bound and ELBO on test images, ELBO on training images, active units."""
    sizes = {"elbo_samples": ELBO_DRAWS, "bound_samples": chosen.bound_samples, "bound_images": chosen.bound_images}
    test = view(lab.dataset, "test", chosen.test)
    train = view(prepared(data_name(lab, images_of(lab, chosen, setting), setting.pixels), lab.fidelity), "train", chosen.test)
    rows: list[dict[str, Value]] = []
    for seed, model in models(lab, chosen, setting, seeds).items():
        e = lab.evaluation(model, seed, test, **sizes)
        values = {
            "bound": log_likelihood(e),
            "ELBO": elbo(e),
            "rate": rate(e),
            "training ELBO": elbo(lab.evaluation(model, seed, train, **sizes)),
        }
        row: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in values.items()}
        rows.append({"seed": seed, **row, "active units": int(active_units(e))})
    return rows


def described(lab: Lab, chosen: Plan, found: list[Cell], settings: list[Setting], scores: list[Mapping[str, Value]]) -> Table:
    """A row for each cell: what it is, its means over seeds, and the paired difference to the cell with K = 1."""
    by_run = Table.of("", scores)
    rows = []
    for cell in found:
        s, run = cell.setting, settings.index(cell.setting)
        images = images_of(lab, chosen, s)
        against = None if cell.against is None else settings.index(cell.against)
        values = {name: by_run.by_seed(name, run=run) for name in ("bound", "ELBO", "rate", "training ELBO", "active units")}
        mean = {name: statistics.fmean(v.values()) if v else None for name, v in values.items()}
        gap = [values["training ELBO"][seed] - value for seed, value in values["ELBO"].items() if seed in values["training ELBO"]]
        row: dict[str, Value] = {
            "budget": cell.budget,
            "objective": s.objective,
            "training images": images,
            "batch": s.batch,
            "schedule": s.decay,
            "learning rate": s.lr,
            "K": s.samples,
            "epochs": s.epochs,
            "updates": s.updates(images),
            "decoder evaluations (thousands)": s.decoded(images) / 1000,
            "bound (nats)": mean["bound"],
            "ELBO (nats)": mean["ELBO"],
            "rate (nats)": mean["rate"],
            "training minus test ELBO": statistics.fmean(gap) if gap else None,
            "active units": mean["active units"],
        }
        for name in ("bound", "ELBO"):
            before = {} if against is None else by_run.by_seed(name, run=against)
            d = [value - before[seed] for seed, value in values[name].items() if seed in before]
            row[f"d of the {name}"], row[f"± of d ({name})"] = (statistics.fmean(d), half_width(d)) if d else (None, None)
        rows.append({**row, "claim": "yes" if cell.claim else "no", "run": run, "against run": against})
    return Table.of(
        "Training: means over seeds, nats per image; d is what K draws gain over one, ± half of its 90 % interval", rows, folded=True
    )
