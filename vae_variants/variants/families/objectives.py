"""VAEs whose KL is weighted, or whose reconstruction is no density."""

from vae_variants.variants.families.papers import IAF
from vae_variants.variants.variant import family

add = family("objective")

SONDERBY = "Sonderby et al. 2016, Ladder VAE, arXiv:1602.02282"

# fmt: off
add("beta-vae-4", "KL weighted by 4", "Higgins et al. 2017, beta-VAE, ICLR", model="vae", objective="beta", beta=4.0)
add("vae-warm-up", "KL weight rising from 0 to 1 over the first 30 % of training", SONDERBY, model="vae", objective="warm-up")
add("vae-free-bits", "at least 0.25 nats allowed to each latent unit", IAF, model="vae", objective="free-bits")
add("vae-capacity", "KL held near a capacity that rises to 25 nats", "Burgess et al. 2018, Understanding disentangling, arXiv:1804.03599",
    model="vae", objective="capacity")
add("vae-cyclical", "KL weight rising from 0 to 1 four times", "Fu et al. 2019, Cyclical annealing schedule, arXiv:1903.10145",
    model="vae", objective="cyclical")
add("info-vae", "part of the KL exchanged for a maximum mean discrepancy", "Zhao, Song & Ermon 2019, InfoVAE, arXiv:1706.02262",
    model="vae", objective="info")
add("vae-log-cosh", "log cosh of the error in place of a log density", "Chen et al. 2019, Log hyperbolic cosine loss, OpenReview",
    model="vae", objective="log-cosh")
add("vae-ms-ssim", "structural similarity in place of a log density",
    "Snell et al. 2017, Learning to generate images with perceptual similarity metrics, arXiv:1511.06409",
    model="vae", objective="ms-ssim")
