"""What a leaderboard scores variants on: data sets under one recipe, with the runs of several reports and machines."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from vae_variants.analysis.advice import DEFAULT
from vae_variants.analysis.entries import Entry, entries_of, trials
from vae_variants.evaluation.metrics import data_name
from vae_variants.harness.migrate import MEANING
from vae_variants.harness.record import Record
from vae_variants.harness.sources import Source
from vae_variants.harness.spec import identifying
from vae_variants.variants import canonical

Key = tuple[str, str, str]  # digest of the data, preset, configuration of the default variant


@dataclass(frozen=True)
class Task:
    """A data set, measured at one preset, under the recipe of one default variant. `sources` are the names of those with runs of it."""

    name: str
    data: str
    fidelity: str
    sources: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def pixels(self) -> int:
        """Numbers in an image."""
        channels, height, width = self.entries[0].record.dataset["shape"]
        return int(channels * height * width)

    @cached_property
    def judges(self) -> bool:
        """Whether its preset trains and measures enough for a verdict."""
        return not trials(self.entries)

    @cached_property
    def by_label(self) -> dict[str, Entry]:
        return {e.label: e for e in self.entries}


class Left(NamedTuple):
    """Runs that a leaderboard leaves out, and why."""

    source: str
    label: str
    why: str


@dataclass(frozen=True)
class Field:
    """All tasks, and what is in none of them."""

    tasks: tuple[Task, ...]
    left: tuple[Left, ...]


def field_of(sources: Sequence[Source]) -> Field:
    """The tasks of several sources, in their order.

    Sources whose default variants have the same configuration, on the same data at the same preset, are one task: their runs were trained
    alike. Runs of a variant are joined if their configuration is the same, each seed from the first source that has it.
    """
    pools, left = dict[Key, list[tuple[str, Record]]](), list[Left]()
    for name, source in zip(distinct_names(sources), sources, strict=True):
        groups = dict[tuple[str, str], list[Record]]()
        for label, record, _ in source.runs:
            if record.meaning == MEANING:
                groups.setdefault((record.dataset["digest"], record.fidelity), []).append(replace(record, label=label))
            else:
                left.append(Left(name, label, "its metrics have another meaning: it was measured by an earlier version"))
        for (digest, fidelity), records in groups.items():
            default = next((r for r in records if r.label == DEFAULT), None)
            if default is None:
                left += [Left(name, r.label, f"no {DEFAULT} on {r.dataset['name']} to compare with") for r in records]
                continue
            pools.setdefault((digest, fidelity, recipe(default.values)), []).extend((name, r) for r in records)
    joined = [pool_of(pool, left) for pool in pools.values()]
    titles = named([(pool[0][1], tuple(dict.fromkeys(name for name, _ in pool))) for pool in pools.values()])
    tasks = [
        Task(title, records[0].dataset["name"], records[0].fidelity, names, tuple(entries_of((r.label, r, dict) for r in records)))
        for records, (title, names) in zip(joined, titles, strict=True)
    ]
    return Field(tuple(tasks), tuple(left))


def recipe(values: Mapping[str, Any]) -> str:
    return canonical(identifying(values))


def distinct_names(sources: Sequence[Source]) -> list[str]:
    """Of each source; the path is added if another has the same name."""
    times = Counter(source.name for source in sources)
    return [source.name if times[source.name] == 1 else f"{source.name} ({source.folder})" for source in sources]


def named(pools: Sequence[tuple[Record, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """The title of each task with its sources: the data set, a preset that is not full, and the sources if others have the same title."""
    presets = [r.fidelity.partition("[")[0] for r, _ in pools]  # its options stand in the table of sources
    shown = [data_name(r.dataset["name"]) + (f" ({p})" if p != "full" else "") for (r, _), p in zip(pools, presets, strict=True)]
    times = Counter(shown)
    return [(data if times[data] == 1 else f"{data} ({' + '.join(names)})", names) for data, (_, names) in zip(shown, pools, strict=True)]


def pool_of(pool: Iterable[tuple[str, Record]], left: list[Left]) -> list[Record]:
    """One record for each label. Those that do not join the first of their label are added to `left`."""
    found = dict[str, Record]()
    for name, record in pool:
        first = found.setdefault(record.label, record)
        if first is record or first.key == record.key:
            continue
        if recipe(first.values) != recipe(record.values):
            left.append(Left(name, record.label, "other options than the variant of this name in an earlier source"))
        elif new := [seed for seed in record.seeds if seed not in first.seeds]:
            found[record.label] = with_seeds(first, record, new)
    return list(found.values())


def with_seeds(first: Record, other: Record, seeds: Sequence[int]) -> Record:
    """The first record with `seeds` of another one of the same configuration."""
    at, keys = [other.seeds.index(seed) for seed in seeds], [str(seed) for seed in seeds]
    return replace(
        first,
        seeds=[*first.seeds, *seeds],
        status=first.status | {key: other.status[key] for key in keys},
        reason=first.reason | {key: other.reason[key] for key in keys if key in other.reason},
        rows=[*first.rows, *(row for row in other.rows if row["seed"] in seeds)],
        curves={name: [*own, *(other.curves[name][i] for i in at)] for name, own in first.curves.items() if name in other.curves},
        series={},
    )
