"""VAEs with other priors, or a second model of their latents to draw from."""

from vae_variants.variants.families.papers import MAF, TWO_STAGE
from vae_variants.variants.variant import family

add = family("prior")

VAMP = "Tomczak & Welling 2018, VAE with a VampPrior, arXiv:1705.07120"
EXEMPLAR = "Norouzi, Fleet & Norouzi 2020, Exemplar VAE, arXiv:2004.04795"
REALNVP = "Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP, arXiv:1605.08803"

# fmt: off
add("vae-mixture-prior", "prior of 10 learnt Gaussians", VAMP, model="vae", prior="mixture")
add("vade", "prior of 10 learnt Gaussians that cluster the images, after a warm-up in place of pretraining",
    "Jiang et al. 2017, Variational deep embedding, arXiv:1611.05148",
    model="vae", prior="mixture", objective="warm-up", latent=10)
add("vae-vamp", "prior that is the mean posterior of 100 learnt pseudo-inputs", VAMP, model="vae", prior="vamp")
add("vae-exemplar", "prior that is the mean posterior of 500 training images", EXEMPLAR, model="vae", prior="exemplar")
add("vae-realnvp-prior", "prior that is a flow of 4 affine couplings", REALNVP, model="vae", prior="realnvp")
add("vae-maf-prior", "prior that is a flow of 2 masked autoregressive layers", MAF, model="vae", prior="maf")
add("vae-two-stage", "VAE, Gaussian decoder with one learnt standard deviation, and a second VAE of its latents to sample from", TWO_STAGE,
    model="vae", sampler="second-stage", likelihood="gaussian-learnt")
