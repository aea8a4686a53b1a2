"""What models with an encoder, a decoder and a likelihood share."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from vae_variants.models.base import (
    Coder,
    DataDependent,
    Decoder,
    Density,
    Euclidean,
    Finished,
    GaussianPosterior,
    Generative,
    LatentVariable,
    MeanSampler,
    Model,
    Sampler,
    ScoredPosterior,
)
from vae_variants.models.draws import Draws, gated
from vae_variants.models.networks import start
from vae_variants.models.objectives import Objective, Term, says
from vae_variants.models.posteriors import Conditional, Diagonal, Scored, Space
from vae_variants.models.priors import Prior, rule
from vae_variants.models.regularizers import Regularizer
from vae_variants.models.samplers import CODES, LatentSampler, PriorSampler
from vae_variants.registry import UserError


class EncoderDecoder(Model, Coder, Decoder, DataDependent):
    """Base class of models with p(x | z) = likelihood(outputs(z)).

    Before training, the encoder's input is centred at the mean training image, and the decoder's bias says that image.
    """

    encoder: nn.Module
    decoder: nn.Module

    def initialise(self, x: Tensor) -> None:
        start(self.encoder, self.decoder, x.mean(0), self.likelihood.start(x))

    def outputs(self, z: Tensor) -> Tensor:
        """z (..., Z) -> the decoder's outputs (..., k * D)."""
        return self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(self.outputs(z), x)

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.mean(self.outputs(z))


class Generator(EncoderDecoder, Sampler, MeanSampler):
    """Base class of models that decode latents of their own."""

    @abstractmethod
    def latents(self, n: int) -> Tensor:
        """n latents (n, Z)."""

    def sample(self, n: int) -> Tensor:
        return self.likelihood.sample(self.outputs(self.latents(n)))

    def sample_mean(self, n: int) -> Tensor:
        return self.decode(self.latents(n))


