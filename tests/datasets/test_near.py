"""Near-duplicates across parts: planted ones are found, different images are not, and the time is not that of all pairs."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from vae_variants.datasets import load_dataset
from vae_variants.datasets.downloads import data_root
from vae_variants.datasets.near import FAR, SMALLEST, looked_at, near_duplicates, neighbours


def scenes(n: int, side: int = 48, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Smooth random images (N, side, side, channels): like photographs, neighbouring pixels are alike."""
    noise = np.random.default_rng(seed).normal(size=(n, side, side, channels))
    smooth = gaussian_filter(noise, (0, side / 12, side / 12, 0))
    low, high = smooth.min((1, 2, 3), keepdims=True), smooth.max((1, 2, 3), keepdims=True)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(images, 3, 1))


def compressed(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=60)
    return np.asarray(Image.open(file))


CHANGES = {
    "same": lambda x: x,
    "jpeg": lambda x: np.stack([compressed(image) for image in x]),
    "darker": lambda x: (x * 0.8).astype(np.uint8),
    "scaled": lambda x: np.stack([np.asarray(Image.fromarray(image).resize((32, 32)).resize((48, 48))) for image in x]),
    "noisy": lambda x: (x + np.random.default_rng(1).normal(0, 3, x.shape)).clip(0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_no_other_image(change):
    train, others = scenes(500), scenes(100, seed=1)
    test = np.concatenate([CHANGES[change](train[:20]), others])
    assert near_duplicates(first(train), first(others)) == 0
    assert 19 <= near_duplicates(first(train), first(test)) <= 20


def test_small_and_flat_images_are_no_near_duplicates():
    small = first(scenes(50, SMALLEST - 1))
    assert near_duplicates(small, small) is None
    least = first(scenes(50, SMALLEST))
    assert near_duplicates(least, least) == 50
    flat = torch.full((50, 1, 20, 20), 7, dtype=torch.uint8)
    assert near_duplicates(flat, flat) == 0


def test_pairs_are_those_of_similar_hashes_and_few():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 20_000, np.uint64)
    hashes[15_000:15_100] = hashes[:100] ^ np.uint64(1 << 40)  # a bit off
    tested = np.arange(20_000) >= 15_000
    pairs = [(a, b) for one, other in neighbours(hashes, tested) for a, b in zip(one, other, strict=True)]
    assert {(15_000 + i, i) for i in range(100)} <= set(pairs) and len(pairs) < 1000
    for one, other in neighbours(hashes, tested):
        assert tested[one].all() and not tested[other].any() and (np.bitwise_count(hashes[one] ^ hashes[other]) <= FAR).all()
    crowded = np.zeros(20_000, np.uint64)  # all alike: still no pair of all with all
    assert sum(len(one) for one, _ in neighbours(crowded, tested)) <= 20_000 * 64


def test_a_hash_tells_where_the_grey_level_rises():
    ramp = np.broadcast_to(np.arange(0, 252, 7, dtype=np.uint8), (36, 36))
    _, (rising, falling) = looked_at(torch.from_numpy(np.stack([ramp, ramp[:, ::-1]]))[:, None], list(ramp.shape))
    assert rising == 2**64 - 1 and falling == 0


@pytest.mark.skipif(not (data_root() / "freyfaces.npz").is_file(), reason="freyfaces.npz is not there")
def test_faces_leak_frame_by_frame_and_not_by_blocks():
    single = load_dataset("freyfaces?block=1").described
    assert "53 of 280 test images have a near-duplicate" in single and "block=50" in single
    assert "near-duplicate" not in load_dataset("freyfaces").described


def test_digits_do_not_leak(mnist):
    shape = mnist.shape
    train, test = (part.unflatten(1, shape) for part in (mnist.train[:15_000], mnist.test[:3_000]))
    assert near_duplicates(train, test) <= 0.001 * len(test)


def test_a_leak_is_said_with_what_to_do(tmp_path):
    frames = scenes(40, 24, channels=1)[..., 0]
    video = np.stack([frames[i // 10] * 0.9 + (i % 10) for i in range(400)])  # ten nearly equal frames of each scene
    np.savez(tmp_path / "video.npz", x=video.clip(0, 255).astype(np.uint8))
    said = load_dataset(f"npz:{tmp_path}/video.npz").described
    assert "57 of 57 test images have a near-duplicate" in said and "block=" in said
    assert "near-duplicate" not in load_dataset(f"npz:{tmp_path}/video.npz?block=10").described
    half = np.arange(400) % 2 == 0
    np.savez(tmp_path / "given.npz", x_train=video[half].astype(np.uint8), x_test=video[~half].astype(np.uint8))
    said = load_dataset(f"npz:{tmp_path}/given.npz").described
    assert "200 of 200 test images" in said and "block=" not in said
