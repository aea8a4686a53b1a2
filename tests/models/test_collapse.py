"""No likelihood makes a VAE ignore its latents, unless a closed form says that it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation.units import variance
from vae_variants.models.likelihoods import LIKELIHOODS
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

OURS = [name for name, cls in LIKELIHOODS.items() if cls.__module__.startswith("vae_variants.")]
OTHERS = [name for name in OURS if name != "gaussian"]  # whose constant sigma decides
UNITS = 20
FEW = 5  # active units that any likelihood has at least


def coloured(data: Dataset) -> Dataset:
    """The images in red, green or blue, by their class."""
    assert data.labels is not None
    tint = torch.tensor([[1.0, 0.3, 0.2], [0.2, 1.0, 0.3], [0.3, 0.2, 1.0]])
    parts = {
        part: (getattr(data, part).unsqueeze(1) * tint[data.labels[part] % 3].unsqueeze(-1)).round().flatten(1).to(torch.uint8)
        for part in ("train", "validation", "test")
    }
    return replace(data, name="coloured", shape=(3, *data.shape[1:]), **parts)


def thinned(data: Dataset) -> Dataset:
    """Every second row and column of the images."""
    parts = {part: getattr(data, part).unflatten(1, data.shape)[..., ::2, ::2].flatten(1) for part in ("train", "validation", "test")}
    shape = (data.shape[0], *((size + 1) // 2 for size in data.shape[1:]))
    return replace(data, name="thinned", shape=shape, **parts)


def trained(selector: str, data: Dataset, epochs: int) -> tuple[int, float, float]:
    """Active units on test images, and their squared errors: of a short training's reconstructions, and of the mean training image."""
    options = {"hidden": [64], "latent": UNITS, "batch": 50, "epochs": epochs, "lr": 0.02, "decay": "cosine"}
    (chosen,) = configure(selector, options)
    images = data.as_(chosen.support)
    training = Training(Population(lambda: build(chosen, data), (0,)), images, chosen.recipe)
    while not training.over:
        training.run_epoch()
    assert not training.diverged
    (model,) = training.population.members()
    with torch.no_grad():
        active = int(variance(model, [images.test]).active.sum())
        error = (model.decode(model.encode(images.test)) - images.test).square().mean().item()
    return active, error, (images.train.mean(0) - images.test).square().mean().item()


def learns(selector: str, data: Dataset, epochs: int) -> None:
    active, error, flat = trained(selector, data, epochs)
    assert active >= FEW
    assert error < 0.8 * flat


def paying(data: Dataset, sigma: float) -> int:
    """Units that lower the loss of a Gaussian decoder of constant sigma at its optimum: eigenvalues of the covariance above sigma^2.

    Exact for linear decoders (Lucas et al. 2019, Don't blame the ELBO!, NeurIPS).
    """
    return int((torch.linalg.eigvalsh(data.grey("train").double().mT.cov()) > sigma**2).sum())


@pytest.mark.parametrize("name", OTHERS)
def test_on_digits(name: str, digits: Dataset) -> None:
    learns(f"vae[likelihood={name}]", digits, 5)


def test_on_digits_a_gaussian_of_constant_sigma_learns_if_an_eigenvalue_of_the_covariance_pays(digits: Dataset) -> None:
    assert paying(digits, 0.25) >= FEW
    learns("vae[likelihood=gaussian,sigma=0.25]", digits, 5)
    assert paying(digits, 1.0) == 0
    active, error, flat = trained("vae[likelihood=gaussian,sigma=1.0]", digits, 5)
    assert active == 0 and error == pytest.approx(flat, rel=0.05)


def test_in_colour(digits: Dataset) -> None:
    learns("vae[likelihood=logistic-mixture]", coloured(digits), 3)


@pytest.mark.parametrize("name", OTHERS)
def test_on_mnist(name: str, mnist: Dataset) -> None:
    learns(f"vae[likelihood={name}]", thinned(mnist.subset(1000, 200)), 5)


def test_on_mnist_a_gaussian_of_sigma_1_learns_since_eigenvalues_pay(mnist: Dataset) -> None:
    data = mnist.subset(1000, 200)
    assert paying(data, 1.0) >= FEW
    learns("vae[likelihood=gaussian,sigma=1.0]", data, 5)
