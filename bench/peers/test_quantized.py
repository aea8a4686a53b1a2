"""Pythae's VQ-VAE against ours with the same weights: its codes, reconstructions and loss terms, and where it leaves the paper.

Its 0.1.2 on PyPI has no HRQVAE, so that there is nothing to compare `hrq` with.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("pythae", reason="Pythae is not installed: nox -s peers installs it")

from models import HIDDEN, PARTS, SAME, SHAPE, squares, taught

from vae_variants.models.codebooks import VectorQuantizer
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.quantized import QuantizedVAE

POSITIONS, CODES = 12, 16
T = torch.tensor(0.5)


def theirs(**options: object) -> nn.Module:
    warnings.filterwarnings("ignore", module="pythae")
    from pythae.models import VQVAE, VQVAEConfig

    model: nn.Module = VQVAE(VQVAEConfig(input_dim=SHAPE, latent_dim=POSITIONS, num_embeddings=CODES, **options))
    return model


def quantizer_of(width: int, *, ema: bool = False) -> nn.Module:
    """Pythae's, of vectors of `width` numbers, as an encoder with a grid of positions gives them."""
    from pythae.models.vq_vae.vq_vae_config import VQVAEConfig
    from pythae.models.vq_vae.vq_vae_utils import Quantizer, QuantizerEMA

    config = VQVAEConfig(input_dim=SHAPE, latent_dim=width, num_embeddings=CODES, use_ema=ema)
    config.embedding_dim = width
    found: nn.Module = QuantizerEMA(config) if ema else Quantizer(config)
    return found


@torch.no_grad()
def copied(model: nn.Module) -> QuantizedVAE:
    """Ours, with the weights of Pythae's. Its multi-layer perceptron gives vectors of one number, which are the units."""
    source, names = dict(model.named_parameters()), {**SAME, "encoder.2": "encoder.embedding"}
    found = QuantizedVAE(
        SHAPE, Bernoulli(), VectorQuantizer(codes=CODES, width=1), positions=POSITIONS, hidden=(HIDDEN,), activation="relu"
    )
    weights = {f"{mine}.{part}": source[f"{its}.{part}"] for mine, its in names.items() for part in PARTS}
    weights["quantizer.codebook"] = source["quantizer.embeddings.weight"][None]
    found.load_state_dict(weights, strict=False)
    return found


@pytest.fixture
def pair() -> tuple[nn.Module, QuantizedVAE, Tensor]:
    torch.manual_seed(0)
    model = theirs()
    with torch.no_grad():  # its start is so narrow that images use two codes
        model.quantizer.embeddings.weight.copy_(0.3 * torch.randn(CODES, 1))  # type: ignore[union-attr, operator]
    return taught(model), copied(model), squares(40)


def test_codes_reconstructions_and_loss_terms_are_the_same(pair: tuple[nn.Module, QuantizedVAE, Tensor]) -> None:
    model, mine, x = pair
    found = model({"data": x.reshape(-1, *SHAPE)})
    assert torch.equal(found.quantized_indices.flatten(1), mine.symbols(x))
    assert len(mine.symbols(x).unique()) > 3
    torch.testing.assert_close(found.z, mine.encode(x))
    torch.testing.assert_close(found.recon_x.flatten(1), mine.decode(mine.encode(x)))
    torch.testing.assert_close(found.recon_loss, (x - mine.decode(mine.encode(x))).square().sum(-1).mean())
    loss = mine.quantizer(mine.hidden(x), T).loss.mean()
    torch.testing.assert_close(found.vq_loss, loss)
    to_codes, to_encoder = torch.autograd.grad(found.vq_loss, [model.quantizer.embeddings.weight, model.encoder.embedding.weight])  # type: ignore[union-attr]
    own = torch.autograd.grad(loss, [mine.quantizer.codebook, mine.encoder[2].weight])  # type: ignore[list-item]
    torch.testing.assert_close(to_codes, own[0][0])
    torch.testing.assert_close(to_encoder, own[1])


def test_of_wider_vectors_its_terms_are_the_papers_divided_by_their_width() -> None:
    """Equation 3 of van den Oord et al. 2017 has squared norms |sg[z_e] - e|^2, which add over the numbers of a vector; Pythae averages
    over these too, so that its commitment and codebook terms are `width` times smaller beside the reconstruction."""
    width = 5
    its, mine, h = quantizer_of(width), VectorQuantizer(codes=CODES, width=width), torch.randn(30, 1, POSITIONS, width)
    with torch.no_grad():
        mine.codebook.copy_(torch.randn(1, CODES, width))
        its.embeddings.weight.copy_(mine.codebook[0])  # type: ignore[union-attr, operator]
    found, own = its(h), mine(h[:, 0], T)
    assert torch.equal(found.quantized_indices[:, 0, 0], mine.indices(h[:, 0])[..., 0])
    torch.testing.assert_close(width * found.loss, own.loss.mean())
    e = mine.lookup(mine.indices(h[:, 0]))[..., 0, :]
    torch.testing.assert_close(own.loss, 1.25 * (h[:, 0] - e).square().sum(-1).mean(-1))


def test_an_ema_step_is_the_same_from_the_same_state_and_its_start_throws_unused_codes_away() -> None:
    """The paper's e_i = m_i / N_i needs a start with m_i = N_i e_i. Pythae starts at N_i = 0 and m_i random, so that a code that the first
    batch does not use is divided by about 0 and never used again; ours starts at N_i = 1 and m_i = e_i."""
    torch.manual_seed(3)
    width = 2
    its, mine = quantizer_of(width, ema=True), VectorQuantizer(codes=CODES, width=width, ema=True, restart=0.0)
    start, h = its.embeddings.clone(), torch.randn(200, 1, POSITIONS, width)
    assert not its.cluster_size.any() and not torch.equal(its.ema_embed, start)
    its.embeddings[:8] += 3 * torch.randn(8, width)  # these are used
    before = its.embeddings.clone()
    mine.sums.copy_(before[None])
    used = mine.indices(h[:, 0]).flatten().unique()
    assert 4 < len(used) < CODES
    mine.sizes.fill_(1e-3)
    mine.sums.copy_(1e-3 * before[None])
    its.cluster_size.fill_(1e-3)
    its.ema_embed.copy_(1e-3 * before)
    its(h)
    mine(h[:, 0], T)
    torch.testing.assert_close(its.embeddings[used], mine.table()[0, used], rtol=1e-3, atol=1e-3)  # but for its Laplace smoothing
    fresh, near = quantizer_of(width, ema=True), 0.01 * torch.randn(200, 1, 1, width)
    nobody = torch.arange(CODES)[~torch.isin(torch.arange(CODES), fresh(near).quantized_indices.unique())]
    assert len(nobody) and fresh.embeddings[nobody].norm(dim=-1).min() > 100
    calm = VectorQuantizer(codes=CODES, width=width, ema=True, restart=0.0)
    kept = calm.table()[0].clone()
    calm(near[:, 0], T)
    unused = torch.isin(torch.arange(CODES), calm.indices(near[:, 0]).unique(), invert=True)
    assert unused.any()
    torch.testing.assert_close(calm.table()[0][unused], kept[unused])
