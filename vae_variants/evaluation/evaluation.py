"""One trained model on the test images: shared, expensive quantities, computed once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vae_variants.datasets import Data, Dataset
from vae_variants.datasets.levels import Images
from vae_variants.evaluation import units, weights
from vae_variants.evaluation.fidelities import Fidelity
from vae_variants.evaluation.pieces import spread, stored
from vae_variants.models.base import ClosedElbo, Coder, Decoder, Density, Encoder, Euclidean, LatentVariable, MeanSampler, Model
from vae_variants.models.latent import Generator
from vae_variants.training.batches import derive_seed, fork_rng
from vae_variants.training.precision import precision

UNITS_OF = 10_000  # grey images at most, for the variance of the latent units
LEVELS = (1, 10, 100, 1000)  # numbers of samples for which the bound is kept
IMAGES = 25  # per chunk of the bound
ELEMENTS = 2**21  # numbers per tensor in a chunk: 8 MiB in float32, about a cache


@dataclass(frozen=True)
class Elbo:
    """Terms of the ELBO for each test image, (N,) nats in float64."""

    rate: Tensor
    distortion: Tensor
    rate_units: Tensor  # (U,) rate of each latent unit, mean over the images; one number if the KL is no sum over units
    latent: int  # Z, the number of latent units
    variance: Tensor  # (N,) Monte-Carlo variance of their sum, nats^2; 0 without samples

    @property
    def value(self) -> Tensor:
        return -self.rate - self.distortion

    @property
    def by_unit(self) -> bool:
        """Whether the KL is a sum over latent units."""
        return len(self.rate_units) == self.latent


@dataclass(frozen=True)
class Bound:
    """Importance-weighted bounds of M test images from K samples each: `index` (M,), the rest (M,) in float64."""

    index: Tensor
    levels: dict[int, Tensor]  # k -> L_k, nats, for powers of ten up to K, and for K
    ess: Tensor  # effective sample size
    shape: Tensor  # Pareto k of the weights
    jackknife: Tensor  # L_K with its bias of order 1/K removed, nats
    variance: Tensor  # Monte-Carlo variance of L_K, nats^2
    variance_1: Tensor  # of L_1, from all K samples

    @property
    def k(self) -> int:
        return max(self.levels)

    @property
    def value(self) -> Tensor:
        """L_K."""
        return self.levels[self.k]


class Evaluation:
    """One member of a population, a data set and a preset: the argument of every metric.

    Noise depends on (data set, seed, purpose), never on the model, so that variants share random numbers.

    Attributes:
        fidelity: The preset.
        cost: Measured by the runner: train_seconds, train_images_per_second, train_product_share, peak_memory_bytes.
        data: Images (N, D) in the model's support; `test` are its test images, on `device`.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        seed: int,
        fidelity: Fidelity,
        device: torch.device | str = "cpu",
        cost: Mapping[str, float] | None = None,
    ) -> None:
        self.model, self.dataset, self.seed, self.fidelity = model, dataset, seed, fidelity
        self.device, self.cost = torch.device(device), dict(cost or {})
        self.data: Data = dataset.as_(model.support)
        self.test = self.data.test.to(self.device)

    @contextmanager
    def noise(self, purpose: str) -> Iterator[None]:
        """A context with a random stream of its own for `purpose`, without gradients."""
        with fork_rng(self.device), torch.no_grad(), precision("fp32"):
            torch.manual_seed(derive_seed("evaluation", self.dataset.digest, self.seed, purpose))
            yield

    def rows(self, copies: int = 1) -> int:
        """Images per chunk, so that `copies` decoder outputs per image stay within `ELEMENTS` numbers."""
        outputs = self.model.likelihood.k if isinstance(self.model, Decoder) else 1
        return max(1, ELEMENTS // (copies * outputs * self.dataset.dim))

    @cached_property
    def elbo(self) -> Elbo:
        """KL, and the mean of -log p(x | z) over `elbo_samples` samples, or without samples if the model can, for every test image."""
        assert isinstance(self.model, LatentVariable)
        if isinstance(self.model, ClosedElbo):
            return self.closed_elbo
        k, t, parts, terms = self.fidelity.elbo_samples, torch.ones((), device=self.device), [], []
        with self.noise("elbo"):
            for x in self.test.split(self.rows(k)):
                draws = self.model.infer(x, k, t)
                log_px = draws.log_px.double()
                noisy = log_px if self.model.closed_kl else draws.log_w.double()
                parts.append(torch.stack([draws.kl.double(), -log_px.mean(0), noisy.var(0) / k]).cpu())
                terms.append(draws.kl_units.double().sum(0).cpu())
        rate, distortion, variance = torch.cat(parts, -1)
        return Elbo(rate, distortion, torch.stack(terms).sum(0) / len(self.test), draws.z.shape[-1], variance)

    @cached_property
    def precise(self) -> Model:
        """The model in float64, if its ELBO and log p(x) have closed forms, of which the gap is a small difference; else the model."""
        return deepcopy(self.model).double() if isinstance(self.model, ClosedElbo) else self.model

    @cached_property
    def closed_elbo(self) -> Elbo:
        model, t, parts, terms = self.precise, torch.ones((), device=self.device), [], []
        assert isinstance(model, ClosedElbo)
        with self.noise("elbo"):
            for x in map(Tensor.double, self.test.split(self.rows())):
                draws = model.infer(x, 1, t)
                parts.append(torch.stack([draws.kl, -model.bound(x) - draws.kl]).cpu())
                terms.append(draws.kl_units.sum(0).cpu())
        rate, distortion = torch.cat(parts, -1)
        return Elbo(rate, distortion, torch.stack(terms).sum(0) / len(self.test), draws.z.shape[-1], torch.zeros_like(rate))

    @cached_property
    def bound(self) -> Bound:
        """Bounds from K samples per image. Few images with many samples form a chunk, because each chunk encodes its images again."""
        assert isinstance(self.model, LatentVariable)
        total, t, parts = self.fidelity.bound_samples, torch.ones((), device=self.device), []
        ks = sorted({k for k in LEVELS if k < total} | {total})
        index = spread(len(self.test), self.fidelity.bound_images)
        images = min(len(index), IMAGES)
        chunk = max(1, min(total, self.rows(images)))
        with self.noise("bound"):
            for x in self.test[index.to(self.device)].split(images):
                chunks = [self.model.infer(x, min(chunk, total - start), t).log_w.double() for start in range(0, total, chunk)]
                log_w = torch.cat(chunks).cpu()
                found = [weights.bound(log_w, k) for k in ks]
                found += [f(log_w) for f in (weights.effective_draws, weights.pareto_shape, weights.jackknife, weights.variance)]
                found.append(log_w.var(0) / total)
                parts.append(torch.stack(found))
        levels, rest = torch.cat(parts, -1).split([len(ks), 5])
        return Bound(index, dict(zip(ks, levels, strict=True)), *rest)

    @cached_property
    def log_prob(self) -> Tensor:
        """Exact log p(x) of every test image, (N,) float64."""
        model = self.precise
        assert isinstance(model, Density) and model.exact
        with self.noise("log_prob"):
            like = torch.double if isinstance(model, ClosedElbo) else torch.float
            return torch.cat([model.log_prob(x.to(like)).double().cpu() for x in self.test.split(self.rows())])

    def encoded(self, images: Images) -> Tensor:
        """(N, D) -> (N, Z) float64, in chunks."""
        assert isinstance(self.model, Encoder)
        with self.noise("codes"):
            return torch.cat([self.model.encode(x.to(self.device)).double().cpu() for x in images.split(self.rows())])

    @cached_property
    def codes(self) -> dict[str, Tensor]:
        """split -> latents (N, Z) float64 of the grey images; every encoder sees the same images."""
        return {name: self.encoded(stored(self.dataset, name)) for name in self.dataset.sizes}

    def variance(self, images: Images) -> units.Variance:
        """Of the latent units of a model with q(z | x), over images (N, D)."""
        assert isinstance(self.model, LatentVariable)
        with self.noise("units"):
            return units.variance(self.model, (x.to(self.device) for x in images.split(self.rows())))

    @cached_property
    def variances(self) -> dict[str, units.Variance]:
        """split -> variance of the latent units over its grey images, at most 10 000 at equal distances."""
        return {name: self.variance(stored(self.dataset, name, UNITS_OF)) for name in ("train", "test")}

    def varying(self, split: str) -> Tensor:
        """(Z,) which units vary with the grey images of "train" or "test": active ones, or without a Euclidean q those not constant."""
        return self.variances[split].active if isinstance(self.model, Euclidean) else units.varying(self.codes[split])

    @cached_property
    def reconstructions(self) -> Tensor:
        """Decoder means at the latents of the grey test images, (N, D)."""
        assert isinstance(self.model, Coder)
        with self.noise("reconstructions"):
            parts = stored(self.dataset).split(self.rows())
            return torch.cat([self.model.decode(self.model.encode(x.to(self.device))).cpu() for x in parts])

    @cached_property
    def sample_means(self) -> Tensor:
        """Noise-free generated images, (n, D) clamped to [0, 1]."""
        assert isinstance(self.model, MeanSampler)
        n = self.fidelity.image_samples
        with self.noise("samples"):
            if isinstance(self.model, Generator) and type(self.model).sample_mean is Generator.sample_mean:  # all noise is in latents
                means = torch.cat([self.model.decode(z) for z in self.model.latents(n).split(self.rows())])
            else:
                means = self.model.sample_mean(n)
            return means.clamp(0, 1).cpu()
