"""What is written about metrics: parsed from their docstrings, complete, and on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vae_variants.cli.app import app
from vae_variants.evaluation import METRICS, Metric
from vae_variants.evaluation.metrics import NOTES, data_name, labelled_notes, with_constants
from vae_variants.evaluation.sharpness import RESOLVED
from vae_variants.report.metrics_page import anchor, metrics_page

OWN = [m for m in METRICS.values() if m.module.startswith("vae_variants.")]  # and not a plug-in's


def test_notes_are_the_labelled_paragraphs_after_the_first_line():
    text = """first: line

    Free text, and a colon: here.

    Formula: a + b
    over two lines: the second too
    Fails:
    often

    More free text.
    Reference: none
    """
    found = labelled_notes(text)
    assert found == {"Formula": "a + b over two lines: the second too", "Fails": "often", "Reference": "none"}
    assert labelled_notes("Formula: the first line is the description") == {}
    with pytest.raises(ValueError, match="'Fails' is there twice"):
        labelled_notes("what\n\nFails: so\nFails: or so")


def test_a_published_name_has_the_data_set_in_it():
    names = {
        "digits": "digits",
        "mnist?static=true": "mnist",
        "fashion-mnist": "fashionmnist",
        "npz:some/where/My shapes_2.npz": "myshapes2",
        "images:/photos/Cats.v1/?size=32&grey=false": "cats",
        "npz:---.npz": "npz",
    }
    assert {name: data_name(name) for name in names} == names
    assert METRICS["fd_cnn"].published_for("mnist?static=true") == "fd-mnistcnn"
    assert METRICS["elbo"].published_for("mnist") == "elbo"


@pytest.mark.parametrize("name", [m.name for m in OWN])
def test_every_metric_of_the_project_says_all_that_a_sceptic_asks(name: str):
    assert list(METRICS[name].notes) == list(NOTES)
    assert all(text for text in METRICS[name].notes.values())


def test_the_page_at_the_root_is_what_the_documentation_makes():
    page = Path(__file__).parents[2] / "METRICS.md"
    assert page.read_text(encoding="utf-8") == metrics_page(OWN), "make it with: vae-variants list metrics --markdown > METRICS.md"


def test_the_command_prints_the_page_as_it_is():
    result = CliRunner().invoke(app, ["list", "metrics", "--markdown"])
    assert result.exit_code == 0
    assert result.stdout == metrics_page(METRICS.values())
    assert CliRunner().invoke(app, ["list", "models", "--markdown"]).exit_code == 2


def test_the_page_has_everything_and_its_links_lead_somewhere():
    page = metrics_page(OWN)
    headings = re.findall(r"^#{2,3} (.+)$", page, re.MULTILINE)
    assert [h.strip("`") for h in headings if h.startswith("`")] == [m.name for m in OWN]
    anchors = {anchor(h.replace("`", "")) for h in headings}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert set(links) == anchors
    assert len(headings) == len(anchors)
    for m in OWN:
        part = page.split(f"### `{m.name}`\n")[1].split("\n### ")[0]
        assert all(f"**{label}**" in part for label in NOTES)
        assert all(f"`{need.__name__}`" in part for need in m.needs)
        assert f"`{m.notes['Formula'].replace('`', '').rstrip('.')}`" in part
    assert "*kind* exact or lower bound;" in page.split("### `log_likelihood`\n")[1].split("\n### ")[0]


def test_a_metric_without_notes_is_on_the_page_too():
    bare = Metric("mine", lambda e: 0.0, (), "a*b", "none", "estimate", lambda e: True, "what_it `is_a`", module="nowhere.mine")
    page = metrics_page([bare])
    assert "## mine\n" in page
    assert "\nwhat_it `is_a`.\n" in page
    assert "*Unit* a\\*b; neither direction is better; *kind* estimate; *needs* nothing." in page
    assert "Formula" not in page


def test_limits_in_the_text_are_those_of_the_code():
    assert with_constants("under {RESOLVED} of {MANY}, {data}", {"RESOLVED": 0.4, "MANY": 10_000}) == "under 0.4 of 10 000, {data}"
    assert f"Values under {RESOLVED:g} become 0" in METRICS["blur_sigma"].notes["Sample size"]
