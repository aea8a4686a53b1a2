"""A small classifier of a data set; samples and real images are compared in its last hidden layer."""

import hashlib
import math
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.datasets import Dataset
from vae_variants.datasets.levels import Images, Levels
from vae_variants.evaluation.pieces import by_pieces, stored
from vae_variants.evaluation.shelf import kept
from vae_variants.isolation import shared
from vae_variants.training.batches import derive_seed

WIDTH = 64  # features
FILTERS, MOST = 32, 500  # of the first convolution; images at a time
SCALED = 5000  # training images on which the features have mean square 1
BATCH, STEPS, EPOCHS = 128, (300, 1500), 30


class Classifier(nn.Module):
    """Three 3x3 convolutions (32, 64, 64 channels) with two poolings if the image is large enough, then `WIDTH` ReLU features.

    No dropout and no batch statistics: the features of an image depend on that image alone. If `light`, `embed` takes their negatives.
    """

    scale: Tensor
    light = False

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.shape = shape
        c, height, width = shape
        sizes = [(math.ceil(height / s), math.ceil(width / s)) for s in (2, 4)]
        self.convolutions = nn.Sequential(
            nn.Conv2d(c, FILTERS, 3, padding=1), nn.ReLU(),
            nn.AdaptiveMaxPool2d(sizes[0]),
            nn.Conv2d(FILTERS, 64, 3, padding=1), nn.ReLU(),
            nn.AdaptiveMaxPool2d(sizes[1]),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(64 * math.prod(sizes[1]), WIDTH)
        self.out = nn.Linear(WIDTH, classes)
        self.register_buffer("scale", torch.ones(()))  # makes the mean square of the features 1

    def features(self, x: Tensor) -> Tensor:
        """Images x (B, D) in [0, 1] -> (B, WIDTH)."""
        return self.hidden(self.convolutions(x.unflatten(-1, self.shape))).relu() / self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))

    def rescale(self, x: Images) -> None:
        """Scales the features to mean square 1 on images x (N, D); the class logits stay unchanged."""
        root = self.embed(x).square().mean().sqrt().float()
        with torch.no_grad():
            self.scale *= root
            self.out.weight *= root

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: Frechet distances can be compared only if it is equal."""
        digest = hashlib.sha256()
        for tensor in self.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def embed(self, x: Images) -> Tensor:
        """(N, D) -> (N, WIDTH) in float64, in pieces."""
        device = self.out.weight.device
        return self.by_pieces(lambda part: self.features((1 - part if self.light else part).to(device)).double().cpu(), x)

    def by_pieces(self, work: Callable[[Tensor], Tensor], x: Images) -> Tensor:
        """What `work` makes of images (N, D) in this network, of which the first convolution is the largest."""
        return by_pieces(work, x, 4 * FILTERS * math.prod(self.shape[1:]), MOST)


in_use: weakref.WeakSet[Classifier] = weakref.WeakSet()


@shared.append
def weights() -> Iterator[Tensor]:
    for each in list(in_use):
        yield from each.state_dict().values()


@lru_cache(maxsize=2)
def classifier(dataset: Dataset, most: int = STEPS[1]) -> tuple[Classifier, float]:
    """The classifier of a labelled data set and its test accuracy, trained on the training images from a fixed seed, or kept from before.

    Adam, batches of 128, 30 epochs but at least 300 and at most 1500 steps, and never over `most`. Images that are light on average and
    their negatives have the same classifier. Raises ValueError without labels.
    """
    light, dataset = dataset is not dataset.on_dark, dataset.on_dark
    if dataset.labels is None or dataset.classes is None:
        raise ValueError("a classifier needs labels")
    found = dict(kept(f"classifier of {dataset.digest}, {most} steps", lambda: trained(dataset, most)))
    accuracy = found.pop("test accuracy").item()
    with torch.device("meta"):  # draws no random numbers
        model = Classifier(dataset.shape, len(dataset.classes))
    model.load_state_dict(found, assign=True)
    model.eval().requires_grad_(False)
    model.light = light
    in_use.add(model)
    return model, accuracy


def trained(dataset: Dataset, most: int) -> dict[str, Tensor]:
    """The state of the classifier of dark images, and its `test accuracy`."""
    assert dataset.labels is not None and dataset.classes is not None
    x, y = stored(dataset, "train"), dataset.labels["train"]
    batch = min(BATCH, len(x))
    steps = min(max(EPOCHS * len(x) // batch, STEPS[0]), STEPS[1], most)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(derive_seed("classifier", dataset.digest))
        model = Classifier(dataset.shape, len(dataset.classes))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < batch:
                order = torch.randperm(len(x))
            rows, order = order[:batch], order[batch:]
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            rate.step()
    model.eval().requires_grad_(False)
    model.rescale(Levels(dataset.train[:SCALED], dataset.levels - 1))
    right = model.by_pieces(lambda part: model(part).argmax(-1), stored(dataset)) == dataset.labels["test"]
    return model.state_dict() | {"test accuracy": right.double().mean()}
