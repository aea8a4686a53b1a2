"""One architecture, batch size and optimiser in three hands: Pythae's, a plain PyTorch loop's, and ours.

A multi-layer perceptron 784-512-20 with ReLU, Bernoulli pixels, Adam at 1e-3, images binarised beforehand. Each trainer is a
generator of epochs: an element is the seconds that one pass took.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from os import devnull

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vae_variants.datasets import Data
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.vae import VAE
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants.recipe import Recipe

__all__ = ["copied", "ours", "ours_model", "plain", "pythae", "pythae_model", "returned", "squares", "taught"]

HIDDEN, LATENT, RATE = 512, 20, 1e-3
SHAPE = (1, 28, 28)
Each = Callable[[nn.Module], object]  # is told of the model after an epoch, outside the clock


def ours_model() -> VAE:
    return VAE(SHAPE, Bernoulli(), latent=LATENT, hidden=(HIDDEN,), activation="relu")


def ours(
    images: Tensor, seeds: int, batch: int, precision: str = "fp32", each: Each | None = None, make: Callable[[], VAE] = ours_model
) -> Iterator[float]:
    """`seeds` stacked, each of which sees all images in an epoch."""
    data = Data(Support.BINARY, images, images[:1], images[:1], dynamic=False)
    training = Training(Population(make, range(seeds)), data, Recipe(1000, batch, RATE, precision=precision))
    while True:
        training.run_epoch()
        if each is not None:
            for member in training.population.members():
                each(member)
        yield training.seconds[-1]


def pythae_model() -> nn.Module:
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig

    return PythaeVAE(VAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce"))


def pythae(images: Tensor, batch: int, each: Each | None = None, make: Callable[[], nn.Module] = pythae_model) -> Iterator[float]:
    """One seed by Pythae's `BaseTrainer`, without its evaluation and checkpoints."""
    warnings.filterwarnings("ignore", module="pythae")
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.getLogger(BaseTrainer.__module__).setLevel(logging.ERROR)

    model = make()
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            per_device_train_batch_size=batch,
            learning_rate=RATE,
            optimizer_cls="Adam",
            no_cuda=True,
        )
        dataset = BaseDataset(images.reshape(-1, *model.input_dim), torch.zeros(len(images)))
        trainer = BaseTrainer(model=model, train_dataset=dataset, training_config=config)
        trainer.prepare_training()
        epoch = 0
        while True:
            epoch += 1
            with open(devnull, "w") as nowhere, redirect_stderr(nowhere):  # its progress bars
                begin = time.perf_counter()
                trainer.train_step(epoch)
                seconds = time.perf_counter() - begin
            if each is not None:
                each(copied(model))
            yield seconds


class Plain(nn.Module):
    """As one would write it after PyTorch's own example."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, HIDDEN), nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.up, self.out = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)

    def loss(self, x: Tensor) -> Tensor:
        h = F.relu(self.hidden(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        found = torch.sigmoid(self.out(F.relu(self.up(z))))
        distortion = F.binary_cross_entropy(found, x, reduction="sum")
        rate = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return (distortion + rate) / len(x)


def plain(images: Tensor, batch: int, make: Callable[[], nn.Module] = Plain) -> Iterator[float]:
    """One seed by a loop over a `DataLoader`."""
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = DataLoader(TensorDataset(images), batch_size=batch, shuffle=True)
    while True:
        begin = time.perf_counter()
        for (x,) in loader:
            optimizer.zero_grad()
            model.loss(x).backward()  # type: ignore[operator]
            optimizer.step()
        yield time.perf_counter() - begin


SAME = {"encoder.0": "encoder.layers.0.0", "decoder.0": "decoder.layers.0.0", "decoder.2": "decoder.layers.1.0"}  # ours -> Pythae's
PARTS = ("weight", "bias")


@torch.no_grad()
def copied(model: nn.Module) -> VAE:
    """Our model with the weights of Pythae's: its log-variance is twice our log standard deviation."""
    source = dict(model.named_parameters())
    weights = {f"{mine}.{part}": source[f"{theirs}.{part}"] for mine, theirs in SAME.items() for part in PARTS}
    for part in PARTS:
        weights[f"encoder.2.{part}"] = torch.cat([source[f"encoder.embedding.{part}"], 0.5 * source[f"encoder.log_var.{part}"]])
    found = ours_model()
    found.load_state_dict(found.state_dict() | weights)  # the encoder is not centred
    return found.eval().requires_grad_(False)


@torch.no_grad()
def returned(model: VAE) -> nn.Module:
    """Pythae's model with the weights of ours."""
    source = dict(model.named_parameters())
    weights = {f"{theirs}.{part}": source[f"{mine}.{part}"] for mine, theirs in SAME.items() for part in PARTS}
    for part in PARTS:
        mean, log_deviation = source[f"encoder.2.{part}"].split(LATENT)
        weights |= {f"encoder.embedding.{part}": mean, f"encoder.log_var.{part}": 2 * log_deviation}
    found = pythae_model()
    found.load_state_dict(weights)
    return found.eval().requires_grad_(False)


def squares(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Binary images (n, 784) of one of two squares, with noise."""
    p = torch.full((2, 28, 28), 0.05, dtype=dtype)
    p[0, 4:14, 4:14] = p[1, 12:24, 10:22] = 0.9
    return torch.bernoulli(p[torch.randint(2, (n,))]).flatten(1)


@torch.enable_grad()
def taught(model: nn.Module, steps: int = 20) -> nn.Module:
    """Pythae's model after some steps of its own loss, so that no weight or codebook is a beginner's, except those of an opponent."""
    dtype = next(model.parameters()).dtype
    optimizer = torch.optim.Adam([p for name, p in model.named_parameters() if not name.startswith("discriminator")], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        x = squares(32, dtype).reshape(-1, *SHAPE)
        model.train()({"data": x, "labels": torch.zeros(32)}, dataset_size=1000).loss.backward()
        optimizer.step()
    return model.eval()
