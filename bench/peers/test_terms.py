"""Terms of Pythae's objectives beside ours, with its weights and the same samples. Where they differ, the paper's equation decides."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("pythae", reason="Pythae is not installed: nox -s peers installs it")

from models import HIDDEN, LATENT, copied, taught
from pythae import models as peers

from vae_variants.models.bounds import ciwae, miwae
from vae_variants.models.critics import Factor
from vae_variants.models.divergences import image_weights
from vae_variants.models.draws import Draws
from vae_variants.models.flows import Moved, Transformed
from vae_variants.models.objectives import capacity, elbo_sampled, iwae
from vae_variants.models.posteriors import Diagonal
from vae_variants.models.regularizers import tc
from vae_variants.models.vae import VAE

N, BATCH = 1000, 12
T = torch.ones(())


def pair(name: str, **options: object) -> tuple[nn.Module, VAE, Tensor]:
    """Pythae's model, ours with its encoder and decoder, and images."""
    torch.manual_seed(0)
    config = getattr(peers, f"{name}_Config" if "_" in name else f"{name}Config")(
        input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce", **options
    )
    theirs = taught(getattr(peers, name)(config))
    assert next(theirs.encoder.parameters()).shape[0] == HIDDEN
    return theirs, copied(theirs), (torch.rand(BATCH, 784) < 0.3).float()


def given(theirs: nn.Module, d: Draws, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What Pythae's losses take: reconstructions, mean, log-variance and samples, (B, K, ...)."""
    z = d.z.movedim(0, 1)
    found = theirs.decoder(z.flatten(0, 1))["reconstruction"].reshape(len(x), z.shape[1], -1)
    q = d.q
    assert isinstance(q, Diagonal)
    mean, log_variance = (each.unsqueeze(1).expand_as(z) for each in (q.mean, 2 * q.log_scale))
    return found, mean, log_variance, z


def test_beta_tc_weighs_the_same_terms() -> None:
    """Its mutual information, total correlation and marginal KL add up to log q(z | x) - log p(z)."""
    theirs, mine, x = pair("BetaTCVAE", beta=6.0, alpha=1.0, gamma=1.0, use_mss=False)
    d = mine.infer(x, 1, T)
    found, mean, log_variance, z = (each.squeeze(1) for each in given(theirs, d, x))
    loss, *_ = theirs.loss_function(found, x, mean, log_variance, z, N)
    torch.testing.assert_close((elbo_sampled(d) + tc(d, N, weight=5.0)).mean(), loss, rtol=1e-5, atol=1e-3)


def test_stratified_sampling_is_unbiased_here_and_not_there() -> None:
    """The weight 1/N belongs to the image itself, on the diagonal (Chen et al. 2018, appendix C.2). Pythae's stands in the first column."""
    theirs, _, _ = pair("BetaTCVAE", use_mss=True)
    n, width, like = 5, 3, torch.zeros(1, 3, 1, dtype=torch.float64)
    torch.manual_seed(1)
    density = torch.rand(n, dtype=torch.float64)  # q(z | x_j) of a z of image 0
    batches = [torch.tensor([*rest, 0]) for rest in itertools.permutations(range(1, n), width - 1)]
    weights = {"ours": image_weights(like, n, True)[-1], "theirs": theirs._log_importance_weight_matrix(width, n)[-1].exp()}
    found = {who: torch.stack([(own * density[index]).sum() for index in batches]).mean().item() for who, own in weights.items()}
    assert found["ours"] == pytest.approx(density.mean().item(), rel=1e-9)
    assert abs(found["theirs"] / density.mean().item() - 1) > 0.02


@pytest.mark.parametrize("name", ["IWAE", "CIWAE", "MIWAE"])
def test_importance_weighted_gradients_are_the_same(name: str) -> None:
    """Its value is not that of the bound, but has the gradient of it. Its MIWAE swaps the roles of M and K.

    MIWAE's bound is (1/M) sum_m log (1/K) sum_k w_mk (Rainforth et al. 2018, section 4): `number_gradient_estimates` should be the M of
    the mean, and Pythae takes the logarithm over them.
    """
    m, k = 2, 3
    options: dict[str, object] = {"number_samples": k}
    options |= {"MIWAE": {"number_gradient_estimates": m}, "CIWAE": {"beta": 0.3}}.get(name, {})
    theirs, mine, x = pair(name, **options)
    mine.requires_grad_(True)
    total = m * k if name == "MIWAE" else k
    d = mine.infer(x, total, T)
    found, mean, log_variance, z = given(theirs, d, x)
    if name == "MIWAE":  # (B, M, K): ours has groups of neighbours
        found, mean, log_variance, z = (each.unflatten(1, (k, m)).transpose(1, 2) for each in (found, mean, log_variance, z))
    loss = theirs.loss_function(found, x, mean, log_variance, z)[0]
    ours = {"IWAE": iwae(d), "CIWAE": ciwae(d, weight=0.3), "MIWAE": miwae(d, groups=k)}[name].mean()
    parameters = dict(mine.named_parameters())
    there = torch.autograd.grad(loss, [parameters["encoder.2.weight"]], retain_graph=True)[0]
    here = torch.autograd.grad(ours, [parameters["encoder.2.weight"]])[0]
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4 * here.abs().max().item())


