"""Suites: what `bench` runs, written in TOML."""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vae_variants.harness.spec import RunSpec, capped, parse_seeds
from vae_variants.registry import UserError, closest, nearest
from vae_variants.variants import configure

__all__ = ["Suite", "load_suite", "suite_files"]

WITHIN = re.compile(  # what quotes and comments have in them; texts of several lines first
    r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}.*?'{3}|\#[^\n]*|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""", re.DOTALL
)
PLACES = (Path("bench/suites"), Path(__file__).parents[2] / "bench" / "suites", Path(__file__).parents[1] / "suites")


class Form(NamedTuple):
    """What stands behind a key of a suite."""

    fits: Callable[[Any], bool]
    says: str
    example: str


def text(example: str) -> Form:
    return Form(lambda value: isinstance(value, str), "a text in quotes", example)


SEEDS = Form(lambda value: type(value) in (int, str), 'a count such as 5, or a list in quotes such as "0,3"', "seeds = 5")
TABLE = Form(lambda value: isinstance(value, dict), "a table of options", "[defaults]")
RUNS = Form(lambda value: isinstance(value, list) and all(isinstance(b, dict) for b in value), "blocks, each [[runs]]", "[[runs]]")
VARIANTS = Form(
    lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "a list of names in quotes",
    'variants = ["vae-bernoulli"]',
)
KEYS = {
    "dataset": text('dataset = "digits"'),
    "seeds": SEEDS,
    "description": text('description = "..."'),
    "fidelity": text('fidelity = "full"'),
    "defaults": TABLE,
    "runs": RUNS,
}
BLOCK = {"variants": VARIANTS, "seeds": SEEDS, "defaults": TABLE}


@dataclass(frozen=True)
class Source:
    """A suite's file."""

    path: Path
    text: str

    def line(self, key: str, block: int | None = None) -> str:
        """Where a key stands, for the beginning of a message: in its `block` of runs, or anywhere."""
        long = ('"""', "'''")
        plain = WITHIN.sub(lambda found: "\n" * found[0].count("\n") if found[0].startswith(long) else found[0], self.text)
        lines = plain.split("\n")
        begins = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*runs\s*\]\]", line)]
        first = begins[block] if block is not None and block < len(begins) else 0
        pattern = re.compile(rf"""\s*(\[+\s*(runs\s*\.\s*)?)?["']?{re.escape(key)}["']?\s*[\].=]""")
        number = next((i + 1 for i in range(first, len(lines)) if pattern.match(lines[i])), None)
        return f"suite {str(self.path)!r}" + (f", line {number}" if number else "")


@dataclass(frozen=True)
class Suite:
    """A data set, defaults that replace those of the models, and blocks of selectors with their seeds."""

    name: str
    dataset: str
    seeds: str
    description: str = ""
    fidelity: str = "full"
    defaults: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[dict[str, Any], ...] = ()
    source: Source | None = None

    def plan(
        self,
        *,
        dataset: str | None = None,
        seeds: str | None = None,
        fidelity: str | None = None,
        epochs: int | None = None,
        precision: str | None = None,
    ) -> list[RunSpec]:
        """The runs in order; the arguments replace what the suite says. Raises `UserError` for a default that no run knows."""
        found: list[RunSpec] = []
        fidelity = fidelity or self.fidelity
        changed = {key: value for key, value in {"epochs": epochs, "precision": precision}.items() if value is not None}
        for block in self.blocks:
            own = {**self.defaults, **block.get("defaults", {})}
            configurations = [c for selector in block["variants"] for c in configure(selector, capped(own, fidelity))]
            count = parse_seeds(seeds or str(block.get("seeds", self.seeds)))
            for c in configurations:
                found.append(RunSpec(c.with_defaults(**changed), dataset or self.dataset, count, fidelity))
        known = {key for spec in found for key in spec.configuration.values}
        for key in itertools.chain(self.defaults, *(block.get("defaults", {}) for block in self.blocks)):
            if key not in known:
                where = self.source.line(key) if self.source else f"suite {self.name!r}"
                meant = "; it belongs before [defaults] and [[runs]]" if key in KEYS else ""
                raise UserError(f"{where}: {closest('option', key, known)}{meant}")
        return found


def suite_files() -> dict[str, Path]:
    """Name -> file, of those beside you and those that came with the package."""
    return {path.stem: path for place in reversed(PLACES) for path in sorted(place.glob("*.toml"))}


def load_suite(name: str) -> Suite:
    """By name, or by the path of a .toml file. Raises `UserError`."""
    known = suite_files()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None or not os.path.isfile(path):  # which of a name that is too long is not an error
        raise UserError(absent(name, known))
    try:
        source = Source(path, path.read_text(encoding="utf-8"))
        found = tomllib.loads(source.text)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"suite {str(path)!r} cannot be read: {' '.join(str(error).split())}") from error
    sound(source, found, KEYS, ("dataset", "seeds", "runs"))
    blocks = found.pop("runs")
    for i, block in enumerate(blocks):
        sound(source, block, BLOCK, ("variants",), i)
    return Suite(path.stem, str(found.pop("dataset")), str(found.pop("seeds")), blocks=tuple(blocks), source=source, **found)


def absent(name: str, known: Iterable[str]) -> str:
    """What is said of a suite that is not there."""
    if os.path.isfile(f"{name}.toml"):
        return f"no suite is called {name!r}; of the file give the path: {name}.toml"
    if not name.endswith(".toml"):
        return closest("suite", name, known) + "; or give the path of a .toml file"
    if os.path.isdir(name):
        return f"{name!r} is a folder; a suite is a .toml file"
    folder, near = Path(name).parent, ""
    if os.path.isdir(folder):
        near = nearest(Path(name).name, [path.name for path in folder.glob("*.toml") if path.is_file()])
    hint = f"did you mean {str(folder / near)!r}?" if near else f"suites that have a name: {', '.join(sorted(known))}"
    return f"there is no file {name!r}; {hint}"


def sound(source: Source, found: Any, keys: Mapping[str, Form], needed: Iterable[str], block: int | None = None) -> None:
    """Raises `UserError` for a key that a suite, or a block of one, does not have, for a value of the wrong kind, for what is missing."""
    for key, value in found.items():
        if key not in keys:
            raise UserError(f"{source.line(key, block)}: {closest('key', key, keys)}")
        if not keys[key].fits(value):
            raise UserError(f"{source.line(key, block)}: {key} is {keys[key].says}")
    for key in needed:
        if key not in found:
            where = f"suite {str(source.path)!r}" if block is None else source.line("runs", block)
            raise UserError(f"{where}: {key} is missing; write {keys[key].example}")
