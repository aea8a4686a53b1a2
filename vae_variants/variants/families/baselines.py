"""The baseline, other sizes of it, and VAEs whose likelihood is exact."""

from vae_variants.variants.families.papers import KINGMA
from vae_variants.variants.variant import family

add = family("baseline")

M2 = "Kingma et al. 2014, Semi-supervised learning with deep generative models, arXiv:1406.5298 (sums over a discrete code)"
LUCAS = "Lucas et al. 2019, Don't Blame the ELBO!, NeurIPS"

# fmt: off
add("vae-bernoulli", "VAE, sigmoid decoder on binarised pixels: the baseline", KINGMA, model="vae")
for _latent in (2, 5, 10, 20, 50):
    add(f"vae-latent-{_latent}", f"the baseline with {_latent} latent units", KINGMA, model="vae", latent=_latent)
add("vae-conv", "the baseline with a small convolutional network", KINGMA, model="vae", network="conv")
add("vae-categorical", "VAE with one categorical code of 32 values, summed over: exact log p(x), ELBO and gap", M2,
    model="categorical-vae")
add("vae-linear", "linear-Gaussian VAE with 20 latent units (probabilistic PCA): exact log p(x) beside its bounds", LUCAS,
    model="linear-vae")
