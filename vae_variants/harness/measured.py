"""The figures of a run: what is measured on trained models, and what training them cost.

Every line of this file and of what it imports is part of a run's fingerprint. Storage and progress belong in `runner`.
"""

import math
import re
import resource
import sys
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vae_variants.datasets.dataset import Dataset
from vae_variants.evaluation import METRICS, Evaluation, Fidelity, evaluate
from vae_variants.evaluation.criterion import criterion
from vae_variants.evaluation.disentanglement import unit_information
from vae_variants.evaluation.features import classifier
from vae_variants.models.base import LatentVariable, MeanSampler
from vae_variants.training.loop import Training
from vae_variants.training.throughput import product_rate, step_flops

COSTS = ("train_images_per_second", "train_product_share", "train_seconds", "peak_memory_bytes")
MEASUREMENT_SECONDS = 4  # times the preset's seconds for one throughput: a training step is slower than a sample


def evaluations(
    training: Training,
    epochs: int,
    dataset: Dataset,
    seeds: Sequence[int],
    diverged: Container[int],
    level: Fidelity,
    device: torch.device,
    held: int,
) -> Iterator[Evaluation]:
    """An evaluation of each trained model not `diverged`.

    `epochs` were trained; `held` is `allocated` before there were models, in bytes.
    """
    alive = [seed for seed in seeds if seed not in diverged]
    timed = alive and training.players and not level.choosing
    cost = costs(training, epochs, level.timing_seconds * MEASUREMENT_SECONDS, held) if timed else {}
    for seed, member in zip(seeds, training.population.members(), strict=True):
        if seed in alive:
            yield Evaluation(member, dataset, seed, level, device, cost)


def score(e: Evaluation, found: dict[str, Any]) -> None:
    """Adds the figures of one model to the parts of a record: `rows`, without a plug-in's metrics, `series` and `classifier`.

    A KL that is no sum over latent units has no series of them. What each unit tells of a factor has one, if there are factors.
    """
    if e.fidelity.choosing:
        found["rows"].append({"seed": e.seed, **asdict(criterion(e))})
        return
    own = [m for name, m in METRICS.items() if name not in METRICS.foreign]
    found["rows"] += [{"seed": e.seed, **asdict(value)} for value in evaluate(e, own)]
    if isinstance(e.model, LatentVariable) and e.elbo.by_unit and all(map(math.isfinite, units := e.elbo.rate_units.tolist())):
        found["series"].setdefault("kl_units", {})[str(e.seed)] = [round(v, 6) for v in units]
    for name, shares in unit_information(e).items():
        found["series"].setdefault(f"information/{name}", {})[str(e.seed)] = shares
    if isinstance(e.model, MeanSampler) and e.dataset.labels is not None:
        model, accuracy = classifier(e.dataset, e.fidelity.classifier_steps)
        found["classifier"] = {"digest": model.digest, "test_accuracy": accuracy}


def costs(training: Training, epochs: int, budget: float, held: int) -> dict[str, float]:
    """Throughput, its share of the machine's rate and peak memory of single steps, less the `held` bytes, and what all `epochs` take so.

    Leaves the population as it was.
    """
    population, trained = training.population, {name: tensor.clone() for name, tensor in training.population.state().items()}
    reset_peak_memory(population.device)
    with population.trial():
        throughput = training.images_per_second(budget)
    peak = peak_memory(population.device) - held
    population.restore(trained)
    images, step = epochs * training.steps * training.batch * len(population), training.batch * len(population)
    share = step_flops(training) * throughput / step / product_rate(population.device, training.recipe.precision)
    return {
        "train_images_per_second": throughput,
        "train_product_share": share,
        "train_seconds": images / throughput,
        "peak_memory_bytes": float(peak),
    }


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux, or not permitted: the peak is then that of the whole process so far
        return


def allocated(device: torch.device) -> int:
    """Bytes on a GPU now; 0 on a CPU, where it cannot be told which part of the process a model is."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU, or resident in this process, at most since `reset_peak_memory`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
