"""A regularizer: what is added to any objective, given K samples of z for each of B images.

The squared correlations of latent units are a worked example: put your own in their place. With a critic or other parameters of its own
it is a class: see docs/extending.md.
"""

import torch

from vae_variants import REGULARIZERS


@REGULARIZERS.add  # the name of the function, in kebab case, is its name in a selector
def template(d, weight: float = 1.0):  # options have defaults: vae[regularizer=...,weight=1|10] sets them
    """`weight` times the sum of the squared covariances of different latent units over the batch."""
    # d has what an objective sees, and q, the posterior of the B images; x (B, D); mean (K, B, D), the decoder's; model, which draws from
    # the prior: d.model.draw_prior(n). The result is (), or (B,) of which the mean is taken; in nats, to be minimised.
    z = d.q.mean - d.q.mean.mean(0)
    covariance = z.mT @ z / len(z)
    return weight * (covariance - torch.diag_embed(covariance.diagonal())).square().sum()
