"""The user's own images: arrays in an .npz file, or a folder of pictures."""

import hashlib
from collections import defaultdict

import torch

from vae_variants.datasets.arrays import archive
from vae_variants.datasets.dataset import DATASETS, SPLITS, Dataset
from vae_variants.datasets.division import divided
from vae_variants.datasets.folder import Images, album, plural
from vae_variants.registry import UserError

FEWEST = 30  # images
DARK = 15  # highest level of 256 that is nearly black


def own(name: str, found: Images) -> Dataset:
    """Keeps given parts, and draws a seventh each for missing ones, by class, with copies in one part. One class alone gives no labels."""
    stored, top = found.stored, int(found.stored.max()) if len(found.stored) else 0
    if len(stored) < FEWEST:
        raise UserError(f"data set {name!r} has {plural(len(stored), 'image')}; at least {FEWEST} are needed")
    classes = {c: i for i, c in enumerate(sorted(set(found.classes or ())))}
    labels = [classes[c] for c in found.classes] if found.classes and len(classes) > 1 else None
    copies = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in stored]
    rows = divided(found.parts, copies, labels)
    train, validation, test = (stored[rows[part]].flatten(1) for part in SPLITS)
    if not rows["train"]:
        raise UserError(f"data set {name!r} has no training image left; give fewer of its {len(stored)} images to validation and test")
    notes = [found.read] if found.read else []
    notes += [f"the brightest pixel is {top} of 255: nearly black"] if found.levels == 256 and top <= DARK else []
    notes += same(copies, labels)
    return Dataset(
        name,
        tuple(stored.shape[1:]),  # type: ignore[arg-type]
        found.levels,
        train,
        validation,
        test,
        classes=None if labels is None else tuple(map(str, classes)),
        labels=None if labels is None else {part: torch.tensor([labels[row] for row in rows[part]]) for part in SPLITS},
        ids={part: tuple(found.ids[row] for row in index) for part, index in rows.items()},
        read="; ".join(notes),
    )


def same(copies: list[bytes], labels: list[int] | None) -> list[str]:
    """What is to be said of exact copies."""
    groups = defaultdict[bytes, list[int]](list)
    for row, copy in enumerate(copies):
        groups[copy].append(row)
    more = len(copies) - len(groups)
    torn = 0 if labels is None else sum(len({labels[row] for row in group}) > 1 for group in groups.values())
    notes = [f"{plural(more, 'image is an exact copy', 'images are exact copies')} of others"] if more else []
    return notes + ([f"copies of {plural(torn, 'image')} are in several classes"] if torn else [])


@DATASETS.add
def npz(path: str) -> Dataset:
    """npz:FILE with an array `x` of images (N, H, W), (N, C, H, W) or (N, H, W, C) and, if known, labels `y` (N,)"""
    return own(f"npz:{path}", archive(path))


@DATASETS.add
def images(path: str, size: int = 28, grey: bool = True, labels: bool = True, broken: str = "refuse") -> Dataset:
    """images:FOLDER of pictures, one subfolder per class; ?size=28&grey=true set the pixels per side and the colour

    Pictures are cropped to a centred square. `labels=false` ignores subfolders. `broken=skip` leaves out unreadable pictures instead of
    refusing. If folders such as train, val and test exist side by side, they hold these parts.
    """
    return own(f"images:{path}", album(path, size, grey, labels, broken))
