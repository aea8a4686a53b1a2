"""Combinations of parts that have no meaning are refused in one line when the model is built; odd ones that have one work."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from vae_variants.datasets import Dataset
from vae_variants.models.base import Finished, LatentVariable
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.objectives import reconstruction
from vae_variants.models.priors import MixturePrior
from vae_variants.models.regularizers import REGULARIZERS
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError
from vae_variants.training.population import Population
from vae_variants.training.traced import Gradient
from vae_variants.variants import build

SMALL = "latent=3,hidden=7"


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (f"vae[posterior=point,{SMALL}]", "posterior=diagonal"),
        (f"vae[posterior=implicit,{SMALL}]", "posterior=diagonal"),
        (f"vae[posterior=implicit,objective=iwae,samples=5,{SMALL}]", "posterior=diagonal"),
        (f"vae[posterior=point,objective=log-cosh,{SMALL}]", "objective=reconstruction"),
        (f"riemannian-vae[posterior=point,{SMALL}]", "posterior=diagonal"),
        (f"autoencoder[sampler=prior,{SMALL}]", "sampler=gaussian-mixture"),
        ("hierarchical[regularizer=factor]", "regularizer=factor needs the number of latent units"),
        ("vdvae[regularizer=adversarial]", "use the model vae"),
    ],
)
def test_what_has_no_meaning_is_refused(selector: str, words: str, digits: Dataset) -> None:
    with pytest.raises(UserError, match=words) as error:
        build(selector, digits)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (f"vae[objective=cyclical,ramp=0,{SMALL}]", "ramp=0 is not above 0"),
        (f"vae[objective=log-cosh,sharpness=0,{SMALL}]", "sharpness=0"),
        (f"vae[objective=info,alpha=2,{SMALL}]", "alpha=2"),
        (f"vae[objective=info,alpha=0.5,strength=0.2,{SMALL}]", "negative weight"),
        ("vae[posterior=gumbel-softmax,prior=concrete,latent=20,hidden=7,posterior.temperature=0]", "temperature=0"),
        ("vae[posterior=gumbel-softmax,prior=concrete,latent=20,hidden=7,prior.temperature=0]", "temperature=0"),
        (f"vae[posterior=wrapped-normal,prior=wrapped-normal,spread=0,{SMALL}]", "spread=0"),
        (f"vae[posterior=wrapped-normal,prior=riemannian-normal,spread=0,{SMALL}]", "spread=0"),
        ("quantized-vae[quantizer=lfq,temperature=0,hidden=7]", "temperature=0"),
        (f"autoencoder[sampler=gaussian-mixture,components=6,{SMALL}]", "sampler.components=5 or fewer"),
    ],
)
def test_an_option_out_of_its_range_is_told_in_one_line(selector: str, words: str, digits: Dataset) -> None:
    """When the model is built, when its loss is asked for the first time, or when a sampler has too few latents."""

    def used() -> None:
        model, x = build(selector, digits), digits.grey("train")[:5]
        model("loss", x, torch.tensor(0.5))
        if isinstance(model, Finished):
            model.finish(x)

    with pytest.raises(UserError, match=words) as error:
        used()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["vae[posterior=hamiltonian,", "riemannian-vae["])
def test_dynamics_leave_the_state_of_a_likelihood_to_the_training_step(model: str, digits: Dataset) -> None:
    """The optimal sigma is learnt from the squared errors at the end of the path, once, and is constant along it."""
    built = build(f"{model}likelihood=gaussian-optimal,memory=0.5,{SMALL}]", digits)
    assert isinstance(built, LatentVariable) and built.training
    x, before = digits.grey("train")[:10], built.likelihood.mse.clone()
    torch.manual_seed(0)
    d = built.infer(x, 2, torch.ones(()))
    expected = 0.5 * before + 0.5 * (x - d.mean).square().mean()
    torch.testing.assert_close(built.likelihood.mse, expected)
    (gradient,) = torch.autograd.grad(-d.log_w.mean(), built.encoder[-1].weight)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert built.likelihood.training


@pytest.mark.parametrize("prior", ["mixture", "vamp", "realnvp", "maf"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_a_learnt_prior_is_trained_or_refused(prior: str, regularizer: str, digits: Dataset) -> None:
    """A reconstruction error does not train it. What is refused, and nothing else, would leave all of it as it starts."""
    label = f"vae[prior={prior},regularizer={regularizer},{SMALL}"
    model, x = build(f"{label}]", digits), digits.grey("train")[:20].round()
    assert isinstance(model, VAE)
    model.objective = reconstruction
    losses = [model(player.loss, x, torch.tensor(0.5)) for player in model.players]
    own = list(model.prior.parameters())
    moved = [g for loss in losses for g in torch.autograd.grad(loss, own, allow_unused=True) if g is not None and g.any()]
    with nullcontext() if moved else pytest.raises(UserError, match="trains the prior"):
        build(f"{label},objective=reconstruction]", digits)


class Alone(VAE):
    """A VAE that is trained member by member."""

    stackable = False


def test_what_a_loss_does_not_use_stays_as_it_is_stacked_or_not(digits: Dataset) -> None:
    """A reconstruction error has no gradient for a learnt prior."""

    def unmoved(kind: type[VAE]) -> VAE:
        model = kind(digits.shape, Bernoulli(), prior=MixturePrior(3), latent=3, hidden=(5,))
        model.objective = reconstruction
        return model

    gradients = []
    for kind in (VAE, Alone):
        population = Population(partial(unmoved, kind), (0, 1))
        (player,) = population.template.players
        x = digits.grey("train")[:20].round().expand(2, -1, -1)
        _, found = Gradient(population, player, trace=False)(x, torch.tensor(0.5))
        names = population.names(player)
        gradients.append(dict(zip(names, found[: len(names)], strict=True)))
    assert not gradients[1]["prior.logits"].any()
    for name, stacked in gradients[0].items():
        torch.testing.assert_close(stacked[0], gradients[1][name], msg=name)
