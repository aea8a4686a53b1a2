"""Stores of made-up runs, as large as those of a real suite: nothing is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import torch
from safetensors.torch import save

from vae_variants.evaluation import METRICS
from vae_variants.harness import Record, RunSpec, Store
from vae_variants.harness.spec import digest_of
from vae_variants.harness.store import PICTURES, RECORD, slug
from vae_variants.models.base import MODELS
from vae_variants.variants import configure

__all__ = ["fill", "finished", "grid", "made_up"]

DATASET = {
    "name": "digits",
    "digest": "0" * 64,
    "shape": [1, 8, 8],
    "levels": 17,
    "sizes": {"train": 1152, "validation": 285, "test": 360},
    "classes": 10,
}
FAMILIES = ("vae", "vae[likelihood=gaussian]", "vae[samples=8]", "made", "vae[objective=iwae,samples=8]", "vae[samples=2]", "ae", "gan")
LATENT = (2, 5, 10, 20, 50)
EPOCHS = 25
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def grid(variants: int, seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> list[RunSpec]:
    """Different configurations of two kinds of pixels or without a density, in families of five latent sizes."""
    found = []
    for i in range(variants):
        (chosen,) = configure(FAMILIES[i % len(FAMILIES)])
        turn = i // (len(FAMILIES) * len(LATENT)) if "latent" in chosen.values else i
        chosen = chosen.with_defaults(latent=LATENT[i % len(LATENT)], lr=1e-3 * (1 + turn), epochs=EPOCHS)
        found.append(RunSpec(replace(chosen, label=f"{chosen.values['model']}-{i}"), "digits", seeds, "full"))
    return found


def made_up(spec: RunSpec, turn: int = 0) -> Record:
    """A record with a value for every metric that the model is capable of; `turn` is when it was made, of which images."""
    chance = np.random.default_rng([turn, *hashlib.sha256(spec.identity.encode()).digest()[:8]])
    values, seeds = dict(spec.configuration.values), list(spec.seeds)
    model = MODELS[values["model"]]
    rows = []
    for seed in seeds:
        for m in METRICS.values():
            if all(issubclass(model, need) for need in m.needs) and not m.module.endswith(".disentanglement"):  # digits have no factors
                kind = m.kind if isinstance(m.kind, str) else "lower-bound"
                scale = -30.0 if m.unit == "nats" else 100.0 if m.unit in ("images/s", "ms") else 1.0
                value = scale * (1 + 0.1 * chance.random())
                value *= 0.01 if m.name == "unexplained_variance" else 1.0
                same = {"unit": m.unit, "better": m.better, "kind": kind, "status": "ok", "reason": ""}
                rows.append({"seed": seed, "metric": m.published_for("digits"), "value": value, **same})
    name = "validation_log_prob" if "log_likelihood" in {row["metric"] for row in rows} else "loss"
    curve = -30.0 - 5.0 / np.arange(1, EPOCHS + 1) + 0.1 * chance.random((len(seeds), EPOCHS))
    machine = {"python": "3.11", "device": "a made-up one", "versions": {"torch": "2", "scikit-learn": "1"}}
    return Record(
        key=hashlib.sha256(f"{spec.identity}|{turn}".encode()).hexdigest(),
        label=spec.label,
        values=values,
        dataset=DATASET,
        support=spec.configuration.support.value,
        fidelity=spec.fidelity,
        seeds=seeds,
        status={str(seed): "ok" for seed in seeds},
        rows=rows,
        curves={name: curve.tolist()},
        epoch_seconds=[0.1] * EPOCHS,
        series={"kl_units": {str(seed): chance.random(values["latent"]).tolist() for seed in seeds}} if model.__name__ == "VAE" else {},
        environment=machine,
        trained=machine,
        started=(BEGIN + timedelta(seconds=turn)).isoformat(timespec="microseconds"),
    )


def finished(spec: RunSpec) -> Record:
    """A made-up record that commands take for the run's own: of today's data and code."""
    return replace(made_up(spec), key=spec.key(), code=spec.code, dataset=DATASET | {"digest": digest_of(spec.dataset, spec.fidelity)})


def fill(store: Store, specs: Sequence[RunSpec], make: Callable[[RunSpec], Record] = made_up) -> None:
    """Writes a record of every spec, and its pictures."""
    for i, spec in enumerate(specs):
        record = make(spec)
        folder = store.root / slug(spec.dataset) / f"{slug(spec.label)}-{record.key[:12]}"
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
        images = torch.randint(0, 256, (56, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        shown = {"samples": images[:36], "originals": images[36:46], "reconstructions": images[46:]}
        (folder / PICTURES).write_bytes(save({name: pictures.clone() for name, pictures in shown.items()}))
