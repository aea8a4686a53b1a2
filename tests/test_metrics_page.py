"""What is written about metrics: parsed from their docstrings, complete, and on a page."""

from __future__ import annotations

import pytest

from vae_variants.evaluation import METRICS
from vae_variants.evaluation.metrics import NOTES, data_name, labelled_notes


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


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.module.startswith("vae_variants.")])
def test_every_metric_of_the_project_says_all_that_a_sceptic_asks(name: str):
    assert list(METRICS[name].notes) == list(NOTES)
    assert all(len(text) > 3 for text in METRICS[name].notes.values())
