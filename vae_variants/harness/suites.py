"""Suites: the TOML files that `bench` runs. A mistake in one is reported with its line."""

import itertools
import os
import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vae_variants.datasets import load_dataset
from vae_variants.evaluation import fidelity as preset
from vae_variants.harness.choices import committed
from vae_variants.harness.spec import RunSpec, Seeds, capped, parse_seeds
from vae_variants.harness.tuning import Execute, Tuning
from vae_variants.harness.tuning import tune as chosen
from vae_variants.registry import UserError, closest, nearest, user_path
from vae_variants.variants import configure

QUOTED = re.compile(  # quotes and comments; texts of several lines first
    r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}.*?'{3}|\#[^\n]*|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""", re.DOTALL
)
FOLDERS = (Path("bench/suites"), Path(__file__).parents[2] / "bench" / "suites", Path(__file__).parents[1] / "suites")
EXAMPLES = {
    "dataset": 'dataset = "digits"',
    "seeds": "seeds = 5",
    "runs": "[[runs]]",
    "variants": 'variants = ["vae-bernoulli"]',
    "grid": "grid = { lr = [1e-3, 3e-3, 1e-2] }",
}
EXPECTED = {
    "seeds": 'a count such as 5, or a list in quotes such as "0,3"',
    "defaults": "a table of options",
    "runs": "blocks, each [[runs]]",
    "variants": "a list of names in quotes",
    "schedule": "a table of options of training",
    "epochs": "a whole number from 1 on",
    "decay": '"constant" or "cosine"',
    "keep": '"last" or "best"',
    "average": "a number from 0 on and less than 1",
    "lr_warm_up": "a number from 0 on and less than 1",
    "tuning": "a table with a grid",
    "grid": "a table of options, each with a list of values",
    "options": "a table of variants, each with a table like the grid",
    "share": "a number above 0 and up to 1",
    "halving": "true or false",
    "extend": "a whole number from 0 on",
}


SMALLEST = 16  # pixels a side for which the networks of the suite `grey` are made


@dataclass(frozen=True)
class Source:
    """The file of a suite."""

    path: Path
    text: str

    def line(self, key: str, block: int | None = None) -> str:
        """The beginning of a message about `key`: the file, and its line in that `[[runs]]` block or anywhere."""
        long = ('"""', "'''")
        plain = QUOTED.sub(lambda found: "\n" * found[0].count("\n") if found[0].startswith(long) else found[0], self.text)
        lines = plain.split("\n")
        blocks = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*runs\s*\]\]", line)]
        first = blocks[block] if block is not None and block < len(blocks) else 0
        pattern = re.compile(rf"""\s*(\[+\s*(runs\s*\.\s*)?)?["']?{re.escape(key)}["']?\s*[\].=]""")
        number = next((i + 1 for i in range(first, len(lines)) if pattern.match(lines[i])), None)
        return f"suite {str(self.path)!r}" + (f", line {number}" if number else "")


