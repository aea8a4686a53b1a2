"""A VAE with known log p(x): linear, Gaussian, its encoder gives the exact posterior mean."""

import math

import torch
from torch import Tensor

from vae_variants.models.draws import Draws
from vae_variants.models.likelihoods import Gaussian
from vae_variants.models.vae import VAE

W1: list[list[float]] = [[1.0, 0.5], [0.0, 1.0], [-1, 0.5], [0.5, -0.5], [0, 2]]
W2: list[list[float]] = [[1.0, 0.0], [0, 1], [-1, 0], [0, -0.5], [1, 0]]  # its posterior is diagonal
MU, X, VARIANCE = [0.1, -0.2, 0.3, 0.0, 0.5], [1.0, -1.0, 0.5, 2.0, 0.0], 0.25


def linear_vae(weights: list[list[float]]) -> tuple[VAE, Tensor, float]:
    """x = W z + mu + noise: the model, with the exact posterior mean and the best diagonal scales for q; x (1, 5); the exact log p(x)."""
    w, mu = torch.tensor(weights, dtype=torch.float64), torch.tensor(MU, dtype=torch.float64)
    x = torch.tensor([X], dtype=torch.float64)
    model = VAE((1, 1, 5), Gaussian(math.sqrt(VARIANCE)), latent=2, hidden=()).double()
    precision = torch.eye(2, dtype=torch.float64) + w.T @ w / VARIANCE
    gain = torch.linalg.solve(precision, w.T) / VARIANCE
    weights_of = {
        "encoder.centre": torch.zeros(5, dtype=torch.float64),
        "decoder.0.weight": w,
        "decoder.0.bias": mu,
        "encoder.0.weight": torch.cat([gain, torch.zeros(2, 5, dtype=torch.float64)]),
        "encoder.0.bias": torch.cat([-gain @ mu, -0.5 * precision.diag().log()]),
    }
    model.load_state_dict(weights_of)
    covariance = w @ w.T + VARIANCE * torch.eye(5, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(mu, covariance).log_prob(x).item()
    return model, x, exact


def draws(model: VAE, x: Tensor, k: int) -> Draws:
    """At the end of training."""
    with torch.no_grad():
        return model.infer(x, k, torch.ones((), dtype=x.dtype))
