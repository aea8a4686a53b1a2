"""Measures what `report.py` shows, contestants in turn within each round: `python bench/peers/measure.py [WHAT...] [--out FOLDER]`.

What: training, convolutions, seeds, scoring, stacks, sampling, target, steps, parts; all of them unless named. Each writes its own CSV,
one row per measurement, beside what other machines measured.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import convolutions as conv
import pandas as pd
import torch
from models import HIDDEN, LATENT, VAE, ours, ours_model, plain, pythae, returned
from parts import STEPS, operations, ways
from torch import Tensor

from vae_variants.analysis.tables import read_csv
from vae_variants.datasets import load_dataset, split
from vae_variants.evaluation import Evaluation, fidelity
from vae_variants.evaluation.evaluation import ELEMENTS
from vae_variants.harness.environment import environment
from vae_variants.harness.process import prepare
from vae_variants.models.fvbn import FVBN
from vae_variants.models.likelihoods import Support
from vae_variants.models.made import MADE
from vae_variants.models.objectives import elbo
from vae_variants.training.population import Population
from vae_variants.training.precision import has_effect

ROUNDS = 5
BATCHES = (32, 128, 512)
EPOCHS = 8
CPU = torch.device("cpu")
FLOPS = 6 * (784 * HIDDEN + HIDDEN * 2 * LATENT + LATENT * HIDDEN + HIDDEN * 784) - 2 * 784 * HIDDEN  # images have no gradient
Rows = list[dict[str, Any]]
Source = Callable[[], Tensor]


def images() -> Tensor:
    """MNIST's training images, binarised once; where there are none, noise: it takes as long."""
    root = os.environ.get("VAE_VARIANTS_DATA")
    if root and (Path(root) / "MNIST" / "raw").is_dir():
        return load_dataset("mnist?static=true").as_(Support.BINARY).train
    return (torch.rand(50_000, 784, generator=torch.Generator().manual_seed(0)) < 0.13).float()


def precisions() -> list[str]:
    return ["fp32", *(["bf16"] if has_effect("bf16", CPU) else [])]


def products(rows: int) -> float:
    """GFLOP/s of a float32 product of the first layer's shape."""
    a, b = torch.randn(rows, 784), torch.randn(784, HIDDEN)
    times = []
    for _ in range(25):
        begin = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begin)
    return 2 * rows * 784 * HIDDEN / sorted(times[5:])[10] / 1e9  # median


class Contestant:
    """A trainer in a process of its own, so that nothing that one sets for itself helps or hinders another; it waits for its turn."""

    def __init__(self, make: Callable[..., Iterator[float]], source: Source, n: int, *arguments: Any) -> None:
        context = get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=serve, args=(end, make, source, n, arguments), daemon=True)
        self.process.start()

    def __next__(self) -> float:
        self.pipe.send(True)
        return float(self.pipe.recv())

    def close(self) -> None:
        self.pipe.send(False)
        self.process.join()


def serve(pipe: Connection, make: Callable[..., Iterator[float]], source: Source, n: int, arguments: Sequence[Any]) -> None:
    if make is ours:
        prepare()  # as our command line does
    passes = make(source()[:n], *arguments)
    while pipe.recv():
        pipe.send(next(passes))


