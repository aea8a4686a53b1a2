"""Claims and the framework that tests them. The textbook's claims are plug-in files in `bench/claims`."""

from __future__ import annotations

from pathlib import Path

from vae_variants.analysis.verdicts import Effect, Verdict
from vae_variants.plugins import load_plugin
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Findings, Judgement, Picture, Study, Tables, by_seed, rows, select, table

__all__ = [
    "STUDIES", "Effect", "Findings", "Judgement", "Lab", "Picture", "Study", "Tables", "Verdict", "by_seed", "claim_files",
    "load_claims", "rows", "select", "table",
]  # fmt: skip

PLACES = (Path(__file__).parents[1] / "claims", Path(__file__).parents[2] / "bench" / "claims")  # of a wheel, of a checkout
TEXTBOOK = (
    "one_sample", "posterior_shape", "elbo_gap", "features", "sampling_speed", "blur", "likelihood_choice", "better_elbo",
)  # fmt: skip


def claim_files() -> dict[str, Path]:
    """Name -> file of each claim that comes with the package, in the order of the textbook, then by name."""
    place = next((place for place in PLACES if place.is_dir()), PLACES[0])
    files = sorted([*place.glob("*.py"), *place.glob("*/__init__.py")])
    found = {path.parent.name if path.name == "__init__.py" else path.stem: path for path in files}
    return {name: found[name] for name in [*TEXTBOOK, *(name for name in found if name not in TEXTBOOK)] if name in found}


def load_claims() -> None:
    """Registers the claims that come with the package in `STUDIES`. A claim that is registered already is not loaded again."""
    for path in claim_files().values():
        load_plugin(path)
