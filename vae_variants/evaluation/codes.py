"""How a model uses the codes of a finite alphabet."""

import math

import torch
from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.models.base import Coded


def shares(e: Evaluation) -> Tensor:
    """(depth, C) of the symbols of each level, over test images and positions, the share of each code; float64."""
    assert isinstance(e.model, Coded)
    with e.noise("symbols"):
        symbols = torch.cat([e.model.symbols(x).cpu() for x in e.test.split(e.rows())])
    levels = symbols.unflatten(-1, (-1, e.model.depth)).flatten(0, 1)  # (N * P, depth)
    return torch.stack([level.bincount(minlength=e.model.codes) for level in levels.mT]).double() / len(levels)


@metric(needs=(Coded,), unit="fraction", better="higher", kind="measurement")
def codebook_usage(e: Evaluation) -> float:
    """share of the codes that encode some test image at some position

    Formula: |{k_i(x)}| / C, over test images x and positions i; C is the size of the alphabet; the mean over levels.
    Estimator: a count. Positions share their codes.
    Sample size: all test images, P positions each.
    Fails: rises with the number of test images and positions, and counts a code that is used once like any other: see code_perplexity.
    A share of training images, which other programs report, is higher if they are more. It is no metric here: a code that only training
    images use may be one that was placed on them, and says nothing of new images.
    Reference: Mentzer et al. 2024, Finite Scalar Quantization, section 4.2.
    """
    return (shares(e) > 0).double().mean().item()


@metric(needs=(Coded,), unit="codes", better="higher", kind="estimate")
def code_perplexity(e: Evaluation) -> float:
    """exp of the entropy of the codes of test images: so many equally frequent codes; at most the size of the alphabet

    Formula: exp(-sum_c f_c log f_c), with f_c the share of code c over test images and positions; the mean over levels.
    Estimator: from the shares, pooled over positions.
    Sample size: all test images, P positions each.
    Fails: too low if the alphabet is not much smaller than the number of images times positions. Says nothing of dependence between
    positions, which a fitted prior of codes finds: see code_bits. Published values are often those of a training batch, which is another
    number of images: compare them with care.
    Reference: van den Oord et al. 2017, Neural Discrete Representation Learning, whose implementations report it.
    """
    f = shares(e)
    return (-torch.xlogy(f, f).sum(1)).exp().mean().item()


@metric(needs=(Coded,), unit="bits", better="none", kind="exact")
def code_bits(e: Evaluation) -> float:
    """bits that the code of an image costs under the model's prior of codes: the rate in bits

    Formula: -log2 p(k(x)), mean over the test images; S log2 C for a uniform prior of S symbols with C values.
    Estimator: exact, in float64.
    Sample size: all test images.
    Fails: says what codes cost, not what they say. A prior that is fitted after training lowers it without another decoder.
    Reference: van den Oord et al. 2017, Neural Discrete Representation Learning.
    """
    return e.elbo.rate.mean().item() / math.log(2)
