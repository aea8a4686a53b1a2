"""Models that are told the classes of training images, and are scored without them."""

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from vae_variants.models.base import MODELS, Classifier, ClassSampler, ScoredPosterior
from vae_variants.models.draws import Draws
from vae_variants.models.latent import LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import ACTIVATIONS, Network, decoder, encoder, layers
from vae_variants.models.numerics import chosen
from vae_variants.models.posteriors import Diagonal, Drawn, Scored, Space
from vae_variants.models.priors import Prior, Q, StandardNormal, closed_kl, kl_units
from vae_variants.registry import UserError


class ClassAndCode(Scored):
    """q(y | x) q(v | x, y) of z = (y, v), y one-hot.

    Args:
        log_y: (B, C) log q(y | x).
        code: q(v | x, y) of each class y: a `Diagonal` of (B, C, Z).
    """

    reparameterised = False

    def __init__(self, log_y: Tensor, code: Diagonal) -> None:
        self.log_y, self.code, self.y = log_y, code, log_y.exp()
        self.mean = torch.cat([self.y, (self.y.unsqueeze(-1) * code.mean).sum(-2)], -1)

    def draw(self, k: int) -> Drawn:
        classes = self.y.shape[-1]
        index = chosen(self.y, k).mT  # (K, B)
        y = torch.eye(classes, dtype=self.y.dtype, device=self.y.device)[index]
        v = self.of(y)
        z = torch.cat([y, v.mean + v.scale * torch.randn_like(v.mean)], -1)
        return Drawn(z, self.log_prob(z))

    def of(self, y: Tensor) -> Diagonal:
        """q(v | x, y) of one-hot classes y (..., B, C): a `Diagonal` of (..., B, Z)."""
        mean, log_scale = (torch.einsum("...bc,bcz->...bz", y, each) for each in (self.code.mean, self.code.log_scale))
        return Diagonal(mean, log_scale)

    def log_prob(self, z: Tensor) -> Tensor:
        y, v = z.tensor_split([self.y.shape[-1]], -1)
        return (y * self.log_y).sum(-1) + self.of(y).log_prob(v)

    def detached(self) -> Self:
        return type(self)(self.log_y.detach(), self.code.detached())


class ClassPrior(Prior):
    """p(y) N(v; 0, I) of z = (y, v): p(y) are the shares of the classes among the labelled training images."""

    space = Space.MIXED
    log_y: Tensor

    def __init__(self, classes: int, latent: int) -> None:
        super().__init__(classes + latent)
        self.classes, self.code = classes, StandardNormal(latent)
        self.register_buffer("log_y", torch.full((classes,), 1 / classes).log())

    def sample(self, n: int, q: Q) -> Tensor:
        y = torch.eye(self.classes, dtype=self.like.dtype, device=self.like.device)
        index = torch.multinomial(self.log_y.exp(), n, replacement=True)
        return torch.cat([y[index], self.code.sample(n, q)], -1)

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        y, v = z.tensor_split([self.classes], -1)
        return (y * self.log_y).sum(-1) + self.code.log_prob(v, q)


@closed_kl(ClassPrior, ClassAndCode)
def kl_of_class_and_code(p: ClassPrior, q: ClassAndCode) -> Tensor:
    """q_c (log q_c - log p_c) for each class, then sum_c q_c KL(q(v_j | x, c) || N(0, 1)) for each unit: (B, C + Z)."""
    return torch.cat([q.y * (q.log_y - p.log_y), (q.y.unsqueeze(-1) * kl_units(p.code, q.code)).sum(-2)], -1)


