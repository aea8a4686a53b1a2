"""A suite made of a part of another one, as the text of its file; and what is known of its rows before they are made."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vae_variants.harness.budget import BASELINE, FIRST, MORE, Cost, Row
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.suites import Suite
from vae_variants.harness.tuning import SHORTER, Tuning, search
from vae_variants.variants import configure, split_selector


def toml(value: Any) -> str:
    """A text, number, truth value, list or table of them in one line of TOML."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{bare(key)} = {toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def bare(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def part_of(suite: Suite, labels: Collection[str], replaced: Mapping[str, Any], tuned: bool) -> str:
    """The text of a suite with those rows of another one that have these `labels`.

    Args:
        suite: The other suite.
        labels: Of the rows that stay.
        replaced: Values for `dataset`, `seeds`, `fidelity`, `epochs` and `precision`, which take the place of the suite's own.
        tuned: Whether it has the suite's `[tuning]`.
    """
    value = {key: each for key, each in replaced.items() if each is not None}
    lines = [f"{key} = {toml(value.get(key, getattr(suite, key)))}" for key in ("description", "dataset", "fidelity", "seeds")]
    defaults = {**suite.defaults, **{key: value[key] for key in ("precision",) if key in value}}
    schedule = {**suite.schedule.options, **{key: value[key] for key in ("epochs",) if key in value}}
    lines += table("defaults", defaults) + table("schedule", schedule)
    lines += table("tuning", asdict(suite.tuning)) if tuned and suite.tuning else []
    for block in suite.runs:
        kept = [c.label for selector in block.variants for c in configure(selector, suite.options | block.defaults) if c.label in labels]
        if kept:
            own = {"seeds": value.get("seeds", block.seeds), "defaults": block.defaults, "variants": kept}
            lines += ["", "[[runs]]", *(f"{key} = {toml(each)}" for key, each in own.items() if each)]
    return "\n".join([*lines, ""])


def table(name: str, values: Mapping[str, Any]) -> list[str]:
    return ["", f"[{name}]", *(f"{bare(key)} = {toml(each)}" for key, each in values.items() if each != {})]


def rows_of(specs: Sequence[RunSpec], tuning: Tuning | None, missing: Collection[str], costs: Mapping[str, Cost]) -> list[Row]:
    """The rows of a plan whose costs are known, by label.

    Args:
        specs: The plan.
        tuning: How its options are chosen, if they are.
        missing: Identities of the trials that are still to be made.
        costs: By label.
    """
    seen, found = set[str](), list[Row]()
    for spec in specs:
        epochs, family = spec.configuration.values.get("epochs", 0), spec.configuration.family or spec.configuration.values["model"]
        baseline = split_selector(spec.label)[0].startswith("reference-")
        importance = BASELINE if baseline else MORE if family in seen else FIRST
        seen |= set() if baseline else {family}
        if spec.label in costs:
            found.append(Row(spec.label, importance, len(spec.seeds), epochs, trials(spec, tuning, missing), costs[spec.label]))
    return found


def trials(spec: RunSpec, tuning: Tuning | None, missing: Collection[str]) -> float:
    """How many trials of whole length the rounds of the grid take together; 0 if there is nothing to choose or all are there."""
    first = first_trials(spec, tuning)
    if tuning is None or not any(trial.identity in missing for trial in first):
        return 0.0
    rounds = max(0, math.ceil(math.log2(len(first))) - 1) if tuning.halving else 0
    return sum(math.ceil(len(first) / 2**i) * SHORTER ** -(rounds - i) for i in range(rounds + 1))


def first_trials(spec: RunSpec, tuning: Tuning | None) -> list[RunSpec]:
    """The trials of the first round; none if nothing is to be chosen."""
    if tuning is None or not any(len(values) > 1 for values in tuning.values(spec.configuration).values()):
        return []
    return next(search(spec, tuning))
