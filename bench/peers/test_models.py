"""Pythae's weights in our model give Pythae's numbers: a check of both, and of what its names promise."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

pytest.importorskip("pythae", reason="Pythae is not installed: nox -s peers installs it")

from models import copied, ours, ours_model, plain, pythae, pythae_model, returned

from vae_variants.models.objectives import elbo
from vae_variants.models.vae import VAE


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, torch.Tensor]:
    """Pythae's model after a few passes over images that are not noise."""
    torch.manual_seed(0)
    prototypes = (torch.rand(10, 784) < 0.3).float()
    images = (torch.rand(2000, 784) < 0.05 + 0.9 * prototypes[torch.randint(0, 10, (2000,))]).float()
    found: list[VAE] = []
    for _ in itertools.islice(pythae(images, 100, found.append), 3):
        pass
    return returned(found[-1]), images


@torch.no_grad()
def test_codes_reconstructions_and_elbo_are_the_same(trained) -> None:
    model, images = trained
    mine, x = copied(model), images[:100]
    theirs = model.encoder(x)
    mean, deviation = mine.moments(x)
    torch.testing.assert_close(mean, theirs.embedding)
    torch.testing.assert_close(deviation, (0.5 * theirs.log_covariance).exp())
    torch.testing.assert_close(mine.decode(mean), model.decoder(mean)["reconstruction"].flatten(1))
    draws = mine.infer(x, 1, torch.ones(()))
    loss, distortion, rate = model.loss_function(
        model.decoder(draws.z[0])["reconstruction"], x, theirs.embedding, theirs.log_covariance, draws.z[0]
    )
    torch.testing.assert_close(elbo(draws).mean(), loss, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(draws.kl.mean(), rate, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(-draws.log_px.mean(), distortion, rtol=1e-5, atol=1e-3)


@torch.no_grad()
def test_its_nll_is_our_bound_with_the_sign_of_a_likelihood(trained) -> None:
    model, images = trained
    mine, x, k = copied(model), images[:20], 2000
    torch.manual_seed(1)
    theirs = float(model.get_nll(x.reshape(-1, 1, 28, 28), n_samples=k, batch_size=100))
    log_w = mine.infer(x, k, torch.ones(())).log_w.double()
    bound = (log_w.logsumexp(0) - math.log(k)).mean().item()
    share = (log_w - log_w.logsumexp(0)).exp()
    error = (share.square().sum(0) - 1 / k).clamp(min=0).sum().sqrt().item() / len(x)
    assert theirs < 0, "called nll, it is a log-likelihood"
    assert abs(theirs - bound) < 5 * math.sqrt(2) * error


@torch.no_grad()
def test_its_number_of_draws_is_a_multiple_of_the_batch(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = trained
    drawn, decode = [], model.decoder.forward
    monkeypatch.setattr(model.decoder, "forward", lambda z: (drawn.append(len(z)), decode(z))[1])
    for asked, made in ((10, 100), (250, 200)):
        drawn.clear()
        model.get_nll(images[:1].reshape(-1, 1, 28, 28), n_samples=asked, batch_size=100)
        assert sum(drawn) == made


def test_all_have_as_many_parameters() -> None:
    from models import Plain

    count = {sum(p.numel() for p in model.parameters()) for model in (ours_model(), pythae_model(), Plain())}
    assert len(count) == 1


def test_all_learn(trained) -> None:
    """The seconds that are compared are seconds of training: the bound rises alike."""
    _, images = trained
    x = images[:500]

    @torch.no_grad()
    def bound(model) -> float:
        return -elbo(model.infer(x, 4, torch.ones(()))).mean().item()

    start = bound(ours_model())
    found: dict[str, list[float]] = {"ours": [], "pythae": []}
    for _ in itertools.islice(ours(images, 2, 100, each=lambda m: found["ours"].append(bound(m))), 4):
        pass
    for _ in itertools.islice(pythae(images, 100, lambda m: found["pythae"].append(bound(m))), 4):
        pass
    assert found["ours"][-1] > start + 100
    assert abs(found["ours"][-1] - found["pythae"][-1]) < 0.05 * abs(start - found["ours"][-1])
    assert all(seconds > 0 for seconds in itertools.islice(plain(images, 100), 2))