@MODELS.add
class LabelledVAE(LatentModel, ScoredPosterior, Classifier, ClassSampler):
    """p(x, y, v) = p(y) p(v) p(x | y, v): the class y of an image, and `latent` units v for what else is in it.

    (D. P. Kingma et al., Semi-supervised learning with deep generative models, NIPS 2014, model M2.) Let
    l(x, y) = log p(y) + log p(x | y, v) - KL(q(v | x, y) || p(v)), with one sample of v. With `share` 1, all training images have labels
    and the model minimises -l(x, y): it is the conditional VAE of x given y. Otherwise it also has a classifier q(y | x), and minimises
    -l(x, y) for images with a label and -sum_y q(y | x) (l(x, y) - log q(y | x)) for the others, plus `weight` times the classifier's
    cross-entropy, the mean over labelled images. Labels are chosen at random within each class.

    Test images have no labels: log p(x) is bounded by samples of q(y, v | x). The conditional VAE has for q(y | x) what is proportional to
    exp l(x, y), with v at its mean. A latent vector is (y, v); in the mean of q, y are the probabilities of the classes.
    """

    exact: ClassVar[bool] = False
    prior: ClassPrior
    every: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        classes: int,
        *,
        share: float = 1.0,
        weight: float = 1.0,
        latent: int = 50,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if classes < 1:
            raise UserError("this model learns from labels, and the data set has none; give images in a folder for each class")
        if not 0 < share <= 1:
            raise UserError(f"share={share} of the images cannot have labels; give a number above 0, at most 1")
        width, self.classes, self.weight, self.label_share = hidden[-1], classes, weight, share
        self.encoder = encoder(network, shape, width, hidden, activation)
        self.head = layers([width + classes, width, 2 * latent], activation)
        self.activation = ACTIVATIONS[activation]()
        self.classifier = None if share == 1 else encoder(network, shape, classes, hidden, activation)
        self.decoder = decoder(network, classes + latent, shape, likelihood.k, hidden, activation)
        self.likelihood, self.shape, self.latent, self.support = likelihood, shape, latent, likelihood.support
        self.register_buffer("every", torch.eye(classes), persistent=False)
        self.compose(ClassPrior(classes, latent), ClassAndCode, Space.MIXED)

    def initialise(self, x: Tensor) -> None:
        images, labels = self.apart(x)
        super().initialise(images)
        if self.classifier is not None:
            self.classifier.centre.copy_(images.mean(0))
        counts = labels.sum(0) + 1.0  # so that none has probability 0
        self.prior.log_y.copy_((counts / counts.sum()).log())

    def code(self, x: Tensor, y: Tensor) -> Diagonal:
        """q(v | x, y) of images x (B, D) and classes y (..., B, C), one-hot."""
        h = self.activation(self.encoder(x)).expand(*y.shape[:-1], -1)
        return Diagonal(*self.head(torch.cat([h, y], -1)).chunk(2, -1))

    def codes(self, x: Tensor) -> tuple[Tensor, Diagonal]:
        """Every class (C, B, C), and q(v | x, y) of each: a `Diagonal` of (C, B, Z)."""
        y = self.every.unsqueeze(1).expand(-1, x.shape[0], -1)
        return y, self.code(x, y)

    def joint(self, x: Tensor, y: Tensor, q: Diagonal, v: Tensor) -> Tensor:
        """l(x, y) (..., B) nats, for v (..., B, Z) of q(v | x, y)."""
        log_y = (y * self.prior.log_y).sum(-1)
        return log_y + self.log_px(x, torch.cat([y, v], -1)) - kl_units(self.prior.code, q).sum(-1)

    def conditional(self, x: Tensor) -> ClassAndCode:
        y, q = self.codes(x)
        log_y = self.joint(x, y, q, q.mean).mT if self.classifier is None else self.classifier(x)
        return ClassAndCode(log_y.log_softmax(-1), Diagonal(q.mean.movedim(0, 1), q.log_scale.movedim(0, 1)))

    def sample_mean_of(self, labels: Tensor) -> Tensor:
        v = self.prior.code.sample(len(labels), self.conditional)
        return self.decode(torch.cat([self.every[labels], v], -1))

    def classify(self, x: Tensor) -> Tensor:
        return self.conditional(x).y

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        images, labels = self.apart(x)
        if self.classifier is None and x.shape[-1] > images.shape[-1]:
            q = self.code(images, labels)
            return -self.joint(images, labels, q, q.draw(1).z[0]).mean()
        y, q = self.codes(images)
        joint = self.joint(images, y, q, q.draw(1).z[0]).mT  # (B, C)
        log_y = (joint if self.classifier is None else self.classifier(images)).log_softmax(-1)
        known = labels.sum(-1, keepdim=True)
        share = known * labels + (1 - known) * log_y.exp()
        bound = (share * (joint - (1 - known) * log_y)).sum(-1)
        return (-bound - self.weight / self.label_share * (labels * log_y).sum(-1)).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        d: Draws = self.infer(x, 1, x.new_ones(()))
        return d.log_px.mean(0) - d.kl
