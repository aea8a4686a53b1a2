"""VAEs with other likelihoods."""

from vae_variants.variants.families.papers import KINGMA
from vae_variants.variants.variant import family

add = family("likelihood")

RYBKIN = "Rybkin, Daniilidis & Levine 2021, sigma-VAE, arXiv:2006.13202"
SALIMANS = "Salimans et al. 2017, PixelCNN++, arXiv:1701.05517"
LOAIZA = "Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, arXiv:1907.06845"

# fmt: off
add("vae-gaussian", "VAE, Gaussian decoder of constant standard deviation 1 (squared error)", KINGMA,
    model="vae", likelihood="gaussian", sigma=1.0)
add("vae-gaussian-0.1", "VAE, Gaussian decoder with standard deviation 0.1", KINGMA, model="vae", likelihood="gaussian", sigma=0.1)
add("vae-gaussian-learnt", "VAE, Gaussian decoder with one learnt standard deviation", RYBKIN, model="vae", likelihood="gaussian-learnt")
add("vae-gaussian-pixel", "VAE, Gaussian decoder with a standard deviation for each pixel", KINGMA,
    model="vae", likelihood="gaussian-pixel")
add("vae-gaussian-optimal", "VAE, Gaussian decoder whose variance is the mean squared error", RYBKIN,
    model="vae", likelihood="gaussian-optimal")
add("vae-laplace", "VAE, Laplace decoder with one learnt scale", KINGMA, model="vae", likelihood="laplace")
add("vae-student-t", "VAE, Student's t decoder with 5 degrees of freedom and one learnt scale",
    "Takahashi et al. 2018, Student-t variational autoencoder, IJCAI", model="vae", likelihood="student-t")
add("vae-discretized", "VAE, discretized logistic over the stored grey levels", SALIMANS, model="vae", likelihood="discretized-logistic")
add("vae-logistic-mixture", "VAE, mixture of discretized logistics over the stored grey levels", SALIMANS,
    model="vae", likelihood="logistic-mixture")
add("vae-continuous-bernoulli", "VAE, continuous Bernoulli on grey pixels", LOAIZA, model="vae", likelihood="continuous-bernoulli")
