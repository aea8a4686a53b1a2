"""How long the runs of a plan take, as far as records of such runs tell."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_variants.datasets import Dataset
from vae_variants.evaluation import fidelity
from vae_variants.harness import Record, RunSpec, Store
from vae_variants.harness.progress import in_words
from vae_variants.harness.spec import identifying
from vae_variants.harness.store import KEY, RECORD, modified, slug
from vae_variants.variants import canonical

LARGE = 0.2  # share of the work from which a run is named


def duration(specs: Sequence[RunSpec], data: Mapping[tuple[str, str], Dataset], store: Store, device_type: str) -> str:
    """One line: the time of these runs, and which take most of it. `data` maps data set and preset to what runs see, if it is there."""
    known = list(all_known(specs, data, store, device_type).values())
    such = f"in {str(store.root)!r} of the same configuration, data size, preset and kind of device"
    less = f"{len(specs) - len(known)} of {len(specs)} runs have no known time (no record {such})"
    rest = less if len(known) < len(specs) else f"from records {such}"
    total = f"about {in_words(sum(known))}, one run after another" if known else "unknown"
    work = sum(spec.work for spec in specs)
    most = [f"{spec.label} {100 * spec.work / work:.0f} %" for spec in sorted(specs, key=lambda s: -s.work) if spec.work > LARGE * work]
    shares = f"; most decoder passes of training are those of {', '.join(most)}" if most and len(specs) > 1 else ""
    return f"time: {total}; {rest}{shares}"


def expected(specs: Sequence[RunSpec], data: Mapping[tuple[str, str], Dataset], store: Store, device_type: str) -> float | None:
    """Seconds of these runs one after another. Those without a record take as long for their work as the others; None without any."""
    known = all_known(specs, data, store, device_type)
    work = sum(spec.work for spec in specs if spec.identity in known)
    rest = sum(spec.work for spec in specs if spec.identity not in known)
    return sum(known.values()) * (1 + rest / work) if work else None


def all_known(specs: Sequence[RunSpec], data: Mapping[tuple[str, str], Dataset], store: Store, device_type: str) -> dict[str, float]:
    """Identity -> seconds of the newest such run, for as many seeds as here. Those without a record of one are left out."""
    folders = defaultdict[str, list[Path]](list)
    for path in map(Path, store.files(RECORD)):
        folders[path.parent.name[: -KEY - 1]].append(path)
    found = dict[str, float]()
    for spec in specs:
        if images := data.get((spec.dataset, spec.fidelity)):
            paths = sorted(folders.get(slug(spec.label), ()), key=modified, reverse=True)
            records = (record for path in paths if (record := store.read(path)) and alike(record, spec, images, device_type))
            if record := next(records, None):
                found[spec.identity] = taken(record) * len(spec.seeds) / len(record.seeds)
    return found


def alike(record: Record, spec: RunSpec, data: Dataset, device_type: str) -> bool:
    """Whether a finished run differs at most in seeds, in the content of its images, and in its code."""
    values = (canonical(identifying(v)) for v in (record.values, spec.configuration.values))
    size = record.dataset["shape"] == list(data.shape) and record.dataset["sizes"] == data.sizes
    same = size and record.fidelity == fidelity(spec.fidelity).name and record.environment.get("device_type") == device_type
    return record.ok and same and len(set(values)) == 1


def taken(record: Record) -> float:
    """Seconds of a whole run; one that found its models trained took less than their epochs."""
    training = sum(record.epoch_seconds)
    return record.seconds if record.seconds > training else record.seconds + training