@dataclass(frozen=True)
class Block:
    """A `[[runs]]` block: selectors, with seeds and defaults of their own if given."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    variants: list[str]
    seeds: Seeds | None = None
    defaults: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """The `[schedule]` table: how all variants train, unless a block or a selector says otherwise. See `Recipe` for each."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epochs: Annotated[int, Field(ge=1)] | None = None
    decay: Literal["constant", "cosine"] | None = None
    keep: Literal["last", "best"] | None = None
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    lr_warm_up: Annotated[float, Field(ge=0, lt=1)] | None = None

    @property
    def options(self) -> dict[str, Any]:
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass
class Suite:
    """A data set, defaults that replace those of the models, how they train and are tuned, and blocks of selectors."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    dataset: str
    seeds: Seeds
    runs: list[Block]
    description: str = ""
    fidelity: str = "full"
    defaults: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    tuning: Tuning | None = None
    source: Source | None = field(default=None, init=False)

    @property
    def options(self) -> dict[str, Any]:
        """What replaces the defaults of all its variants."""
        return self.defaults | self.schedule.options

    def plan(
        self,
        *,
        dataset: str | None = None,
        seeds: str | None = None,
        fidelity: str | None = None,
        epochs: int | None = None,
        precision: str | None = None,
        tune: str = "auto",
        execute: Execute | None = None,
    ) -> list[RunSpec]:
        """The runs in order, with the options that tuning chose. Arguments replace what the suite says.

        Args:
            tune: "auto" takes the choices that lie beside the suite, and makes the others; "again" makes all; "none" has the defaults.
            execute: Makes the trials of choices that are not there. Without it, and in a preset that limits training, none are made.

        Raises:
            UserError: For a default that no run has, or a wrong choice.
        """
        found: list[RunSpec] = []
        fidelity = fidelity or self.fidelity
        changed = {key: value for key, value in {"epochs": epochs, "precision": precision}.items() if value is not None}
        for block in self.runs:
            defaults = capped(self.options | block.defaults, fidelity)
            configurations = [c for selector in block.variants for c in configure(selector, defaults)]
            count = parse_seeds(seeds or block.seeds or self.seeds)
            found += [RunSpec(c.with_defaults(**changed), dataset or self.dataset, count, fidelity) for c in configurations]
        known = {key for spec in found for key in spec.configuration.values}
        for key in itertools.chain(self.defaults, *(block.defaults for block in self.runs)):
            if key not in known:
                where = self.source.line(key) if self.source else "the suite"
                misplaced = "; it belongs before [defaults] and [[runs]]" if key in names(Suite) else ""
                raise UserError(f"{where}: {closest('option', key, known)}{misplaced}")
        limited = preset(fidelity).epochs is not None
        return self.tuned(found, known, tune, None if limited else execute, length=not limited and epochs is None)

    def tuned(self, specs: list[RunSpec], known: Collection[str], tune: str, execute: Execute | None, *, length: bool) -> list[RunSpec]:
        """The runs with the options that were chosen for them; `known` are the options that some run has. See `plan` and `tuning.tune`."""
        if tune not in TUNE:
            raise UserError(closest("tune", tune, TUNE))
        if self.tuning is None or tune == "none":
            return specs
        place = self.source.line if self.source else lambda key: "the suite"
        for key in itertools.chain(self.tuning.grid, *self.tuning.options.values()):
            if key not in known:
                raise UserError(f"{place('grid')}: {closest('option', key, known)}")
        labels = {label for spec in specs for label in (spec.label, spec.label.partition("[")[0])}
        for label in self.tuning.options:
            if label not in labels:
                raise UserError(f"{place('options')}: {closest('variant', label, labels)}")
        choices = committed(self.source.path) if self.source and tune == "auto" else {}
        return chosen(specs, self.tuning, choices, execute, length=length)


SUITE = TypeAdapter(Suite)
TABLES: dict[str, type] = {"runs": Block, "schedule": Schedule, "tuning": Tuning}
TUNE = ("auto", "again", "none")


def names(kind: type) -> list[str]:
    """The keys of a suite or a block."""
    return [f.name for f in fields(kind) if f.init]


def suite_files() -> dict[str, Path]:
    """Name -> file of the suites in this folder and of those that came with the package."""
    return {path.stem: path for folder in reversed(FOLDERS) for path in sorted(folder.glob("*.toml"))}


def load_suite(name: str) -> Suite:
    """A suite by its name, or by the path of a .toml file. Raises `UserError` with the line of a mistake."""
    known = suite_files()
    path = user_path(name) if name.endswith(".toml") else known.get(name)
    if path is None or not os.path.isfile(path):  # false for a name that is too long, where `Path.is_file` raises
        raise UserError(absent(name, known))
    try:
        source = Source(path, path.read_text(encoding="utf-8-sig"))  # Windows editors write a byte-order mark
        found = tomllib.loads(source.text)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"suite {str(path)!r} cannot be read: {' '.join(str(error).split())}") from error
    try:
        suite = SUITE.validate_python(found)
    except ValidationError as error:
        raise UserError(mistake(error, source)) from error
    suite.source = source
    return suite


def fitting(dataset: str | None) -> str:
    """The suite for a data set: that of its name, `disentangle` if its factors are known, or else by channels and size. None: `digits`.

    Raises:
        UserError: The data do not exist, or cannot be read.
    """
    name = (dataset or "digits").partition("?")[0]
    if dataset is None or name in suite_files():
        return name
    found = load_dataset(dataset)
    channels, *sides = found.shape
    if found.factors is not None:
        return "disentangle"
    if channels > 1:
        return "colour"
    return "grey" if min(sides) >= SMALLEST else "digits"


def mistake(error: ValidationError, source: Source) -> str:
    """One line about the worst of the errors: an unknown key, which may be a typing error, before a wrong value or a missing key."""
    order = {"unexpected_keyword_argument": 0, "missing": 2}
    first = min(error.errors(), key=lambda found: order.get(found["type"], 1))
    table, *inner = first["loc"]
    block = int(inner.pop(0)) if table == "runs" and len(inner) > 1 else None
    kind = TABLES.get(str(table), Suite) if inner else Suite
    key = str(inner[0] if inner else table)
    where = source.line(key, block)
    if first["type"] == "unexpected_keyword_argument":
        return f"{where}: {closest('key', key, names(kind))}"
    if first["type"] == "missing":
        where = f"suite {str(source.path)!r}" if kind is Suite else source.line(str(table), block)
        return f"{where}: {key} is missing; write {EXAMPLES[key]}"
    return f"{where}: {key} is {EXPECTED.get(key, 'a text in quotes')}"


def absent(name: str, known: Iterable[str]) -> str:
    """The message for a suite that does not exist."""
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
