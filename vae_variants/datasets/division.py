"""Training, validation and test part of the user's images: each class in each part, and copies of an image in one part."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch

from vae_variants.datasets.dataset import SPLIT_SEED, SPLITS

SHARE = 7  # validation and test part have a seventh each

Unit = list[int]  # rows of one image and its copies


def divided(parts: Sequence[str], copies: Sequence[bytes], labels: Sequence[int] | None) -> dict[str, list[int]]:
    """Row numbers of each part.

    Args:
        parts: The given part of each image, or an empty text.
        copies: Digest of each image.
        labels: Class of each image.

    Returns:
        Given validation and test images stay so. Missing parts are drawn from the others, by class.
    """
    given = {part: [i for i, p in enumerate(parts) if p == part] for part in SPLITS[1:]}
    free = [i for i, part in enumerate(parts) if part not in given]
    count = {part: max(1, len(free) // SHARE) for part in ("test", "validation") if not given[part]}
    order = [free[i] for i in torch.randperm(len(free), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()]
    units = defaultdict[bytes, Unit](list)
    for row in order:
        units[copies[row]].append(row)
    ways = ((list(units.values()), labels), (list(units.values()), None), ([[row] for row in order], None))
    tries = (draw(group, known, count) for group, known in ways)  # without classes or copies if too few images differ in them
    drawn: dict[str, list[int]] = next((found for found in tries if all(found.values())), {part: [] for part in count})
    part_of = {row: part for part, rows in drawn.items() for row in rows}
    return {part: given.get(part) or [row for row in order if part_of.get(row, "train") == part] for part in SPLITS}


def draw(units: Sequence[Unit], labels: Sequence[int] | None, count: Mapping[str, int]) -> dict[str, list[int]]:
    """About `count` rows for each part, of each class in proportion. One image of each class, with its copies, is left."""
    classes = defaultdict[int, list[Unit]](list)
    for unit in units:
        classes[labels[unit[0]] if labels is not None else 0].append(unit)
    found: dict[str, list[int]] = {}
    for part, total in count.items():
        wanted = apportioned(total, {c: sum(map(len, group)) for c, group in classes.items() if len(group) > 1})
        found[part] = []
        for c, group in classes.items():
            left, kept = len(group) - 1, list[Unit]()
            for unit in group:
                if left and len(unit) <= wanted[c]:
                    found[part] += unit
                    wanted[c], left = wanted[c] - len(unit), left - 1
                else:
                    kept.append(unit)
            classes[c] = kept
    return found


def apportioned(total: int, sizes: Mapping[int, int]) -> Counter[int]:
    """`total` shared in proportion to `sizes`, by largest remainders, then with at least one for each class as far as that goes."""
    ideal = {c: total * n / sum(sizes.values()) for c, n in sizes.items()}
    found = Counter({c: int(share) for c, share in ideal.items()})
    for c in sorted(sizes, key=lambda c: int(ideal[c]) - ideal[c])[: total - found.total()]:
        found[c] += 1
    for c in sizes:
        richest = max(found, key=found.__getitem__)
        if not found[c] and found[richest] > 1:
            found[c], found[richest] = 1, found[richest] - 1
    return found
