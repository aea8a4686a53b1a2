"""Images in their stored levels, and in the support of a model."""

import hashlib
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from vae_variants.datasets.levels import Images, Levels, binarised, images, some
from vae_variants.isolation import shared
from vae_variants.models.likelihoods import Support
from vae_variants.registry import Registry, UserError

SPLITS = ("train", "validation", "test")
SPLIT_SEED = 0
BINARISATION_SEED = 777  # of validation and test images
CLASSES = 8  # that are listed with their counts
NAMED = 32  # classes whose names a record keeps
LONGEST = 100  # characters of such a name


@dataclass(frozen=True)
class Data:
    """Images (N, D) as float32 in [0, 1], in one support.

    If `dynamic`, `train` holds P(pixel = 1), to be binarised anew at every presentation. `labels` (N,) are the numbers of the `classes` of
    the training images. Parts that would be over 1 GiB stay in their levels: see `levels`.
    """

    support: Support
    train: Images
    validation: Images
    test: Images
    dynamic: bool
    labels: Tensor | None = None
    classes: int = 0


@dataclass(frozen=True, eq=False)
class Factors:
    """What the images were made from: F factors of finitely many values each.

    Attributes:
        names: Of the factors.
        sizes: Number of values of each.
        values: Split -> int64 (N, F), from 0 to the size less 1.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    values: dict[str, Tensor]

    def picked(self, rows: Mapping[str, Tensor]) -> Self:
        """Those of some images of each split."""
        return replace(self, values={name: self.values[name][index] for name, index in rows.items()})

    @property
    def shown(self) -> list[str]:
        """Their names as a record keeps them."""
        return [printable(name, "`|")[:LONGEST] for name in self.names]

    @property
    def described(self) -> str:
        return f"{len(self.names)} factors ({', '.join(f'{n} {size}' for n, size in zip(self.names, self.sizes, strict=True))})"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Fixed splits of images (N, D), uint8 levels 0 .. levels - 1, D = C * H * W in that order, with their labels.

    If `static`, training images are binarised once, like the others.
    """

    name: str
    shape: tuple[int, int, int]
    levels: int
    train: Tensor
    validation: Tensor
    test: Tensor
    labels: dict[str, Tensor] | None = None  # split -> int64 (N,)
    classes: tuple[str, ...] | None = None
    static: bool = False
    ids: dict[str, tuple[str, ...]] | None = None  # split -> name of each image in its source
    read: str = ""  # what was read of the user's own images, in words
    factors: Factors | None = None

    @property
    def dim(self) -> int:
        return math.prod(self.shape)

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(getattr(self, name)) for name in SPLITS}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that can change a figure: images, labels, factors, splits, shape, levels, `static`."""
        digest = hashlib.sha256(repr((self.shape, self.levels, self.static, self.sizes)).encode())
        for name in SPLITS:
            digest.update(np.ascontiguousarray(getattr(self, name).numpy()).ravel().data)
            if self.labels is not None:
                digest.update(self.labels[name].numpy().tobytes())
            if self.factors is not None:
                digest.update(repr((self.factors.names, self.factors.sizes)).encode() + self.factors.values[name].numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def copies(self) -> int:
        """Number of test images that are exact copies of a training image."""
        train = set(fingers(self.train))
        return sum(finger in train for finger in fingers(self.test))

    @cached_property
    def described(self) -> str:
        """One printable line: shape, levels, parts, classes, factors, copies, and what was read."""
        parts = [f"{'×'.join(map(str, self.shape))} pixels in {self.levels} levels"]
        parts += [f"{' / '.join(map(str, self.sizes.values()))} training, validation and test images"]
        if self.labels is not None and self.classes is not None:
            counts = torch.stack([self.labels[part].bincount(minlength=len(self.classes)) for part in SPLITS], 1).tolist()
            each = [f"{name} {'/'.join(map(str, n))}" for name, n in zip(self.classes, counts, strict=False)]
            more = [f"{len(each) - CLASSES} more"] if len(each) > CLASSES else []
            parts += [f"{len(self.classes)} classes ({', '.join([*each[:CLASSES], *more])})"]
            largest = max(n[-1] for n in counts) / len(self.test)
            parts += [f"{100 * largest:.1f} % of the test images are of the largest class"]
        parts += [self.factors.described] if self.factors is not None else []
        parts += [f"{self.copies} test images are exact copies of training images"] if self.copies else []
        return printable("; ".join([*parts, *([self.read] if self.read else [])]))

    @lru_cache(maxsize=2)  # noqa: B019  (keeps the last two data sets alive, and no more)
    def as_(self, support: Support) -> Data:
        """The images in `support`: levels / (levels - 1); `BINARY` samples from those as probabilities.

        A fixed seed binarises validation and test images once, and training images too if `static`.
        """
        parts = {name: self.images(name) for name in SPLITS}
        if support is Support.BINARY:
            for i, name in enumerate(SPLITS):
                if name != "train" or self.static:
                    generator = torch.Generator().manual_seed(BINARISATION_SEED + i)
                    parts[name] = binarised(parts[name], generator)
        labels = None if self.labels is None else self.labels["train"]
        dynamic = support is Support.BINARY and not self.static
        return handed_out(Data(support, **parts, dynamic=dynamic, labels=labels, classes=len(self.classes or ())))

    def grey(self, name: str = "test") -> Tensor:
        """One split as float32 (N, D) in [0, 1], independent of the model's support."""
        return getattr(self, name).float() / (self.levels - 1)

    def images(self, name: str) -> Images:
        """As `grey`, but in stored levels if it would be over 1 GiB."""
        return images(getattr(self, name), self.levels - 1)

    @cached_property
    def on_dark(self) -> Self:
        """These images, or their negatives if they are light on average: zeros around them are then their ground."""
        if some(self.images("train")).mean() <= 0.5:
            return self
        return replace(self, **{name: self.levels - 1 - getattr(self, name) for name in SPLITS})

    def subset(self, train: int | None, evaluation: int | None) -> Self:
        """At most so many training images, and validation and test images each, at equal distances."""
        keep = {"train": train, "validation": evaluation, "test": evaluation}
        rows = {name: torch.linspace(0, n - 1, min(n, keep[name] or n)).long() for name, n in self.sizes.items()}
        parts = {name: part if len(part := getattr(self, name)) == len(rows[name]) else part[rows[name]] for name in SPLITS}
        labels = None if self.labels is None else {name: self.labels[name][rows[name]] for name in SPLITS}
        ids = None if self.ids is None else {name: tuple(self.ids[name][row] for row in rows[name].tolist()) for name in SPLITS}
        factors = None if self.factors is None else self.factors.picked(rows)
        return replace(self, **parts, labels=labels, ids=ids, factors=factors)

    def without_test(self) -> Self:
        """The same with the validation images as test images too: a choice made on it has not seen the test images."""
        labels = None if self.labels is None else self.labels | {"test": self.labels["validation"]}
        ids = None if self.ids is None else self.ids | {"test": self.ids["validation"]}
        values = {} if self.factors is None else self.factors.values | {"test": self.factors.values["validation"]}
        factors = None if self.factors is None else replace(self.factors, values=values)
        return replace(self, test=self.validation, labels=labels, ids=ids, factors=factors)

    def recorded(self) -> dict[str, Any]:
        """The description that a record keeps."""
        kept = {"name": self.name, "digest": self.digest, "shape": list(self.shape), "levels": self.levels}
        classes = None if self.classes is None else len(self.classes)
        names = [printable(name, "`|")[:LONGEST] for name in (self.classes or ())[:NAMED]]
        factors = {} if self.factors is None else {"factors": self.factors.shown}
        return {**kept, "sizes": self.sizes, "classes": classes, "class_names": names, "described": self.described, **factors}


