"""The package as a library: run configurations, rank records, load trained models."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from vae_variants.harness import Record, RunSpec, Store, run_all
from vae_variants.harness.environment import choose_device
from vae_variants.harness.files import load_tensors
from vae_variants.harness.protocols import Retry
from vae_variants.harness.spec import capped
from vae_variants.harness.store import MODEL, RECORD
from vae_variants.integrations.export import read_model, rebuilt
from vae_variants.models.base import DataDependent, Model
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError, closest, user_path
from vae_variants.variants import configure


def run(
    selector: str | Sequence[str],
    *,
    dataset: str = "digits",
    seeds: int | Sequence[int] = 5,
    fidelity: str = "full",
    epochs: int | None = None,
    device: str = "auto",
    retry: Retry = "never",
    runs: str | Path = "runs",
) -> list[Record]:
    """Train and score every configuration that selectors name; finished runs are reused.

    Args:
        selector: variant or configurations, e.g. "vae[likelihood=gaussian,latent=2|10]", or several of them.
        dataset: e.g. "digits", "mnist", "npz:FILE", "images:FOLDER".
        seeds: a count (seeds 0, 1, ...), or the seeds; they train together.
        fidelity: preset of training and evaluation: full, thorough, quick or smoke.
        epochs: instead of each configuration's own.
        device: auto, cpu, cuda or cuda:N.
        retry: which finished runs to make again: never, failed, older (stale ones), scores (only the metrics), all.
        runs: folder of records.

    Returns:
        A record for each configuration. The `status` of a run that failed says how.

    Raises:
        UserError: an argument names something that does not exist.
    """
    count = range(seeds) if isinstance(seeds, int) else seeds
    selectors = [selector] if isinstance(selector, str) else selector
    configurations = [c for each in selectors for c in configure(each, capped({}, fidelity))]
    if epochs is not None:
        configurations = [c.with_defaults(epochs=epochs) for c in configurations]
    specs = [RunSpec(c, dataset, tuple(count), fidelity) for c in configurations]
    if retry not in get_args(Retry):
        raise UserError(closest("retry", retry, get_args(Retry)))
    return run_all(specs, Store(runs), choose_device(device), retry)


def rank(records: Sequence[Record], metric: str) -> list[tuple[str, float, tuple[int, int] | None]]:
    """Rank records by a metric.

    Args:
        records: those without the metric are left out.
        metric: name, e.g. "elbo" (nats per image) or "reconstruction_mse".

    Returns:
        (label, mean over seeds, 95 % interval of the rank), the best first, records with a flaw such as collapse last. The interval comes
        from a joint bootstrap of the seeds that all records have. It is None for a record with a flaw or of fewer than five seeds.

    Raises:
        UserError: the metric has no better direction, or is in nats or bits and the records differ in pixel type.
    """
    from vae_variants.analysis.entries import entries_of, rankable, ranks  # imports pandas and matplotlib

    entries = entries_of((record.label, record, dict) for record in records)
    sign, places = {"higher": -1, "lower": 1}[rankable(entries, metric)], ranks(entries, metric)
    order = sorted((e for e in entries if e.interval(metric)), key=lambda e: (not e.sound(metric), sign * e.mean(metric)))
    return [(e.label, e.mean(metric), places.get(e.label)) for e in order]


def load(
    record: Record | str | Path,
    seed: int | None = None,
    runs: str | Path = "runs",
    *,
    plugin: str | Path | Sequence[str | Path] = (),
) -> Model:
    """Load the trained model of one seed, in evaluation mode.

    Args:
        record: a record, a run's folder, or a .safetensors file of `vae-variants export`.
        seed: the first seed, or that of the file, if None.
        runs: folder of records, where the record's run is looked up.
        plugin: file or files that register what the model is made of.

    Raises:
        UserError: the run, the seed, its model or a plug-in is missing.
    """
    load_plugins([plugin] if isinstance(plugin, str | Path) else plugin)
    if not isinstance(record, Record) and (file := user_path(record)).suffix == ".safetensors":
        return read_model(file, seed)
    store = Store(runs)
    if isinstance(record, Record):
        key = record.key
        folder = next((path for path, found in store.records() if found.key == key), None)
    else:
        path = user_path(record)
        folder = path.parent if path.name == RECORD else path
        found = store.read(folder / RECORD)
        if found is None:
            raise UserError(f"{str(path)!r} is not the folder of a finished run")
        record = found
    seed = record.seeds[0] if seed is None else seed
    state = None if folder is None else load_tensors(folder / MODEL, key=record.key)
    if state is None or seed not in record.seeds:
        raise UserError(f"there is no trained model of {record.label!r} with seed {seed}; its seeds are {record.seeds}")
    model = rebuilt(record.label, record.values, record.dataset)
    member = {k: v[record.seeds.index(seed)] for k, v in state.items()}
    if isinstance(model, DataDependent) and not member:
        raise UserError(f"{record.label!r} has no parameters, only the training images; there is no model to load")
    model.load_state_dict(member)
    return model.eval().requires_grad_(False)
