"""Every check of everything that is registered; `--plugin FILE.py` adds one's own. Those of studies are in `test_study_checks`."""

from __future__ import annotations

import pytest

from tests.trying import failure
from vae_variants.checks import CHECKS, Check, checks_of
from vae_variants.cli.registries import registry_of
from vae_variants.components import KINDS
from vae_variants.datasets import DATASETS

ELSEWHERE = {f"vae_variants.datasets.{module}" for module in ("builtin", "factored")}
DOWNLOADED = {name for name in DATASETS if DATASETS[name].__module__ in ELSEWHERE} - {"digits"} | {"freyfaces"}
CASES = [
    pytest.param(check, name, id=f"{kind.replace(' ', '')}-{check.name}-{name}")
    for kind in KINDS
    if kind not in ("study", "suite")
    for check in checks_of(kind)
    for name in registry_of(kind)
    if not (kind == "data set" and name in DOWNLOADED and check.name != "says-what-it-is")
]


@pytest.mark.parametrize(("check", "name"), CASES)
def test_a_check_passes(check: Check, name: str) -> None:
    assert failure(check, name) == ""


def test_every_kind_has_its_checks_and_each_says_what_it_tests() -> None:
    assert set(KINDS) - {"suite"} == set(CHECKS)
    for kind in CHECKS:
        checks = checks_of(kind)
        assert len({check.name for check in checks}) == len(checks)
        assert all(len(check.says) > 20 and check.says[0].isalpha() for check in checks)
        firsts = [check.first for check in checks]
        assert firsts == sorted(firsts, reverse=True), "what the others stand on is tried before them"
