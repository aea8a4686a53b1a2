"""Priors of codes: p(k) of a sequence k of S symbols, each one of C."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from vae_variants.models.code_grids import CodeGrid
from vae_variants.models.fitting import fitted, held
from vae_variants.models.masked import MaskedLinear, MaskedNetwork
from vae_variants.models.quantizers import one_hot
from vae_variants.registry import Registry


class CodePrior(nn.Module, ABC):
    """Base class of priors of codes. A constructor takes `size`, rows and columns of the grid of symbols, and `codes`, C.

    Keyword options with defaults follow.

    Attributes:
        symbols: S, rows times columns; they are in raster order.
        fits: Whether it is fitted to the codes of training images, after training; until then it is uniform.
    """

    fits: ClassVar[bool] = True

    def __init__(self, size: tuple[int, int], codes: int) -> None:
        super().__init__()
        self.size, self.symbols, self.codes = size, math.prod(size), codes

    @abstractmethod
    def log_prob(self, indices: Tensor) -> Tensor:
        """Symbols (..., S), integers from 0 to C - 1 -> log p (...) nats."""

    @abstractmethod
    def sample(self, n: int, like: Tensor) -> Tensor:
        """n sequences of symbols (n, S), on the device of `like`."""

    def fit(self, indices: Tensor, held_out: Tensor) -> None:
        """Fills buffers from codes (N, S) and from others (M, S) that are held out, deterministically. Shapes stay unchanged."""


CODE_PRIORS: Registry[type[CodePrior]] = Registry("code-prior")


@CODE_PRIORS.add(name="uniform")
class UniformPrior(CodePrior):
    """Each symbol with probability 1 / C: a code costs S log C nats."""

    fits = False

    def log_prob(self, indices: Tensor) -> Tensor:
        cost = torch.full(indices.shape[:-1], -self.symbols * math.log(self.codes), dtype=torch.get_default_dtype())
        return cost.to(indices.device)

    def sample(self, n: int, like: Tensor) -> Tensor:
        return torch.randint(self.codes, (n, self.symbols), device=like.device)


class FittedPrior(CodePrior):
    """Base class of prod_i p(k_i | k_1 .. k_(i-1)) by a network.

    Adam maximises the likelihood of the codes of training images in so many `steps`; the weights that are best on a tenth of these images,
    which is held out, are kept. A sample takes one pass for each symbol.
    """

    def __init__(self, size: tuple[int, int], codes: int, steps: int) -> None:
        super().__init__(size, codes)
        self.steps = steps
        self.network = held(self.build())

    @abstractmethod
    def build(self) -> nn.Module:
        """A network for which all values are alike probable."""

    @abstractmethod
    def log_p(self, network: nn.Module, indices: Tensor) -> Tensor:
        """Symbols (..., S) -> log p of each value of each symbol given those before it, (..., S, C)."""

    def score(self, network: nn.Module, indices: Tensor) -> Tensor:
        """Symbols (..., S) -> log p of each given those before it, (..., S)."""
        return self.log_p(network, indices).gather(-1, indices.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, indices: Tensor) -> Tensor:
        return self.score(self.network, indices).sum(-1)

    def fit(self, indices: Tensor, held_out: Tensor) -> None:
        def build() -> nn.Module:
            return self.build().to(next(self.network.buffers()))

        network = fitted(build, lambda network, k: -self.score(network, k).sum(-1), indices, self.steps, held_out)
        self.network.load_state_dict(network.state_dict())

    @torch.no_grad()
    def sample(self, n: int, like: Tensor) -> Tensor:
        indices = torch.zeros(n, self.symbols, dtype=torch.long, device=like.device)
        for i in range(self.symbols):
            p = self.log_p(self.network, indices)[:, i].exp()
            indices[:, i] = torch.multinomial(p, 1).squeeze(-1)
        return indices


@CODE_PRIORS.add(name="masked")
class MaskedPrior(FittedPrior):
    """prod_i p(k_i | k_1 .. k_(i-1)) by a masked network of one-hot symbols, with two layers of `features` units (MADE)."""

    def __init__(self, size: tuple[int, int], codes: int, *, features: int = 64, steps: int = 500) -> None:
        self.features = features
        super().__init__(size, codes, steps)

    def build(self) -> MaskedNetwork:
        network = MaskedNetwork(self.symbols, self.codes, (self.features, self.features), inputs=self.codes)
        last = network.layers[-1]
        assert isinstance(last, MaskedLinear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return network

    def log_p(self, network: nn.Module, indices: Tensor) -> Tensor:
        like = next(buffer for buffer in self.network.buffers() if buffer.is_floating_point())
        hot = one_hot(indices, self.codes, like).flatten(-2)
        return torch.stack(network(hot), -1).log_softmax(-1)


@CODE_PRIORS.add(name="pixelcnn")
class PixelCNNPrior(FittedPrior):
    """prod_i p(k_i | k_1 .. k_(i-1)) by a gated PixelCNN of `layers` layers with `features` channels (van den Oord et al. 2016b).

    The grid is that of the network (`conv-grid`); the symbols of a cell stand side by side. Other networks have the grid that is as nearly
    square as the number of positions allows.
    """

    def __init__(
        self, size: tuple[int, int], codes: int, *, features: int = 16, layers: int = 2, kernel: int = 3, steps: int = 500
    ) -> None:
        self.features, self.layers, self.kernel = features, layers, kernel
        super().__init__(size, codes, steps)

    def build(self) -> CodeGrid:
        sizes = {"features": self.features, "layers": self.layers, "kernel": self.kernel}
        network = CodeGrid(self.codes, *self.size, **sizes)
        nn.init.zeros_(network.network.last.weight)
        return network

    def log_p(self, network: nn.Module, indices: Tensor) -> Tensor:
        return network(indices.reshape(-1, *self.size)).log_softmax(-1).reshape(*indices.shape, self.codes)