def race(
    chosen: dict[tuple[str, int], tuple[Any, ...]], n: int, rounds: int, batch: int, warm_up: int = 1000, source: Source = images
) -> Rows:
    """Passes over `n` images in turn, after at least `warm_up` steps each."""
    rows: Rows = []
    contestants = {key: Contestant(make, source, n, *arguments) for key, (make, *arguments) in chosen.items()}
    for each in contestants.values():
        for _ in range(math.ceil(warm_up / (n // batch))):
            next(each)
    for round_ in range(rounds):
        for (who, seeds), each in contestants.items():
            done = n if who in ("pythae", "plain") else n // batch * batch
            rows.append({"round": round_, "who": who, "seeds": seeds, "batch": batch, "images_per_second": seeds * done / next(each)})
        rate = products(batch * max(seeds for _, seeds in contestants)) * 1e9 / FLOPS
        rows.append({"round": round_, "who": "products", "seeds": 1, "batch": batch, "images_per_second": rate})
    for each in contestants.values():
        each.close()
    return rows


def training() -> Rows:
    """Over batch sizes."""
    rows = Rows()
    for batch in BATCHES:
        chosen: dict[tuple[str, int], tuple[Any, ...]] = {("pythae", 1): (pythae, batch), ("plain", 1): (plain, batch)}
        chosen |= {(f"ours {p}", s): (ours, s, batch, p) for s in (1, 5) for p in precisions()}
        rows += race(chosen, max(2560, min(10_240, 80 * batch)), ROUNDS, batch)
    return rows


def convolutions() -> Rows:
    """One network of convolutions on 32x32x3, batches of 128."""
    chosen: dict[tuple[str, int], tuple[Any, ...]] = {
        ("pythae", 1): (pythae, 128, None, conv.pythae_model),
        ("plain", 1): (plain, 128, conv.Plain),
    }
    chosen |= {(f"ours {p}", s): (ours, s, 128, p, None, conv.ours_model) for s in (1, 5) for p in precisions()}
    rows = race(chosen, 1280, ROUNDS, 128, warm_up=20, source=conv.images)
    return [row for row in rows if row["who"] != "products"]  # those of the other network


def seeds() -> Rows:
    """Over the number of stacked seeds, batches of 128."""
    chosen: dict[tuple[str, int], tuple[Any, ...]] = {("pythae", 1): (pythae, 128), ("plain", 1): (plain, 128)}
    chosen |= {(f"ours {p}", s): (ours, s, 128, p) for s in (1, 2, 5, 10, 20) for p in precisions()}
    return race(chosen, 5120, 5, 128, warm_up=80)


def scoring() -> Rows:
    """L_5000 of 200 images, on the same weights."""
    torch.manual_seed(0)
    k, x = 5000, images()[-200:]
    kept: list[VAE] = []
    for _ in islice(pythae(images()[:10_000], 128, kept.append), 3):
        continue
    mine = kept[-1]
    theirs = returned(mine)
    dataset = split("peers", (x > 0.5).to(torch.uint8).reshape(-1, 1, 28, 28).repeat(2, 1, 1, 1), None, levels=2, validation=0, test=200)
    level = fidelity(f"full[bound_samples={k},bound_images=200]")
    rows: Rows = []

    def ours_bound() -> float:
        return Evaluation(mine, dataset, 0, level).bound.value.mean().item()

    @torch.no_grad()
    def theirs_bound() -> float:
        return float(theirs.get_nll(dataset.as_(Support.BINARY).test.reshape(-1, 1, 28, 28), n_samples=k, batch_size=100))

    for round_ in range(5):
        for who, bound in {"pythae": theirs_bound, "ours": ours_bound}.items():
            begin = time.perf_counter()
            value = bound()
            seconds = time.perf_counter() - begin
            rows.append({"round": round_, "who": who, "k": k, "images": 200, "seconds": seconds, "bound": value})
    return rows


def stacks() -> Rows:
    """log w of 1000 draws of 100 images by five models of one shape: one after the other, and all in one call, in pieces of one size."""
    x, k, t, n = images()[-100:], 1000, torch.ones(()), 5
    population = Population(ours_model, range(n))
    members, together = list(population.members()), population.stacked("infer", (None, None, None))
    state = population.params | population.buffers
    piece = ELEMENTS // x.numel()
    rows: Rows = []

    def in_turn() -> None:
        for member in members:
            for start in range(0, k, piece):
                member.infer(x, min(piece, k - start), t)  # type: ignore[operator]

    def at_once() -> None:
        for start in range(0, k, piece // n):
            together(state, x, min(piece // n, k - start), t)

    for round_ in range(ROUNDS + 1):  # the first to warm up
        for way, score in {"in turn": in_turn, "at once": at_once}.items():
            begin = time.perf_counter()
            with torch.no_grad():
                score()
            if round_:
                rows.append({"round": round_, "way": way, "models": n, "seconds": time.perf_counter() - begin})
    return rows


def sampling() -> Rows:
    """MADE and FVBN of 784 pixels: whole passes for each pixel, and each unit evaluated once."""
    torch.manual_seed(0)
    made, fvbn = MADE((1, 28, 28), hidden=(500,)).eval(), FVBN((1, 28, 28)).eval()
    ways: dict[str, Callable[[int], Tensor]] = {
        "made naive": made.sample_naively,
        "made cached": made.sample,
        "fvbn cached": fvbn.sample,
    }
    rows: Rows = []
    for batch in (1, 100, 1000):
        for round_ in range(5):
            drawn = {}
            for who, draw in ways.items():
                torch.manual_seed(round_)
                begin = time.perf_counter()
                with torch.no_grad():
                    drawn[who] = draw(batch)
                rows.append({"round": round_, "who": who, "batch": batch, "seconds": time.perf_counter() - begin})
            same = torch.equal(drawn["made naive"], drawn["made cached"])
            rows.append({"round": round_, "who": "identical", "batch": batch, "seconds": float(same)})
    return rows


def target() -> Rows:
    """ELBO of 1000 validation images against seconds of training five seeds, batches of 128."""
    torch.manual_seed(0)
    data = load_dataset("mnist?static=true").as_(Support.BINARY)
    x = data.validation[:1000]
    rows: Rows = []

    @torch.no_grad()
    def bound(model: Any) -> float:
        return -elbo(model.infer(x, 4, torch.ones(()))).mean().item()

    bounds: dict[str, list[float]] = {}  # of each seed after each epoch
    contestants: dict[str, Iterator[float]] = {}
    for p in precisions():
        bounds[f"ours {p}"] = []
        contestants[f"ours {p}"] = ours(data.train, 5, 128, p, each=lambda m, p=p: bounds[f"ours {p}"].append(bound(m)))  # type: ignore[misc]
    bounds["pythae"] = []
    contestants["pythae"] = pythae(data.train, 128, lambda m: bounds["pythae"].append(bound(m)))
    clock = dict.fromkeys(contestants, 0.0)
    for epoch in range(1, EPOCHS + 1):
        for who, each in contestants.items():
            kept = len(bounds[who])
            clock[who] += next(each) * (5 if who == "pythae" else 1)  # it trains one, and would the others after it
            for seed, value in enumerate(bounds[who][kept:]):
                rows.append({"epoch": epoch, "who": who, "seed": seed, "seconds": clock[who], "elbo": value})
    return rows


def steps() -> Rows:
    """Five seeds, batches of 128: the step as it is, without one of its parts, and what is not used."""
    torch.manual_seed(0)
    prepare()
    n, seeds, batch = 10_240, 5, 128
    racing = {name: way(images()[:n], seeds, batch) for name, way in ways().items()}
    first = {name: next(each) for name, each in racing.items()}
    rows: Rows = []
    for round_ in range(ROUNDS):
        for name, each in racing.items():
            rows.append({"round": round_, "way": name, "milliseconds": next(each) / STEPS * 1e3, "first": first[name] / STEPS * 1e3})
    return rows


def parts() -> Rows:
    """Milliseconds of a step of five seeds by kind of operation, before (vmap and autograd in each step) and after."""
    prepare()
    found = {when: operations(images()[:10_240], 5, 128, trace) for when, trace in (("before", False), ("after", True))}
    return [{"when": when, "kind": kind, "milliseconds": value} for when, kinds in found.items() for kind, value in kinds.items()]


WHAT: dict[str, Callable[[], Rows]] = {
    f.__name__: f for f in (training, convolutions, seeds, scoring, stacks, sampling, target, steps, parts)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=", ".join(WHAT))
    parser.add_argument("--out", type=Path, default=Path("reports/speed"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in chosen.what or WHAT:
        begin = time.perf_counter()
        frame = pd.DataFrame(WHAT[name]())
        frame["device"] = environment(CPU)["device"]
        frame["torch"] = torch.__version__
        frame["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
        if (path := chosen.out / f"{name}.csv").exists():  # what another machine measured stays
            other = read_csv(path)
            frame = pd.concat([other[~other.device.isin(frame.device)], frame])
        frame.to_csv(path, index=False, float_format="%.6g")
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
