"""Data with factors: drawn sprites against geometry, and factors of the user's own images."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from vae_variants.datasets import Dataset, load_dataset, split
from vae_variants.datasets.dataset import SPLITS
from vae_variants.registry import UserError

DIGESTS = {  # of images, factors and parts: the same on every machine
    "sprites?size=16": "89c5d2554911",
    "sprites": "b60ca34d5543",
    "sprites-colour?size=16": "d04723a0fede",
}


@lru_cache(maxsize=8)
def ordered(spec: str) -> np.ndarray:
    """All images by their factors: (size of each factor ..., channels, side, side)."""
    data = load_dataset(spec)
    images = np.concatenate([getattr(data, part).numpy() for part in SPLITS])
    values = np.concatenate([data.factors.values[part].numpy() for part in SPLITS])
    rows = np.ravel_multi_index(values.T, data.factors.sizes)
    assert sorted(rows.tolist()) == list(range(math.prod(data.factors.sizes))), "every combination is there once"
    return images[rows.argsort()].reshape(*data.factors.sizes, *data.shape)


@pytest.mark.parametrize("spec", DIGESTS)
def test_drawn_images_are_the_same_on_every_machine_and_all_different(spec: str):
    data = load_dataset(spec)
    assert data.digest.startswith(DIGESTS[spec])
    images = torch.cat([getattr(data, part) for part in SPLITS]).numpy()
    assert len({image.tobytes() for image in images}) == len(images)
    names = data.factors.names
    assert torch.equal(data.labels["test"], data.factors.values["test"][:, names.index("shape")])
    assert f"{len(names)} factors (" in data.described
    assert data.recorded()["factors"] == list(names)


@pytest.mark.parametrize(("small", "large"), [("sprites?size=16", "sprites"), ("sprites-colour?size=16", "sprites-colour")])
def test_a_smaller_image_is_the_larger_one_by_means_of_four_pixels(small: str, large: str):
    few, many = (ordered(spec).reshape(-1, ordered(spec).shape[-3], side, side)[::37] for spec, side in ((small, 16), (large, 32)))
    means = many.reshape(*many.shape[:2], 16, 2, 16, 2).mean((3, 5))
    assert np.abs(means - few).max() <= (1 if small.startswith("sprites?") else 2)  # of a wall's shade and of a colour, both rounded


def area(corners: np.ndarray) -> float:
    """Of a polygon (n, 2)."""
    x, y = corners.T
    return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


def test_sprites_move_turn_and_grow_as_their_factors_say():
    images = ordered("sprites")[..., 0, :, :]  # shape, scale, orientation, y, x
    assert np.array_equal(images[..., 3, 4, :, :-1], images[..., 3, 5, :, 1:]), "one pixel to the right"
    assert np.array_equal(images[..., 3, 4, :-1, :], images[..., 4, 4, 1:, :]), "one pixel down"
    middle = images[:, :, :, 7, 7]
    centred = middle[..., :31, :31]  # the centre of the shape is that of pixel 15
    quarter = np.roll(np.rot90(centred, -1, axes=(-2, -1)), 4, axis=2)
    assert np.array_equal(quarter, centred), "four orientations on it is turned by 90 degrees, clockwise"
    mass = middle.sum((-2, -1), dtype=int) / 255 * 64  # in samples
    radii = np.array([28, 34, 40, 46, 52])
    triangle = area(np.array([(0, -1), (-0.7, 0.8), (0.7, 0.8)]))
    half_disc = math.pi / 2 + 0.1 * math.sqrt(0.99) + math.asin(0.1)
    for shape, unit in ((1, triangle), (2, half_disc)):
        np.testing.assert_allclose(mass[shape].mean(1), unit * radii**2, rtol=0.01)


def test_solids_are_shaded_from_the_side_of_the_light_and_coloured_by_their_hue():
    images = ordered("sprites-colour")  # hue, ground, shape, scale, light, x
    ball = images[:, :, 0, :, :, 3].astype(int)
    around = ball[..., 7:22]  # its centre is that of pixel 14
    assert np.array_equal(around[:, :, :, 0], around[:, :, :, 4, ..., ::-1]), "a light from the other side is a mirror"
    red = around[0, 0, 3, 0, 0]
    assert red[16, 11] > red[16, 3] + 60, "the light comes from the right"
    one, other = images[0], images[4]
    assert (one != other).any((-3, -2, -1)).all(), "a hue shows in every image"
    assert np.array_equal(one[..., 0, :], other[..., 0, :]), "and only on the solid"


def test_parts_and_subsets_keep_their_factors():
    data = load_dataset("sprites?size=16&train=1000")
    whole = ordered("sprites?size=16")
    for found in (data, data.subset(100, 50), data.without_test()):
        for part in SPLITS:
            values = found.factors.values[part]
            expected = whole[tuple(values.numpy().T)].reshape(len(values), -1)
            assert np.array_equal(getattr(found, part).numpy(), expected)
    assert data.sizes["train"] == 1000
    with pytest.raises(UserError, match="size=20 is not valid; it takes 16, 32, 64"):
        load_dataset("sprites?size=20")


def made(factors: dict[str, torch.Tensor] | None) -> Dataset:
    images = torch.arange(60 * 4, dtype=torch.uint8).reshape(60, 1, 2, 2)
    return split("made", images, validation=10, test=10, factors=factors)


def test_the_digest_sees_factors_and_without_them_is_what_it_was():
    a, b = torch.arange(60) % 3, torch.arange(60) % 5
    digests = [made(f).digest for f in (None, {"a": a}, {"b": a}, {"a": b}, {"a": a, "b": b})]
    assert len(set(digests)) == 5
    assert replace(made({"a": a}), factors=None).digest == digests[0]
    assert "factors" not in made(None).recorded()
    with pytest.raises(UserError, match="not each factor of each of its 60 images"):
        made({"a": a[:50]})


def images(n: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 6, 5), dtype=np.uint8)


def test_factors_of_an_npz_are_numbered_in_order_and_follow_their_images(tmp_path):
    x, kind, angle = images(), np.array(["b", "a"] * 35), np.linspace(0, 9, 10).repeat(7)
    table = np.stack([kind, angle.astype(str), np.full(70, "same")], 1)
    np.savez(tmp_path / "a.npz", x=x, factors=table, factor_names=np.array(["kind", "angle", "nothing"]))
    data = load_dataset(f"npz:{tmp_path}/a.npz")
    assert data.factors.names == ("kind", "angle") and data.factors.sizes == (2, 10)
    assert "factor nothing is constant and left out" in data.read
    rows = {image.tobytes(): (int(k == "b"), int(a)) for image, k, a in zip(x, kind, angle, strict=True)}
    for part in SPLITS:
        assert [rows[i.numpy().tobytes()] for i in getattr(data, part)] == [tuple(v) for v in data.factors.values[part].tolist()]


def test_factors_of_parts_share_their_numbers(tmp_path):
    parts = {"train": [0.5, 2.5], "test": [1.5, 2.5]}
    arrays = {f"x_{part}": images(40 + i) for i, part in enumerate(parts)}
    factors = {f"factors_{p}": np.resize(values, (len(arrays[f"x_{p}"]), 1)) for p, values in parts.items()}
    np.savez(tmp_path / "a.npz", **arrays, **factors)
    data = load_dataset(f"npz:{tmp_path}/a.npz")
    assert data.factors.names == ("factor 0",) and data.factors.sizes == (3,)
    assert set(data.factors.values["test"].unique().tolist()) == {1, 2}


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"factors": np.zeros(70, int)}, r"factors has shape \(70,\)"),
        ({"factors": np.zeros((60, 2), int)}, "for 70 images"),
        ({"factors": np.arange(140).reshape(70, 2) % 3, "factor_names": np.array(["a", "a"])}, "2 factors and 1 different"),
        ({"factors": np.full((70, 1), np.nan)}, "all finite"),
    ],
)
def test_factors_that_do_not_fit_get_one_clear_line(arrays, says, tmp_path):
    np.savez(tmp_path / "a.npz", x=images(), **arrays)
    with pytest.raises(UserError, match=says) as error:
        load_dataset(f"npz:{tmp_path}/a.npz")
    assert "\n" not in str(error.value)
