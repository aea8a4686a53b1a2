"""Tuning: options of each variant chosen on validation images, by short runs whose seeds are not reported."""

import hashlib
import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from vae_variants.evaluation.fidelities import VALIDATION
from vae_variants.harness.choices import Choice, Trial, Values
from vae_variants.harness.courses import fallen
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, Seeds, identifying, parse_seeds, unique
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, canonical, convert, split_selector

SHORTER = 3  # a round of halving before the last takes a third of the epochs of the next
Execute = Callable[[list[RunSpec]], Sequence[Record | None]]  # makes or finds runs; None for one that is not there


@dataclass(frozen=True)
class Tuning:
    """The `[tuning]` table of a suite: which options are chosen, from which values, and at what cost.

    Args:
        grid: Option -> values. Each variant that has the option, and whose selector does not set it, tries all combinations.
        options: Variant -> further options with their values, or other values for an option of the grid.
        seeds: Of the trials; runs that are reported have others.
        share: Part of the epochs that a trial takes. If `epochs` are chosen, trials take these instead.
        halving: Whether trials come in rounds. Each keeps the better half, until two are left; a round takes a third of the epochs of the
            next.
        extend: How many values beyond the grid may be tried if the learning rate chosen is the least or the greatest.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    grid: dict[str, Annotated[list[Any], Field(min_length=1)]]
    options: dict[str, dict[str, Annotated[list[Any], Field(min_length=1)]]] = field(default_factory=dict)
    seeds: Seeds = "1000,1001"
    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    halving: bool = False
    extend: Annotated[int, Field(ge=0)] = 2

    def values(self, configuration: Configuration) -> dict[str, list[Any]]:
        """Option -> values to try for a configuration; none if nothing of it is to be chosen. Raises `UserError` for a wrong value."""
        name, fixed = split_selector(configuration.label)
        known, own = configuration.values, self.options.get(configuration.label, self.options.get(name, {}))
        wanted = {key: values for key, values in {**self.grid, **own}.items() if key in known and key not in fixed}
        if known.get("epochs", 0) == 0:
            return {}
        read = {key: [convert(key, value, known[key]) for value in values] for key, values in wanted.items()}
        return {key: [value for i, value in enumerate(values) if value not in values[:i]] for key, values in read.items()}

    def trial(self, spec: RunSpec, values: Values, share: float) -> RunSpec:
        """The run that tries these values."""
        epochs = values.get("epochs", max(1, round(share * self.share * spec.configuration.values["epochs"])))
        name, fixed = split_selector(spec.label)
        texts = {key: "-".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
        label = ",".join(f"{key}={value}" for key, value in {**fixed, **texts}.items())
        configuration = replace(spec.configuration.with_defaults(**values | {"epochs": epochs}), label=f"{name}[{label}]")
        return RunSpec(configuration, spec.dataset, parse_seeds(self.seeds), VALIDATION.name)

    def problem(self, spec: RunSpec) -> str:
        """A digest of what a choice is made for: the variant, the data set by name, and the values tried; but not the epochs."""
        options = {key: value for key, value in identifying(spec.configuration.values).items() if key not in self.grid and key != "epochs"}
        told = {"values": options, "dataset": spec.dataset, "tried": self.values(spec.configuration)}
        how = {"seeds": self.seeds, "share": self.share, "halving": self.halving, "extend": self.extend}
        return hashlib.sha256(canonical(told | how).encode()).hexdigest()[:16]


def search(spec: RunSpec, tuning: Tuning) -> Generator[list[RunSpec], Sequence[Record | None], Choice]:
    """Yields the trials of each round and is sent their records; returns the choice. Values that no seed could train are never chosen."""
    grid, tried, records = tuning.values(spec.configuration), list[Trial](), list[Record]()

    def judged(candidates: Sequence[Values], share: float) -> Generator[list[RunSpec], Sequence[Record | None], list[Trial]]:
        trials = [tuning.trial(spec, values, share) for values in candidates]
        found = yield trials
        records.extend(record for record in found if record is not None)
        tried.extend(new := [outcome(v, t, r) for v, t, r in zip(candidates, trials, found, strict=True)])
        return ranked(new, records)

    candidates = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rounds = max(0, math.ceil(math.log2(len(candidates))) - 1) if tuning.halving and "epochs" not in grid else 0
    for left in range(rounds, -1, -1):
        last = yield from judged(candidates, SHORTER**-left)
        candidates = [trial["values"] for trial in last[: math.ceil(len(last) / 2)]]
    for _ in range(tuning.extend):
        if last[0]["score"] is None or (beyond := further(grid.get("lr", ()), last[0]["values"].get("lr"))) is None:
            break
        grid["lr"].append(beyond)
        last = ranked([*last, *(yield from judged([last[0]["values"] | {"lr": beyond}], 1.0))], records)
    chosen = {} if last[0]["score"] is None else last[0]["values"]
    row: dict[str, Any] = next((record.rows[0] for record in records if record.rows), {"metric": "none", "better": "none"})
    return {
        "problem": tuning.problem(spec),
        "metric": row["metric"],
        "better": row["better"],
        "seeds": list(parse_seeds(tuning.seeds)),
        "images": next((record.dataset["sizes"]["test"] for record in records), 0),
        "tried": tried,
        "chosen": chosen,
        "edge": [key for key, value in chosen.items() if at_edge(grid[key], value)],
    }


def outcome(values: Values, trial: RunSpec, record: Record | None) -> Trial:
    found: Trial = {"values": values, "epochs": trial.configuration.values["epochs"], "score": None, "reason": "was not run"}
    if record is None:
        return found
    scores = [row["value"] for row in record.rows if row["value"] is not None]
    if record.ok and len(scores) == len(record.seeds):
        return found | {"score": sum(scores) / len(scores), "reason": ""}
    reasons = [*record.reason.values(), *(row["reason"] for row in record.rows if row["reason"])]
    return found | {"reason": reasons[0] if reasons else "failed"}


def ranked(trials: Sequence[Trial], records: Sequence[Record]) -> list[Trial]:
    """The best first, those without a score last."""
    sign = 1 if any(row["better"] == "lower" for record in records for row in record.rows) else -1
    return sorted(trials, key=lambda trial: math.inf if trial["score"] is None else sign * trial["score"])


def at_edge(tried: Sequence[Any], value: Any) -> bool:
    """Whether a number is the least or the greatest of at least three that were tried."""
    numbers = [v for v in tried if type(v) in (int, float)]
    return len(numbers) > 2 and value in (min(numbers), max(numbers))


def further(tried: Sequence[Any], value: Any) -> float | None:
    """The next number beyond the edge at which `value` is, by the ratio of the two there; None if it is not at the edge."""
    if not at_edge(tried, value):
        return None
    numbers = sorted(v for v in tried if type(v) in (int, float))
    end, before = (numbers[0], numbers[1]) if value == numbers[0] else (numbers[-1], numbers[-2])
    return float(f"{end * end / before:.2g}")


def tune(
    specs: Sequence[RunSpec], tuning: Tuning, known: Mapping[str, Choice], execute: Execute | None = None, *, length: bool = True
) -> list[RunSpec]:
    """The runs with the options chosen for each. Trials of all variants are made round by round.

    Args:
        specs: Runs as the suite says them. Those of which nothing is to be chosen stay as they are.
        tuning: What is tried.
        known: Choices made before, by variant. Those of another problem do not count.
        execute: Makes the trials of the other variants, then their runs: if a seed diverges, the next best values are chosen. Without
            it these have the options that the suite says.
        length: Whether chosen `epochs` count. They do not if a preset or the command limits the training.

    Raises:
        UserError: If a run that is reported has a seed of the trials.
    """
    overlap = sorted(set(parse_seeds(tuning.seeds)) & {seed for spec in specs for seed in spec.seeds})
    if overlap:
        raise UserError(f"seed {overlap[0]} is one of those that tuning tries options with; choose others, with --seeds or in [tuning]")
    choices = {spec.identity: choice for spec in specs if (choice := applicable(spec, tuning, known))}
    searches = {
        spec.identity: search(spec, tuning)
        for spec in specs
        if execute and spec.identity not in choices and any(len(values) > 1 for values in tuning.values(spec.configuration).values())
    }
    waiting = {identity: next(each) for identity, each in searches.items()}
    while waiting:
        wanted = unique(trial for trials in waiting.values() for trial in trials)
        records = dict(zip((trial.identity for trial in wanted), execute(wanted), strict=True))  # type: ignore[misc]
        for identity, trials in list(waiting.items()):
            try:
                waiting[identity] = searches[identity].send([records[trial.identity] for trial in trials])
            except StopIteration as end:
                choices[identity] = end.value
                del waiting[identity]
    waited = [spec for spec in specs if spec.identity in searches]
    while waited and execute:
        finals = [with_choice(spec, choices[spec.identity], length) for spec in waited]
        others = [next_best(choices[spec.identity], record) for spec, record in zip(waited, execute(finals), strict=True)]
        choices |= {spec.identity: other for spec, other in zip(waited, others, strict=True) if other}
        waited = [spec for spec, other in zip(waited, others, strict=True) if other]
    return [with_choice(spec, choices[spec.identity], length) if spec.identity in choices else spec for spec in specs]


def next_best(choice: Choice, record: Record | None) -> Choice | None:
    """The choice without the chosen values, with which a seed of the whole training diverged. None if none did, or nothing is left."""
    if record is None or not choice["chosen"]:
        return None
    seeds = list(record.status)
    told = {seed: record.reason[seed] for seed, status in record.status.items() if status == "diverged"}
    told |= {seeds[i]: f"seed {seeds[i]} ended far worse than it began" for i in fallen(record.curves, record.values.get("objective"))}
    if not told:
        return None
    why = f"whole training: {min(told.values())}"
    failed: Trial = {"values": choice["chosen"], "epochs": record.values["epochs"], "score": None, "reason": why}
    tried = [*choice["tried"], failed]
    excluded = [trial["values"] for trial in tried if trial["score"] is None]
    length = max(trial["epochs"] for trial in tried if trial["score"] is not None and trial["values"] == choice["chosen"])
    left = [
        t for t in tried if t["score"] is not None and t["values"] not in excluded and ("epochs" in t["values"] or t["epochs"] == length)
    ]
    if not left:
        return None
    chosen = (min if choice["better"] == "lower" else max)(left, key=lambda trial: trial["score"] or 0.0)["values"]
    known = {key: [trial["values"][key] for trial in tried] for key in chosen}
    return {**choice, "tried": tried, "chosen": chosen, "edge": [key for key, value in chosen.items() if at_edge(known[key], value)]}


def applicable(spec: RunSpec, tuning: Tuning, known: Mapping[str, Choice]) -> Choice | None:
    """The choice that was made before for the same problem."""
    choice = known.get(spec.label)
    return choice if choice is not None and choice["problem"] == tuning.problem(spec) else None


def with_choice(spec: RunSpec, choice: Choice, length: bool) -> RunSpec:
    chosen = {key: value for key, value in choice["chosen"].items() if length or key != "epochs"}
    return replace(spec, configuration=spec.configuration.with_defaults(**chosen), tuning={**choice, "chosen": chosen})
