"""Suites: what `bench` runs, written in TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_variants.harness.spec import RunSpec, parse_seeds
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
    defaults: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[dict[str, Any], ...] = ()

    def plan(
        self,
        *,
        dataset: str | None = None,
        seeds: str | None = None,
        fidelity: str = "full",
        epochs: int | None = None,
    ) -> list[RunSpec]:
        """The runs in order; the arguments replace what the suite says."""
        found = []
        for block in self.blocks:
            own = {**self.defaults, **block.get("defaults", {})}
            for selector in block["variants"]:
                for configuration in configure(selector, own):
                    if epochs is not None:
                        configuration = configuration.with_defaults(epochs=epochs)
                    count = parse_seeds(seeds or str(block.get("seeds", self.seeds)))
                    found.append(RunSpec.of(configuration, dataset or self.dataset, count, fidelity))
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
        blocks = found.pop("runs")
        if not all(isinstance(block["variants"], list) and set(block) <= {"variants", "seeds", "defaults"} for block in blocks):
            raise KeyError("each [[runs]] has variants = [...], and may have seeds and [runs.defaults]")
        return Suite(path.stem, str(found.pop("dataset")), str(found.pop("seeds")), blocks=tuple(blocks), **found)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"suite {str(path)!r} is not valid: it needs dataset, seeds and [[runs]] ({error})") from error
