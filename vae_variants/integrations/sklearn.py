"""Any model with an encoder as a scikit-learn transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from numbers import Integral
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from vae_variants.components import foreign_files
from vae_variants.datasets import Data, Dataset
from vae_variants.harness.environment import choose_device
from vae_variants.isolation import unchanged
from vae_variants.models.base import MODELS, Coder, Density, Encoder, LatentVariable, Model, Sampler
from vae_variants.models.likelihoods import Support
from vae_variants.registry import UserError, closest
from vae_variants.training.loop import fit
from vae_variants.training.population import Population
from vae_variants.variants import Configuration, build, configure

LEVELS = 256  # grey levels of an 8-bit likelihood
SAMPLES = 64  # posterior samples for each row in a bound
SCALINGS = ("features", "all", "none")
FIX = "let the plug-in restore what it sets"
WATCHED = 100  # rows whose loss is computed after each epoch, to notice training that diverges


def alike(shape: tuple[int, int, int], n: int) -> Dataset:
    """What a model needs to know of n training images."""
    return cast(Dataset, SimpleNamespace(shape=tuple(shape), levels=LEVELS, sizes={"train": n}, classes=None))


def can(*capabilities: type) -> Callable[[VAETransformer], bool]:
    """Condition for `available_if`: the model, or an untrained one of the selector, has one of these capabilities."""

    def check(self: VAETransformer) -> bool:
        try:
            found = getattr(self, "model_", None) or build(self.configuration(), alike(self.shape or (1, 8, 8), 1))
            return isinstance(found, capabilities)
        except UserError as error:
            raise AttributeError(str(error)) from error

    return check


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Latents of a VAE, or of any other model with an encoder, for rows X (n, D) of real numbers. It ignores y.

    Args:
        selector: a variant or one configuration, as on the command line.
        latent, epochs, batch, lr: replace the values of the selector, e.g. in a grid search; None keeps them.
        scaling: how X is scaled to the [0, 1] of the models. "features" uses the range of each feature in the training rows, "all" the
            range of all features (pixels), "none" expects X in [0, 1].
        shape: (channels, height, width) for networks that see images; None is (1, 1, D).
        random_state: seed of initialisation, batch order and noise.
        device: auto, cpu or cuda for training; the trained model is kept on the CPU in float64.

    New rows may leave the range. A Gaussian likelihood, the default, takes them as they are. Other likelihoods see them clipped to
    [0, 1], an 8-bit likelihood sees them rounded to 256 levels, and a binary one takes them as the probability of a 1. A feature that
    is constant in the training rows comes back as that constant.
    """

    def __init__(
        self,
        selector: str = "vae[likelihood=gaussian-learnt]",
        *,
        latent: int | None = 10,
        epochs: int | None = 50,
        batch: int | None = 100,
        lr: float | None = 1e-3,
        scaling: str = "features",
        shape: tuple[int, int, int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.selector = selector
        self.latent = latent
        self.epochs = epochs
        self.batch = batch
        self.lr = lr
        self.scaling = scaling
        self.shape = shape
        self.random_state = random_state
        self.device = device

    def configuration(self) -> Configuration:
        """The configuration that the parameters name. Raises `UserError` for several, or for an option that its model does not have."""
        found = configure(self.selector)
        if len(found) > 1:
            raise UserError(f"selector {self.selector!r} spans {len(found)} configurations; name one")
        chosen = {"latent": self.latent, "epochs": self.epochs, "batch": self.batch, "lr": self.lr}
        return found[0].with_defaults(**{key: value for key, value in chosen.items() if value is not None})

    def fit(self, X: Any, y: Any = None) -> VAETransformer:
        """Train the model on rows X (n, D). Raises ValueError for wrong parameters and for training that diverges."""
        X = validate_data(self, X, dtype=np.float64, order="C")
        try:
            configuration, device = self.configuration(), choose_device(self.device)
            if self.scaling not in SCALINGS:
                raise UserError(closest("scaling", self.scaling, SCALINGS))
            if not issubclass(MODELS[configuration.values["model"]], Encoder):
                raise UserError(f"{self.selector!r} has no encoder, so it has no latents")
            shape = self.shape or (1, 1, X.shape[1])
            if math.prod(shape) != X.shape[1]:
                raise UserError(f"shape {shape} has {math.prod(shape)} features, and X has {X.shape[1]}")
            self._learn_scale(X)
            support = configuration.support
            data = Data(support, x := self._seen(X, support).float(), x[:WATCHED], x[:WATCHED], dynamic=support is Support.BINARY)
            like = alike(shape, len(X))
            with unchanged("training", FIX) if foreign_files(configuration.values) else nullcontext():
                population = Population(lambda: build(configuration, like), (self._seed(),), device)
                self.curves_ = {name: [row[0] for row in rows] for name, rows in fit(population, data, configuration.recipe).items()}
        except UserError as error:
            raise ValueError(str(error)) from error
        if not all(math.isfinite(value) for curve in self.curves_.values() for value in curve):
            raise ValueError("training diverged: its loss is not finite; try a lower lr, or another scaling")
        (member,) = population.members()
        self.model_: Model = member.cpu().double()
        self._n_features_out = self._encode(X[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Rows (n, D) -> latents (n, Z); for a VAE these are the posterior means."""
        return self._encode(self._checked(X))

    @available_if(can(Coder))
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Latents (n, Z) -> rows (n, D), the means of p(x | z), in the scale of the training rows."""
        check_is_fitted(self)
        z = torch.from_numpy(check_array(X, dtype=np.float64, order="C", copy=True))
        if z.shape[1] != self._n_features_out:
            raise ValueError(f"X has {z.shape[1]} features, but latents have {self._n_features_out}")
        with torch.no_grad():
            return self._back(cast(Coder, self.model_).decode(z))

    @available_if(can(Density, LatentVariable))
    def score_samples(self, X: Any) -> np.ndarray:
        """Rows (n, D) -> log p(x) of each row in nats (n,): exact, or an importance-weighted bound of 64 posterior samples.

        Densities are in the scale of X, so that two scalings can be compared. Every row gets the same noise, so its value does not
        depend on the other rows. A binary likelihood sees features of 0.5 and above as 1.
        """
        x = self._seen(self._checked(X), self.model_.support)
        if self.model_.support is Support.BINARY:
            x = (x >= 0.5).double()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if isinstance(self.model_, Density) and self.model_.exact:
                found = self.model_.log_prob(x)
            else:
                model, t = cast(LatentVariable, self.model_), torch.ones((), dtype=torch.float64)
                bound = torch.func.vmap(lambda row: model.infer(row[None], SAMPLES, t).log_w, randomness="same", chunk_size=64)
                found = bound(x).squeeze(-1).logsumexp(-1) - math.log(SAMPLES)
        jacobian = 0.0 if self.model_.support.discrete else float(np.log(self.span_[self.span_ > 0]).sum())
        return found.numpy() - jacobian

    @available_if(can(Density, LatentVariable))
    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`."""
        return float(np.mean(self.score_samples(X)))

    @available_if(can(Sampler))
    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> np.ndarray:
        """Rows (n_samples, D) sampled from the model, in the scale of the training rows."""
        check_is_fitted(self)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
            return self._back(cast(Sampler, self.model_).sample(n_samples))

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, order="C", reset=False)  # frames have columns side by side

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral) and self.random_state >= 0:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _learn_scale(self, X: np.ndarray) -> None:
        """x = (X - low_) / span_, and X = low_ + x span_; a constant feature is divided by 1."""
        axis: Sequence[int] = (0,) if self.scaling == "features" else (0, 1)
        low, high = (np.zeros(1), np.ones(1)) if self.scaling == "none" else (X.min(axis), X.max(axis))
        with np.errstate(over="ignore"):
            span = high - low
        if not np.isfinite(span).all():
            raise UserError("the range of X is not finite; scale X first")
        self.low_ = np.broadcast_to(low, X.shape[1]).copy()
        self.span_ = np.broadcast_to(span, X.shape[1]).copy()

    def _seen(self, X: np.ndarray, support: Support) -> Tensor:
        """Rows as the model sees them, (n, D) float64."""
        x = torch.from_numpy((X - self.low_) / np.where(self.span_ > 0, self.span_, 1.0))
        if support is not Support.REAL:
            x = x.clamp(0, 1)
        return (x * (LEVELS - 1)).round() / (LEVELS - 1) if support is Support.BYTE else x

    def _back(self, x: Tensor) -> np.ndarray:
        return x.numpy() * self.span_ + self.low_

    def _encode(self, X: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return cast(Encoder, self.model_).encode(self._seen(X, self.model_.support)).numpy()
