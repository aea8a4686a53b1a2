"""What every study promises, over the registry; `--plugin FILE.py` adds one's own."""

from __future__ import annotations

import pytest

from tests.trying import failure
from vae_variants.checks import CHECKS, Check
from vae_variants.studies import STUDIES, load_claims

load_claims()


pytestmark = pytest.mark.usefixtures("smaller_smoke")


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("check", CHECKS["study"], ids=lambda check: check.name)
def test_a_check_of_studies_passes(check: Check, name: str) -> None:
    assert failure(check, name) == ""
