"""A plain VAE for colour images, as one writes it in an afternoon, beside the built-in convolutional rows of the same data and size.

`python bench/peers/colour.py --dataset images:FOLDER [--epochs 40] [--latent 128] [--seeds 3] [--runs FOLDER] [--out FILE.csv]`

The plain script has four strided convolutions with BatchNorm, a one-cycle learning rate, one learnt sigma that starts at e^-1.5, and the
best checkpoint by the validation ELBO. Built-in rows have the same split, latent size, epochs, batches and density. All of them report the
ELBO of 10 samples of z for each test image, and the mean squared error at the posterior mean. If the data have classes, built-in rows also
train a classifier; `?labels=false` spares that.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from vae_variants.datasets import Dataset, load_dataset
from vae_variants.harness import RunSpec, Store, parse_seeds, run_all
from vae_variants.harness.process import prepare
from vae_variants.harness.progress import Log
from vae_variants.variants import configure

__all__ = ["PlainVAE", "Result", "built_in", "elbo", "scored", "table", "trained"]

CHANNELS = (32, 64, 128, 256)
LOG_SIGMA = -1.5
BATCH, RATE = 128, 2e-3  # the greatest rate, of the cycle and of the cosine
SAMPLES = 10  # of z for each test image
PIECE = 250  # test images at a time
ROWS = ("vae-gaussian-learnt[network=deep-conv]", "vae-gaussian-learnt[network=resnet]")
FIDELITY = f"full[elbo_samples={SAMPLES},bound_samples=2,bound_images=2]"  # the importance-weighted bound has no part in this
METRICS = {"ELBO": "elbo", "MSE": "reconstruction_mse"}


@dataclass(frozen=True)
class Result:
    """A row of the table for one seed: nats per image, and squared grey per pixel."""

    row: str
    seed: int
    elbo: float
    mse: float


class PlainVAE(nn.Module):
    """Images (B, C, H, W) in [0, 1] with sides that are multiples of 16."""

    def __init__(self, shape: tuple[int, int, int], latent: int) -> None:
        super().__init__()
        channels, height, width = shape
        cells = (height // 16, width // 16)
        encoder: list[nn.Module] = []
        for before, after in zip((channels, *CHANNELS), CHANNELS, strict=False):
            encoder += [nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(CHANNELS[-1] * math.prod(cells), 2 * latent))
        decoder: list[nn.Module] = [nn.Linear(latent, CHANNELS[-1] * math.prod(cells)), nn.Unflatten(1, (CHANNELS[-1], *cells))]
        for before, after in zip(CHANNELS[::-1], CHANNELS[-2::-1], strict=False):
            decoder += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
        self.decoder = nn.Sequential(*decoder, nn.BatchNorm2d(CHANNELS[0]), nn.ReLU(), nn.ConvTranspose2d(CHANNELS[0], channels, 4, 2, 1))
        self.log_sigma = nn.Parameter(torch.tensor(LOG_SIGMA))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances of q(z | x), (B, Z) each."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        return mean, log_variance


def elbo(model: PlainVAE, x: Tensor, samples: int = 1) -> Tensor:
    """E_q[log N(x; decoder(z), sigma^2)] - KL(q(z | x) || N(0, I)) of each image (B, C, H, W), nats (B,)."""
    mean, log_variance = model.encode(x)
    rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
    found = torch.zeros(len(x))
    for _ in range(samples):
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (x - model.decoder(z)).square().flatten(1).sum(1)
        constant = x[0].numel() * (model.log_sigma + 0.5 * math.log(2 * math.pi))
        found = found - (0.5 * error * (-2 * model.log_sigma).exp() + constant) / samples
    return found - rate


def pictures(data: Dataset, part: str) -> Tensor:
    return data.grey(part).unflatten(1, data.shape)


@torch.no_grad()
def scored(model: PlainVAE, x: Tensor, samples: int) -> tuple[float, float]:
    """Mean ELBO and mean squared error of images (N, C, H, W), with the statistics of training in BatchNorm."""
    model.eval()
    bounds = torch.cat([elbo(model, part, samples) for part in x.split(PIECE)])
    errors = torch.cat([(part - model.decoder(model.encode(part)[0])).square().flatten(1).mean(1) for part in x.split(PIECE)])
    return bounds.double().mean().item(), errors.double().mean().item()


def trained(data: Dataset, latent: int, epochs: int, seed: int) -> PlainVAE:
    """A model with the weights of its best validation."""
    torch.manual_seed(seed)
    model, x, validation = PlainVAE(data.shape, latent), pictures(data, "train"), pictures(data, "validation")
    batch = min(BATCH, len(x))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * (len(x) // batch))
    best, kept = -math.inf, copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        for rows in order[: len(x) // batch * batch].split(batch):
            optimizer.zero_grad()
            (-elbo(model, x[rows]).mean()).backward()
            optimizer.step()
            rate.step()
        value, _ = scored(model, validation, 1)
        if value > best:
            best, kept = value, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model


def built_in(dataset: str, latent: int, epochs: int, seeds: Sequence[int], runs: Path) -> list[Result]:
    """The built-in rows, trained by the cosine schedule with the best checkpoint; finished runs are reused."""
    options = {"latent": latent, "epochs": epochs, "batch": BATCH, "decay": "cosine", "keep": "best", "lr": RATE}
    specs = [RunSpec(configure(row, options)[0], dataset, tuple(seeds), FIDELITY) for row in ROWS]
    with Log(specs) as log:
        records = run_all(specs, Store(runs), torch.device("cpu"), watcher=log)
    values = [[record.value(metric, seed) for metric in METRICS.values()] for record in records for seed in seeds]
    names = [(record.label, seed) for record in records for seed in seeds]
    return [Result(*name, *(math.nan if v is None else v for v in found)) for name, found in zip(names, values, strict=True)]


def plain(dataset: str, latent: int, epochs: int, seeds: Sequence[int]) -> list[Result]:
    data, found = load_dataset(dataset), list[Result]()
    for seed in seeds:
        model = trained(data, latent, epochs, seed)
        torch.manual_seed(seed)
        found.append(Result("plain script", seed, *scored(model, pictures(data, "test"), SAMPLES)))
    return found


def table(results: Sequence[Result]) -> pd.DataFrame:
    """Means over seeds, and the paired difference of each row from the plain script."""
    frame = pd.DataFrame([vars(result) for result in results]).rename(columns={"elbo": "ELBO", "mse": "MSE"}).set_index(["row", "seed"])
    own = frame.loc["plain script"]
    means = frame.groupby("row", sort=False).mean()
    for metric in METRICS:
        means[f"{metric} less the plain script's"] = [(frame.loc[row, metric] - own[metric]).mean() for row in means.index]
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--seeds", type=parse_seeds, default="3")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    prepare()
    size = (given.dataset, given.latent, given.epochs, given.seeds)
    found = [*plain(*size), *built_in(*size, given.runs)]
    if given.out:
        pd.DataFrame([vars(result) for result in found]).to_csv(given.out, index=False)
    print(table(found).to_string(float_format=lambda value: f"{value:.6g}"))


if __name__ == "__main__":
    main()
