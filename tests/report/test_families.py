"""Families, tags, published figures and other names of variants: true, and in reports."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.made_up import made_up
from vae_variants.analysis.cards import tags
from vae_variants.analysis.entries import Entry
from vae_variants.cli.app import app
from vae_variants.datasets import DATASETS
from vae_variants.harness import RunSpec
from vae_variants.models.base import MODELS, Density
from vae_variants.report.content import content
from vae_variants.report.html import page
from vae_variants.report.readme import readme
from vae_variants.report.variants_page import variants_page
from vae_variants.variants import VARIANTS, configure
from vae_variants.variants.elsewhere import LITERATURE, PYTHAE_MODELS, PYTHAE_SAMPLERS
from vae_variants.variants.published import PUBLISHED

NAMES = ("vae-bernoulli", "vae-vamp", "iwae-64", "vae-bernoulli[latent=7]", "gan")


def named(data: str) -> list[Entry]:
    found = []
    for i, name in enumerate(NAMES):
        record = made_up(RunSpec(configure(name)[0], data, (0, 1, 2), "full"))
        found.append(Entry(name, replace(record, dataset={**record.dataset, "name": data}), index=i))
    return found


def test_every_variant_has_a_family() -> None:
    assert all(variant.family for variant in VARIANTS.values())


@pytest.mark.parametrize("table", [PYTHAE_MODELS, PYTHAE_SAMPLERS, LITERATURE], ids=["models", "samplers", "literature"])
def test_what_stands_for_a_model_elsewhere_is_a_variant(table) -> None:
    for name, here in table.items():
        if not here.startswith("- "):
            assert {re.sub(r" \(.*\)", "", part) for part in here.split(", ")} <= VARIANTS.keys(), name
    assert sum(here.startswith("- ") for here in table.values()) <= 5


def test_a_published_figure_is_of_a_variant_with_a_density_on_binary_images() -> None:
    for (name, data), figure in PUBLISHED.items():
        assert data in DATASETS and -250 < figure.value < -70 and figure.source and figure.unlike
        assert issubclass(MODELS[configure(name)[0].values["model"]], Density)
        assert configure(name)[0].values["likelihood" if "likelihood" in configure(name)[0].values else "model"] in ("bernoulli", *MODELS)


def test_a_published_figure_stands_beside_ours_on_its_own_data_alone() -> None:
    found = content("mnist", named("mnist"), "command")
    (sheet,) = found.likelihood
    column = sheet.columns.index("published")
    shown = {e.label: cells[column].text for e, cells in sheet.rows}
    assert shown == {"vae-bernoulli": "-86.76", "vae-vamp": "-82.43", "iwae-64": "-84.52", "vae-bernoulli[latent=7]": "–"}
    text = page(found)
    assert 'title="Burda et al. 2016, arXiv:1509.00519, table 1. Unlike here: 3280 epochs' in text
    assert "Burda et al. 2016, arXiv:1509.00519, table 1" in readme(found, ())
    other = content("digits", named("digits"), "command")
    assert column not in other.likelihood[0].kept and "nlike here" not in page(other) + readme(other, ())


def test_an_entry_has_the_tags_of_its_parts() -> None:
    found = {e.label: tags(e) for e in named("digits")}
    assert found["vae-vamp"] == ("prior", "vae", "vamp", "bound")
    assert found["iwae-64"] == ("bound", "vae", "iwae", "bound")
    assert found["gan"] == ("adversarial", "gan", "no-likelihood")


def test_the_page_of_variants_is_what_the_registry_makes() -> None:
    kept = Path(__file__).parents[2] / "docs" / "variants.md"
    assert kept.read_text(encoding="utf-8") == variants_page(), "make it with: vae-variants list variants --markdown > docs/variants.md"
    result = CliRunner().invoke(app, ["list", "variants", "--markdown"])
    assert result.exit_code == 0 and result.stdout == variants_page()