def test_the_critic_of_factor_vae_has_the_same_losses() -> None:
    """Its critic has two outputs, of which the difference is our logit; it halves the critic's loss."""
    theirs, mine, x = pair("FactorVAE", gamma=2.0)
    d = mine.infer(x, 1, T)
    found, mean, log_variance, z = (each.squeeze(1) for each in given(theirs, d, x))
    permuted = z[torch.randperm(BATCH)]
    _, whole, critic = theirs.loss_function(found, x, mean, log_variance, z, permuted)

    class Difference(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            scores = theirs.discriminator(z.flatten(0, -2))
            return (scores[:, 0] - scores[:, 1]).unflatten(0, z.shape[:-1]).unsqueeze(-1)

    factor = Factor(LATENT, weight=2.0)
    factor.critic = Difference()  # type: ignore[assignment]
    torch.testing.assert_close((d.kl - d.log_px.mean(0) + factor(d)).mean(), whole, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(factor.telling(d.z, permuted[None]).mean(), 2 * critic, rtol=1e-5, atol=1e-5)


def test_the_capacity_is_that_of_the_batch_here_and_of_each_image_there() -> None:
    """Burgess et al. 2018 (eq. 8) take |KL - C| of the expectation; Pythae takes it of each image. They agree if all are on one side."""
    theirs, mine, x = pair("DisentangledBetaVAE", beta=3.0, C=0.0)
    d = mine.infer(x, 1, T)
    found, mean, log_variance, z = (each.squeeze(1) for each in given(theirs, d, x))
    loss, *_ = theirs.loss_function(found, x, mean, log_variance, z, 10)
    torch.testing.assert_close(capacity(d, gamma=3.0, capacity=0.0).mean(), loss, rtol=1e-5, atol=1e-3)


def test_a_flow_changes_the_density_alike() -> None:
    theirs, mine, x = pair("VAE_IAF")
    d = mine.infer(x, 1, T)
    base = d.q
    assert isinstance(base, Diagonal)

    def flow(start: Tensor) -> Moved:
        moved = theirs.iaf_flow.inverse(start.flatten(0, 1))
        return Moved(moved.out.unflatten(0, start.shape[:2]), moved.log_abs_det_jac.unflatten(0, start.shape[:2]))

    torch.manual_seed(3)
    z, log_q = Transformed(base, flow).draw(1)
    torch.manual_seed(3)
    start = base.draw(1).z[0]
    moved = theirs.iaf_flow.inverse(start)
    found = theirs.decoder(moved.out)["reconstruction"].flatten(1)
    *_, kl = theirs.loss_function(found, x, base.mean, 2 * base.log_scale, start, moved.out, moved.log_abs_det_jac)
    log_p = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close((log_q - log_p).mean(), kl, rtol=1e-5, atol=1e-4)