def printable(text: str, other: str = "") -> str:
    """`text` with a question mark for each character that cannot be shown, or is one of the `other`."""
    return "".join(c if c.isprintable() and c not in other else "?" for c in text)


DATASETS: Registry[Callable[..., Dataset]] = Registry("data set")
in_use: weakref.WeakValueDictionary[int, Data | Dataset] = weakref.WeakValueDictionary()  # what several runs may get
H = TypeVar("H", Data, Dataset)


def handed_out(data: H) -> H:
    """Has `isolation` check that no foreign code changes these tensors in place."""
    in_use[id(data)] = data
    return data


@shared.append
def tensors() -> Iterator[Tensor]:
    for data in list(in_use.values()):
        parts = (getattr(data, name) for name in SPLITS)
        yield from (part.stored if isinstance(part, Levels) else part for part in parts)
        if isinstance(data, Dataset):
            yield from (data.labels or {}).values()
            yield from ({} if data.factors is None else data.factors.values).values()


def fingers(part: Tensor) -> Iterator[bytes]:
    """A digest of 16 bytes of each image."""
    return (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part.numpy())


def split(
    name: str,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    levels: int = 256,
    classes: Sequence[str] | None = None,
    validation: int,
    test: int | tuple[Tensor, Tensor | None],
    factors: Mapping[str, Tensor] | None = None,
) -> Dataset:
    """Shuffles images by a fixed seed and splits them.

    Args:
        name: Name of the data set.
        images: (N, C, H, W) uint8.
        labels: (N,) integers.
        levels: Number of grey levels.
        classes: Names of the labels.
        validation: Number of validation images.
        test: Number of test images, or a test set (images, labels) of its own.
        factors: Name -> (N,) integers from 0 of each factor that the images were made from; the test set is then no other one.

    Raises:
        UserError: For images of another type or shape, for missing labels or factors, or for too few images.
    """
    shape = tuple(images.shape[1:])
    for given, y in ((images, labels), *(() if isinstance(test, int) else (test,))):
        if given.dtype != torch.uint8 or tuple(given.shape[1:]) != shape or given.ndim != 4:
            wrong = f"{tuple(given.shape[1:])} in {given.dtype}"
            raise UserError(f"data set {name!r} has images of {wrong} where ({', '.join(map(str, shape))}) in uint8 are expected")
        if y is not None and len(y) != len(given):
            raise UserError(f"data set {name!r} has {len(given)} images and {len(y)} labels in one of its parts")
    if factors is not None and (not isinstance(test, int) or {*map(len, factors.values())} != {len(images)}):
        raise UserError(f"data set {name!r} has not each factor of each of its {len(images)} images; give (N,) integers, test as a number")
    held_out = test if isinstance(test, int) else 0
    if len(images) <= validation + held_out:
        raise UserError(f"data set {name!r} has {len(images)} images: too few to be split into train, validation and test")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    last = len(images) - held_out
    rows = {"train": order[: last - validation], "validation": order[last - validation : last], "test": order[last:]}
    parts = {part: images[index].flatten(1) for part, index in rows.items()}
    found = None if labels is None else {part: labels[index].long() for part, index in rows.items()}
    if not isinstance(test, int):
        parts["test"] = test[0].flatten(1)
        if found is not None and test[1] is not None:
            found["test"] = test[1].long()
    names = None if labels is None else tuple(classes or map(str, range(int(labels.max()) + 1)))
    made_from = None
    if factors is not None:
        table = torch.stack([values.long() for values in factors.values()], 1)
        made_from = Factors(tuple(factors), tuple((table.amax(0) + 1).tolist()), {part: table[index] for part, index in rows.items()})
    return Dataset(name, shape, levels, **parts, labels=found, classes=names, factors=made_from)  # type: ignore[arg-type]
