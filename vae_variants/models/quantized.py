"""Autoencoders with codes of a finite set, as generative models with a prior of codes."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vae_variants.models.base import MODELS, Coded, Density, Finished
from vae_variants.models.code_priors import CodePrior, UniformPrior
from vae_variants.models.codebooks import VectorQuantizer
from vae_variants.models.draws import Draws
from vae_variants.models.latent import Generator
from vae_variants.models.likelihoods import Likelihood, Support
from vae_variants.models.networks import Network, Shape, decoder, encoder, network_of
from vae_variants.models.posteriors import Point, Space
from vae_variants.models.quantizers import Quantizer
from vae_variants.models.samplers import CODES
from vae_variants.registry import UserError

COPIES, HELD_OUT = 4, 10  # binarisations of each training image, and one of so many images is held out, when a prior of codes is fitted


def grid(network: str | Network, positions: int, shape: Shape) -> tuple[int, int]:
    """Rows and columns of the positions: the cells of a network that has them, each with equally many, else as nearly square as can be.

    Raises:
        UserError: If the positions do not fill the cells, or are 0 (one for each cell) and there are none.
    """
    if (cells := network_of(network).cells) is None:
        if not positions:
            raise UserError("positions=0 stands for one at each cell of the network's grid, and this one has none; write network=conv-grid")
        rows = max(n for n in range(1, math.isqrt(positions) + 1) if positions % n == 0)
        return rows, positions // rows
    rows, columns = cells(shape)
    if positions % (rows * columns):
        found = f"the network's latents are a grid of {rows}x{columns} cells for these images, which positions={positions} does not fill"
        raise UserError(f"{found}; write positions=0 for one at each cell, or network=conv")
    return rows, columns * (positions // (rows * columns) or 1)


class Code(Point):
    """All mass, 1, at one of finitely many vectors: log q is 0 there."""

    density = True


@MODELS.add(name="quantized-vae")
class QuantizedVAE(Generator, Density, Coded, Finished):
    """Autoencoder with codes: at each of `positions` the encoder gives a vector, of which `quantizer` makes symbols k(x) (VQ-VAE).

    It minimises -log p(x | k(x)) and the quantizer's loss. `code_prior` is p(k): uniform, or fitted to the codes of training images
    afterwards. As q(k | x) has all mass at k(x), log p(x) >= log p(x | k(x)) + log p(k(x)), which is the ELBO: rate -log p(k(x)),
    distortion -log p(x | k(x)) (van den Oord et al. 2017). Its latents are the vectors of all symbols. The decoder is given, for each
    position, the sum of their vectors. With `positions` 0 there is one at each cell of the network's grid.
    """

    exact: ClassVar[bool] = False
    space = Space.CODES

    def __init__(
        self,
        shape: Shape,
        likelihood: Likelihood,
        quantizer: Quantizer | None = None,
        code_prior: Callable[[tuple[int, int], int], CodePrior] = UniformPrior,
        *,
        positions: int = 4,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.quantizer = quantizer or VectorQuantizer()
        rows, columns = grid(network, positions, shape)
        self.positions, self.codes, self.depth = rows * columns, self.quantizer.codes, self.quantizer.depth
        units = self.positions * self.quantizer.width
        self.encoder = encoder(network, shape, units, hidden, activation)
        self.decoder = decoder(network, units, shape, likelihood.k, hidden, activation)
        self.code_prior = code_prior((rows, columns * self.depth), self.codes)
        self.likelihood, self.shape, self.support = likelihood, shape, likelihood.support
        if not self.code_prior.fits:
            self.lose(Finished)

    def initialise(self, x: Tensor) -> None:
        super().initialise(x)
        self.quantizer.initialise(self.hidden(x[:CODES]))

    def hidden(self, x: Tensor) -> Tensor:
        """x (B, D) -> the encoder's vectors (B, P, W)."""
        return self.encoder(x).unflatten(-1, (self.positions, self.quantizer.width))

    def symbols(self, x: Tensor) -> Tensor:
        return self.quantizer.indices(self.hidden(x)).flatten(-2)

    def vectors(self, symbols: Tensor) -> Tensor:
        """Symbols (..., S) -> latents (..., Z)."""
        return self.quantizer.lookup(symbols.unflatten(-1, (self.positions, self.depth))).flatten(-3)

    def read(self, z: Tensor) -> Tensor:
        """Latents (..., Z) -> the symbols (..., S) with the nearest vectors."""
        parts = z.unflatten(-1, (self.positions, self.depth, self.quantizer.width))
        found = [torch.cdist(parts[..., level, :], codes).argmin(-1) for level, codes in enumerate(self.quantizer.table())]
        return torch.stack(found, -1).flatten(-2)

    def outputs(self, z: Tensor) -> Tensor:
        return super().outputs(z.unflatten(-1, (self.positions, self.depth, self.quantizer.width)).sum(-2).flatten(-2))

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        z, loss = self.quantizer(self.hidden(x), t)
        return (loss - self.likelihood.log_prob(self.decoder(z.flatten(-2)), x)).mean()

    def conditional(self, x: Tensor) -> Code:
        return Code(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        return self.vectors(self.symbols(x))

    def bound(self, x: Tensor) -> Tensor:
        symbols = self.symbols(x)
        return super().log_px(x, self.vectors(symbols)) + self.log_code(symbols, x)

    def log_code(self, symbols: Tensor, like: Tensor) -> Tensor:
        """log p(k) of symbols (..., S), (...) nats with the type of `like`."""
        return self.code_prior.log_prob(symbols).to(like.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.bound(x)

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        """k equal samples, decoded once."""
        symbols = self.symbols(x)
        z = self.vectors(symbols).unsqueeze(0)
        outputs, log_p = self.outputs(z), self.log_code(symbols, x)
        log_px = self.likelihood.log_prob(outputs, x).expand(k, -1)
        zero = torch.zeros_like(log_px)
        q, z, outputs = Code(z[0]), z.expand(k, -1, -1), outputs.expand(k, -1, -1)
        return Draws(log_px, log_p.expand(k, -1), zero, -log_p, -log_p.unsqueeze(-1), z, t, q=q, x=x, outputs=outputs, model=self)

    def draw_prior(self, n: int) -> Tensor:
        return self.vectors(self.code_prior.sample(n, next(self.decoder.parameters())))

    def latents(self, n: int) -> Tensor:
        return self.draw_prior(n)

    def log_prior(self, z: Tensor) -> Tensor:
        return self.log_code(self.read(z), z)

    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.draw_prior(n)
        return self.likelihood.sample(self.outputs(z)), z

    def finish(self, x: Tensor) -> None:
        """Fits the prior to the codes of training images; of binary pixels, to those of several binarisations."""
        x = x[:CODES]
        if self.support is Support.BINARY:
            with torch.random.fork_rng([x.device] if x.is_cuda else []):
                torch.manual_seed(0)
                x = torch.bernoulli(x.expand(COPIES, *x.shape))
        else:
            x = x.unsqueeze(0)
        rows = math.ceil(2**22 / x[0, 0].numel())
        symbols = torch.stack([torch.cat([self.symbols(part) for part in copy.split(rows)]) for copy in x])
        out = torch.arange(symbols.shape[1], device=x.device) % HELD_OUT == 0
        self.code_prior.fit(symbols[:, ~out].flatten(0, 1), symbols[:, out].flatten(0, 1))
