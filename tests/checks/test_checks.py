"""Every law over everything that is registered; `--plugin FILE.py` adds one's own. Those of studies are in `test_study_laws`."""

from __future__ import annotations

import pytest

from tests.trying import broken
from vae_variants.checks import LAWS, Law
from vae_variants.cli.registries import registry_of
from vae_variants.datasets import DATASETS

DOWNLOADED = {name for name in DATASETS if DATASETS[name].__module__ == "vae_variants.datasets.builtin"} - {"digits"}
CASES = [
    pytest.param(law, name, id=f"{kind.replace(' ', '')}-{law.name}-{name}")
    for kind, laws in LAWS.items()
    if kind != "study"
    for law in laws
    for name in registry_of(kind)
    if not (kind == "data set" and name in DOWNLOADED and law.name != "says-what-it-is")
]


@pytest.mark.parametrize(("law", "name"), CASES)
def test_a_law_holds(law: Law, name: str) -> None:
    assert broken(law, name) == ""


def test_every_kind_has_its_laws_and_each_says_what_holds() -> None:
    assert {"likelihood", "objective", "model", "network", "variant", "data set", "metric", "study"} == set(LAWS)
    for laws in LAWS.values():
        assert len({law.name for law in laws}) == len(laws)
        assert all(len(law.says) > 20 and law.says[0].isalpha() for law in laws)
        firsts = [law.first for law in laws]
        assert firsts == sorted(firsts, reverse=True), "what the others stand on is tried before them"
