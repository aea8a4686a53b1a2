"""Pictures of a run, of the same images and noise for every variant, and the grids that a page shows of them."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA

from tests.drawn import HOSTILE, entries, parsed
from tests.report.test_strangers import accepted
from vae_variants.analysis.entries import LOOKS, distinct
from vae_variants.datasets import load_dataset, split
from vae_variants.datasets.dataset import SPLITS
from vae_variants.evaluation import FIDELITIES, Evaluation
from vae_variants.harness.pictures import (
    BETWEEN,
    OF_CLASS,
    PATHS,
    SHEET,
    STEPS,
    UNITS,
    bytes_of,
    contact_sheet,
    pictures,
    spherical,
    straight,
)
from vae_variants.report.drawing import grid, shortened
from vae_variants.report.figures import FIGURES
from vae_variants.report.grids import BESIDE, NUMBERS, SIDES, affordable, kept
from vae_variants.report.svg import markup
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 6, 6)])
def test_a_grid_holds_the_images_as_they_are(shape):
    images = torch.randint(0, 256, (5, math.prod(shape)), dtype=torch.uint8)
    found = grid(images, shape, 3)
    _, h, w = shape
    assert found.shape == (2 * h + 1, 3 * w + 2, 4)
    for i, image in enumerate(images):
        top, left = (i // 3) * (h + 1), (i % 3) * (w + 1)
        assert (found[top : top + h, left : left + w, :3] == image.view(shape).permute(1, 2, 0).numpy()).all()
    assert (found[:h, :w, 3] == 255).all()
    assert (found[h, :, 3] == 0).all() and (found[h + 1 :, 2 * (w + 1) :, 3] == 0).all()
    assert grid(images[:1], shape, 3).shape == (h, w, 4)


@given(st.integers(1, 20_000), st.integers(1, LOOKS))
def test_pictures_of_many_variants_show_fewer_images(size, variants):
    n = affordable([s * s for s in SIDES], size, variants)
    assert n * size * variants <= NUMBERS or n == 1
    more = [s * s for s in SIDES if s * s > n]
    assert all(m * size * variants > NUMBERS for m in more)


def evaluated(selector: str, dataset, seed: int = 0) -> Evaluation:
    """Barely trained: what it draws must not depend on that."""
    (configuration,) = configure(selector)
    population = Population(lambda: build(configuration, dataset), (seed,))
    training = Training(population, dataset.as_(configuration.support), replace(configuration.recipe, epochs=1), dataset.digest)
    training.run_epoch()
    (member,) = training.population.members()
    return Evaluation(member, dataset, seed, FIDELITIES["smoke"])


@pytest.fixture(scope="module")
def small():
    return load_dataset("digits").subset(200, 60)


@pytest.mark.parametrize("selector", ["vae[hidden=8,latent=12]", "ae[hidden=8,latent=3]", "vae[likelihood=gaussian,hidden=8,latent=2]"])
def test_a_traversal_goes_through_the_reconstruction_of_the_first_test_image(selector, small):
    e = evaluated(selector, small)
    found, x = pictures(e), small.grey()[:1]
    units = found["traversal_units"].tolist()
    codes = e.codes["test"]
    assert len(units) == min(UNITS, codes.shape[1]) == len(set(units))
    spread = codes.std(0, correction=0)
    assert spread[units].tolist() == sorted(spread.tolist(), reverse=True)[: len(units)]
    steps = found["traversal"].unflatten(0, (len(units), len(STEPS))).int()
    with torch.no_grad():
        z = e.model.encode(x)
        for row, unit in zip(steps, units, strict=True):
            for image, step in zip(row, STEPS, strict=True):
                moved = z.clone()
                moved[:, unit] += step * spread[unit]
                assert (bytes_of(e.model.decode(moved))[0].int() - image).abs().max() <= 1  # a batch rounds differently
        middle = bytes_of(e.model.decode(z))[0].int()
    assert (steps[:, STEPS.index(0.0)] - middle).abs().max() <= 1
    assert (found["reconstructions"][0].int() - middle).abs().max() <= 1
    assert (steps[0, 0] != steps[0, -1]).any()


@pytest.mark.parametrize("selector", ["vae[hidden=8,latent=12]", "ae[hidden=8,latent=3]"])
def test_interpolations_go_from_one_reconstruction_to_the_other_by_two_paths(selector, small):
    e = evaluated(selector, small)
    found = pictures(e)["interpolations"].unflatten(0, (PATHS, 2, BETWEEN)).int()
    with torch.no_grad():
        z = e.model.encode(small.grey()[: 2 * PATHS])
        ends = bytes_of(e.model.decode(z)).int().unflatten(0, (PATHS, 2))
        step = 2 / (BETWEEN - 1)  # the third image of a path
        for pair, (a, b) in zip(found, z.unflatten(0, (PATHS, 2)), strict=True):
            w = math.acos(torch.dot(a.double(), b.double()) / (a.double().norm() * b.double().norm()))
            shares = [(1 - step, step), (math.sin((1 - step) * w) / math.sin(w), math.sin(step * w) / math.sin(w))]
            for path, (of_a, of_b) in zip(pair, shares, strict=True):
                assert (path[2] - bytes_of(e.model.decode((of_a * a + of_b * b)[None]))[0].int()).abs().max() <= 1
    assert (found[:, :, 0] - ends[:, None, 0]).abs().max() <= 1 and (found[:, :, -1] - ends[:, None, 1]).abs().max() <= 1


def test_a_path_on_a_sphere_stays_on_it_at_equal_angles_and_is_straight_without_an_angle():
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 3.0])
    path = spherical(a, b)
    torch.testing.assert_close(path.norm(dim=1), torch.full((BETWEEN,), 3.0))
    angles = torch.nn.functional.cosine_similarity(path[:-1], path[1:]).arccos()
    torch.testing.assert_close(angles, torch.full((BETWEEN - 1,), math.pi / 2 / (BETWEEN - 1)), rtol=1e-3, atol=1e-3)
    for other in (2 * a, -a, torch.zeros(3), a):
        assert torch.equal(spherical(a, other), straight(a, other)) and spherical(a, other).isfinite().all()


def test_variants_show_the_same_images_made_of_the_same_noise(small):
    one, other = evaluated("vae[hidden=8,latent=6]", small), evaluated("vae[objective=iwae,samples=4,hidden=16,latent=6]", small)
    found = [pictures(e) for e in (one, other)]
    assert (found[0]["originals"] == found[1]["originals"]).all()
    assert (found[0]["originals"] == bytes_of(small.grey()[: len(found[0]["originals"])])).all()
    for e, shown in zip((one, other), found, strict=True):
        with one.noise("samples"):
            z = one.model.draw_prior(e.fidelity.image_samples)
        with torch.no_grad():
            expected = bytes_of(e.model.decode(z))[: len(shown["samples"])]
        assert (expected.int() - shown["samples"].int()).abs().max() <= 1
    assert (found[0]["samples"] != found[1]["samples"]).any()
    again = pictures(evaluated("vae[hidden=8,latent=6]", small))
    assert all((found[0][name] == again[name]).all() for name in found[0])


def test_the_plane_is_of_the_codes_or_of_their_principal_components(small):
    for latent in (2, 9):
        e = evaluated(f"ae[hidden=8,latent={latent}]", small)
        found, codes = pictures(e), e.codes["test"].numpy()
        assert (found["latent_labels"] == small.labels["test"]).all()
        if latent == 2:
            assert found["latent"].numpy() == pytest.approx(codes, rel=1e-5)
            assert "latent_share" not in found
        else:
            pca = PCA(2).fit(codes)
            assert np.abs(found["latent"].numpy()) == pytest.approx(np.abs(pca.transform(codes)), abs=1e-4)
            assert found["latent_share"].numpy() == pytest.approx(pca.explained_variance_ratio_, rel=1e-4)


def test_codes_that_cannot_be_moved_or_have_no_decoder_are_not_traversed(small):
    assert "traversal" not in pictures(evaluated("vae-categorical[hidden=8,categories=4]", small))
    (projection,) = configure("reference-random-projection")
    found = pictures(Evaluation(build(projection, small), small, 0, FIDELITIES["smoke"]))
    assert set(found) == {"latent", "latent_share", "latent_labels"}


@pytest.mark.parametrize(("name", "key"), [("samples", "samples"), ("reconstructions", "reconstructions"), ("traversals", "traversal")])
def test_figures_show_what_the_records_have(name, key):
    group = entries(8)
    body = parsed(markup(FIGURES[name].draw(group), name))
    drawn = {e.get("data-variant"): e.find(".//image") for e in body.iter() if e.get("data-variant")}
    assert set(drawn) == {e.label for e in distinct(group)}
    for e in group:
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn[e.label].get("href").partition(",")[2]))))
        assert found.shape[-1] == 2, "grey images have no colours"
        assert (found[:8, :8, 0].ravel() == e.pictures[key][0].numpy()).all()


@pytest.mark.parametrize("labelled", [True, False])
def test_a_contact_sheet_has_the_first_images_of_each_part_and_class(labelled, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, **({"y": np.array(["cat", "dog", "dog"] * 30)} if labelled else {}))
    data = load_dataset(f"npz:{tmp_path}/a.npz")
    sheet = contact_sheet(data)
    for part, name in enumerate(SPLITS):
        for c in range(2) if labelled else (-1,):
            images = getattr(data, name)[data.labels[name] == c] if labelled else getattr(data, name)
            chosen = (sheet["contact_rows"] == torch.tensor([part, c])).all(1)
            assert torch.equal(sheet["contact"][chosen], images[:SHEET]) and 0 < chosen.sum() <= SHEET
    assert contact_sheet(load_dataset("digits")) == {}
    group = entries(4)
    assert FIGURES["contact_sheet"].draw(group) is None
    group = [replace(e, record=replace(e.record, dataset=data.recorded()), load=(e.pictures | sheet).copy) for e in group]
    body = parsed(markup(FIGURES["contact_sheet"].draw(group), "contact_sheet"))
    kinds = [f"{part}, {name}" for part in SPLITS for name in ("cat", "dog")] if labelled else list(SPLITS)
    assert {e.findtext("title") for e in body.iter("g")} - {None} == set(kinds)
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(e.get("href").partition(",")[2])))) for e in body.iter() if e.get("href")]
    assert len(pictures) == len(kinds) and (pictures[0][:8, :8, 0].ravel() == sheet["contact"][0].numpy()).all()
    assert sum("contact" in shown for shown in kept(group).values()) == 1  # an archive needs no more


def test_samples_of_a_class_are_decoded_from_it_and_the_noise_of_their_column(small):
    e = evaluated("conditional-vae[hidden=8,latent=3]", small)
    found = pictures(e)["classes"].unflatten(0, (10, OF_CLASS)).int()
    with e.noise("classes"):
        v = torch.randn(OF_CLASS, 3)
        expected = [e.model.decode(torch.cat([torch.eye(10)[[c] * OF_CLASS], v], -1)) for c in range(10)]
    assert (bytes_of(torch.stack(expected)).int() - found).abs().max() <= 1
    assert (found[0] != found[1]).any() and (found[0, 0] != found[0, 1]).any()
    assert "classes" not in pictures(evaluated("vae[hidden=8,latent=3]", small))


def test_a_row_of_samples_has_the_name_of_its_class(entry):
    images = torch.randint(0, 256, (3 * OF_CLASS, 64), dtype=torch.uint8)
    record = replace(entry.record, dataset=entry.record.dataset | {"class_names": ["cat", HOSTILE, "dog"]})
    own = replace(entry, record=record, load=lambda: {"classes": images})
    other = replace(entry, load=lambda: {"samples": images})
    (svg,) = parsed(markup(FIGURES["samples_by_class"].draw([own, other]), "x")).iter("svg")
    words = [e.text for e in svg.iter("text")]
    assert words[:2] == ["cat", shortened(HOSTILE, BESIDE)] and words[2] == "dog"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(svg.find(".//image").get("href").partition(",")[2]))))
    assert (picture[9:17, 9:17, 0].ravel() == images[OF_CLASS + 1].numpy()).all(), "second class, second sample"
    assert FIGURES["samples_by_class"].draw([other]) is None


@pytest.fixture(scope="module")
def entry():
    return entries(4)[1]


@pytest.mark.filterwarnings("ignore:Glyph")
@given(names=st.lists(st.text(max_size=12), min_size=2, max_size=16, unique=True))
@settings(max_examples=8, deadline=None)
@example(names=[HOSTILE, "`a|b", "$x$", "\ud800", "\x1b[31m\n", "猫", "null"])
def test_classes_have_the_names_that_the_data_set_gave_them(entry, names):
    images, labels = torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.arange(40) % len(names)
    data = split("mine", images, labels, classes=names, validation=5, test=5).recorded()
    entry.pictures["latent_labels"].copy_(torch.arange(30) % len(names))
    record = replace(entry.record, dataset=data)
    assert accepted(record.to_json())
    key, plane = drawn_components(replace(entry, record=record))
    shown = ["".join(c if c.isprintable() and c not in "`|" else "?" for c in name) for name in names]
    assert key.findtext("desc") == f"{len(names)} classes: {', '.join(shown)}"
    assert {e.findtext("title") for e in plane.iter("g")} - {None} == {f"class {name}" for name in shown}
    written = [e.text for e in key.iter("text") if e.text][:-1]  # the title is last
    assert all("…" in text or text == name.strip() for text, name in zip(written, filter(str.strip, shown), strict=True))


def test_classes_have_numbers_in_a_record_without_names(entry):
    key, _ = drawn_components(entry)
    assert [e.text for e in key.iter("text")][:-1] == list(map(str, sorted(set(entry.pictures["latent_labels"].tolist()))))


def drawn_components(entry):
    return parsed(markup(FIGURES["latent_components"].draw([entry]), "x")).iter("svg")
