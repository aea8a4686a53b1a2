"""A sampler: the latents from which images are decoded after training.

One Gaussian is a worked example: put your own in its place.
"""

import torch

from vae_variants import SAMPLERS, LatentSampler


@SAMPLERS.add  # the name of the class, in kebab case, is its name in a selector
class Template(LatentSampler):
    """One Gaussian with full covariance."""  # what `vae-variants list samplers` shows

    def __init__(self, latent: int, ridge: float = 1e-4):  # options have defaults: autoencoder[sampler=...,ridge=0.01] sets them
        super().__init__(latent)
        self.ridge = ridge
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("root", torch.eye(latent))

    def fit(self, codes):
        """Fills the buffers from the latents (N, Z) of training images; shapes stay as they are."""
        self.mean.copy_(codes.mean(0))
        self.root.copy_(torch.linalg.cholesky(codes.mT.cov() + self.ridge * torch.eye(self.latent, dtype=codes.dtype)))

    def draw(self, n, model):
        """n -> (n, Z)."""
        return self.mean + torch.randn(n, self.latent, dtype=self.mean.dtype, device=self.mean.device) @ self.root.mT
