"""Autoencoders, and what draws images from their codes."""

from vae_variants.variants.families.papers import MAF, TWO_STAGE
from vae_variants.variants.variant import family

add = family("autoencoder")

GHOSH = "Ghosh et al. 2020, RAE, arXiv:1903.12436"

# fmt: off
add("ae", "autoencoder, squared error", "Hinton & Salakhutdinov 2006, Science 313:504",
    model="autoencoder", likelihood="gaussian")
add("ae-gmm", "the same, and a mixture of 10 Gaussians on its codes to draw from", "Ghosh et al. 2020, RAE, arXiv:1903.12436",
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian")
add("ae-maf", "the autoencoder, and a masked autoregressive flow on its latents to sample from", MAF,
    model="autoencoder", sampler="maf", likelihood="gaussian")
add("ae-iaf", "the autoencoder, and an inverse autoregressive flow on its latents to sample from",
    "Kingma et al. 2016, Inverse autoregressive flow, arXiv:1606.04934",
    model="autoencoder", sampler="iaf", likelihood="gaussian")
add("ae-two-stage", "the autoencoder, and a second VAE of its latents to sample from", TWO_STAGE,
    model="autoencoder", sampler="second-stage", likelihood="gaussian")
add("rae-l2", "autoencoder with decay of latents and decoder, mixture of Gaussians to draw from", GHOSH,
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="l2", shrink=1e-4)
add("rae-gp", "autoencoder with a penalty on the decoder's gradient, mixture of Gaussians to draw from", GHOSH,
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="gradient-penalty")
add("rae-sn", "autoencoder with a penalty on the decoder's spectral norms, mixture of Gaussians to draw from", GHOSH,
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="spectral")
add("ae-denoising", "autoencoder that sees images with noise, and a mixture of Gaussians to draw from",
    "Vincent et al. 2008, Denoising autoencoders, doi:10.1145/1390156.1390294",
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", noise=0.3)
add("ae-contractive", "autoencoder with a penalty on the encoder's Jacobian, mixture of Gaussians to draw from",
    "Rifai et al. 2011, Contractive auto-encoders, ICML",
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="contractive")
add("ae-sparse", "autoencoder with an L1 norm of latents, mixture of Gaussians to draw from", "Ng 2011, Sparse autoencoder, CS294A notes",
    model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="sparse")
