"""What every study promises, over the registry; `--plugin FILE.py` adds one's own."""

from __future__ import annotations

import pytest

from tests.trying import broken
from vae_variants.checks import LAWS, Law
from vae_variants.studies import STUDIES, load_claims

load_claims()


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("law", LAWS["study"], ids=lambda law: law.name)
def test_a_law_of_studies_holds(law: Law, name: str) -> None:
    assert broken(law, name) == ""
