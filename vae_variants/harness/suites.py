"""Suites: what `bench` runs, written in TOML."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_variants.harness.spec import RunSpec, capped, parse_seeds
from vae_variants.registry import UserError, closest
from vae_variants.variants import configure

__all__ = ["Suite", "load_suite", "suite_files"]

PLACES = (Path("bench/suites"), Path(__file__).parents[2] / "bench" / "suites", Path(__file__).parents[1] / "suites")


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
                raise UserError(f"suite {self.name!r}: {closest('option', key, known)}")
        return found


def suite_files() -> dict[str, Path]:
    """Name -> file, of those beside you and those that came with the package."""
    return {path.stem: path for place in reversed(PLACES) for path in sorted(place.glob("*.toml"))}


def load_suite(name: str) -> Suite:
    """By name, or by the path of a .toml file. Raises `UserError`."""
    known = suite_files()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None or not path.is_file():
        raise UserError(closest("suite", name, known) + "; or the path of a .toml file")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"suite {str(path)!r} cannot be read: {' '.join(str(error).split())}") from error
    blocks = found.pop("runs", None)
    needed, optional = {"dataset", "seeds"}, {"description", "fidelity", "defaults"}
    if not isinstance(blocks, list) or not needed <= set(found) <= needed | optional or not sound(found):
        may = "and may have description, fidelity and [defaults]"
        raise UserError(f"suite {str(path)!r} is not valid: it has dataset, seeds, [[runs]], {may}")
    for block in blocks:
        if not isinstance(block, dict) or not {"variants"} <= set(block) <= {"variants", "seeds", "defaults"} or not sound(block):
            raise UserError(f"suite {str(path)!r} is not valid: each [[runs]] has variants = [...], and may have seeds and [runs.defaults]")
    return Suite(path.stem, str(found.pop("dataset")), str(found.pop("seeds")), blocks=tuple(blocks), **found)


def sound(found: Mapping[str, Any]) -> bool:
    """Whether what stands in a suite or a block is of the right kind: names are text, variants a list of them, defaults a table."""
    variants, defaults, texts = found.get("variants", []), found.get("defaults", {}), ("dataset", "description", "fidelity")
    names = isinstance(variants, list) and all(isinstance(name, str) for name in variants)
    seeds = type(found.get("seeds", "")) in (int, str)
    return names and isinstance(defaults, dict) and seeds and all(isinstance(found.get(name, ""), str) for name in texts)