class LatentModel(Generator, Density, LatentVariable):
    """Base class of models with p(x, z) = p(z) p(x | z) and q(z | x)."""

    prior: Prior
    gives: type[Conditional]

    def compose(
        self, prior: Prior, gives: type[Conditional], space: Space = Space.REAL, categories: int = 0, curvature: float = 0.0
    ) -> None:
        """Takes a prior, for a q(z | x) of class `gives` in `space`, and loses the capabilities that these do not give.

        Raises:
            UserError: If their latents lie in different spaces, in vectors of other numbers of `categories` or in balls of other
                `curvature`, or the prior needs a density that q has not.
        """
        if not issubclass(gives, prior.needs):
            raise UserError("this prior needs the density of q(z | x) at any z, which this posterior has not; write posterior=diagonal")
        if prior.space is not space:
            raise UserError(f"the prior's latents lie in {prior.space.value} space, those of q(z | x) in {space.value}; choose a pair")
        if prior.categories != categories:
            found = f"the prior's latents are vectors of {prior.categories} probabilities, those of q(z | x) of {categories}"
            raise UserError(f"{found}; give prior.categories and posterior.categories the same value")
        if prior.curvature != curvature:
            found = f"the prior's latents have curvature={prior.curvature:g}, those of q(z | x) {curvature:g}"
            raise UserError(f"{found}; give prior.curvature and posterior.curvature the same value")
        self.prior, self.gives, self.space = prior, gives, space
        self.closed_kl = rule(type(prior), gives) is not None
        held: dict[type, bool] = {
            GaussianPosterior: issubclass(gives, Diagonal),
            ScoredPosterior: issubclass(gives, Scored),
            Euclidean: space is Space.REAL,
            LatentVariable: gives.density,
            Density: gives.density,
        }
        self.lose(*(capability for capability, has in held.items() if not has))

    def initialise(self, x: Tensor) -> None:
        super().initialise(x)
        self.prior.initialise(x)

    def outputs(self, z: Tensor) -> Tensor:
        return super().outputs(self.prior.chart(z))

    def encode(self, x: Tensor) -> Tensor:
        return self.conditional(x).mean

    def draw_prior(self, n: int) -> Tensor:
        return self.prior.sample(n, self.conditional)

    def latents(self, n: int) -> Tensor:
        return self.draw_prior(n)

    def log_prior(self, z: Tensor) -> Tensor:
        return self.prior.log_prob(z, self.conditional)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) of x (B, D) and z (..., B, Z): (..., B) nats. The likelihood is that of evaluation, and keeps its state."""
        mode = self.likelihood.training
        try:
            self.likelihood.eval()
            return self.log_prior(z) + self.log_px(x, z)
        finally:
            self.likelihood.train(mode)

    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.draw_prior(n)
        return self.likelihood.sample(self.outputs(z)), z

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        q = self.conditional(x)
        free, log_q = q.draw(k)
        z, gate = gated(free) if q.reparameterised else (free, None)
        outputs = self.outputs(z)
        log_px, log_p = self.likelihood.log_prob(outputs, x), self.log_prior(z)
        closed = rule(type(self.prior), self.gives)
        units = closed(self.prior, q) if closed else (log_q - log_p).mean(0).unsqueeze(-1)
        return Draws(log_px, log_p, log_q, units.sum(-1), units, z, t, gate, q, x, outputs, self, free)


class Composite(Generator, Finished):
    """Base class of models that minimise an objective and a regularizer of their `draws`, and decode what a sampler draws."""

    objective: Objective
    regularizer: Regularizer
    sampler: LatentSampler
    samples: int = 1  # of z for each image, in the objective

    def assemble(self, objective: Objective, regularizer: Regularizer, sampler: LatentSampler) -> None:
        """Takes these parts, whose players then train too, and loses the capabilities that they do not give.

        Raises:
            UserError: If the sampler draws in another space than that of the latents, or from a prior that is not there, if the objective
                needs a density that q(z | x) has not, or if nothing would train a prior that is to be learnt.
        """
        space = getattr(self, "space", Space.REAL)
        if sampler.space not in (None, space):
            raise UserError(f"this sampler draws in {sampler.space.value} space, but the latents lie in {space.value}; write sampler=prior")
        if isinstance(sampler, PriorSampler) and not isinstance(self, Generative):
            raise UserError("sampler=prior draws from a prior, which this model has not; write sampler=gaussian-mixture, or none")
        if says(objective, "rate") and not getattr(self, "gives", Conditional).density:
            fix = "write posterior=diagonal, objective=reconstruction with a regularizer, or objective=avb"
            raise UserError(f"this objective needs log q(z | x) or a KL, and this posterior has no density; {fix}")
        learnt = isinstance(self, LatentModel) and any(True for _ in self.prior.parameters())
        if learnt and not says(objective, "rate") and not says(regularizer, "moves_prior", False):
            fix = "write prior=normal, an objective with a KL such as elbo, or regularizer=mmd"
            raise UserError(f"neither this objective nor this regularizer trains the prior, which would stay as it starts; {fix}")
        self.objective, self.regularizer, self.sampler = objective, regularizer, sampler
        self.players += tuple(player for term in (objective, regularizer) if isinstance(term, Term) for player in term.players)
        self.lose(*([] if sampler.fits else [Finished]), *([] if sampler.samples else [Sampler, MeanSampler]))
        if not says(objective, "density"):
            self.lose(Density, LatentVariable)

    @abstractmethod
    def draws(self, x: Tensor, t: Tensor) -> Draws:
        """What the objective is a function of, for images x (B, D) at the fraction t () of training."""

    def forward(self, method: str, *args: Any) -> Any:
        """As of `Model`. A method of an objective or a regularizer, such as `regularizer.critic_loss`, is given the draws."""
        part, _, name = method.rpartition(".")
        if not part:
            return super().forward(method, *args)
        term, d = self.get_submodule(part), self.draws(*args)
        value = getattr(term, name)(d).mean()
        return value + self.regularizer(d.ungated).mean() if isinstance(term, Term) and name in term.regularized else value

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        d = self.draws(x, t)
        return self.objective(d).mean() + self.regularizer(d.ungated).mean()

    def latents(self, n: int) -> Tensor:
        return self.sampler.draw(n, self)

    def finish(self, x: Tensor) -> None:
        """Fits the sampler to a sample of q(z | x) for each image, from a fixed seed: draws are to follow the aggregate posterior."""
        x = x[:CODES]
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.manual_seed(0)
            codes = self.conditional(x).draw(1).z[0] if isinstance(self, LatentModel) else self.encode(x)
        self.sampler.fit(codes.detach())
