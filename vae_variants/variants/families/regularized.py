"""VAEs with a term that looks at the latents of a batch."""

from vae_variants.variants.variant import family

add = family("regularizer")

KUMAR = "Kumar, Sattigeri & Balakrishnan 2018, DIP-VAE, arXiv:1711.00848"

# fmt: off
add("beta-tc-vae", "total correlation of the latents weighted by 6", "Chen et al. 2018, beta-TCVAE, arXiv:1802.04942",
    model="vae", regularizer="tc")
add("dip-vae-i", "covariance of posterior means drawn to the identity", KUMAR, model="vae", regularizer="dip")
add("dip-vae-ii", "covariance of the latents drawn to the identity", KUMAR, model="vae", regularizer="dip", kind="ii", diagonal=10.0)
add("factor-vae", "total correlation of the latents by a critic", "Kim & Mnih 2018, Disentangling by factorising, arXiv:1802.05983",
    model="vae", regularizer="factor")
add("wae-mmd", "deterministic encoder, latents drawn to the prior by a maximum mean discrepancy",
    "Tolstikhin et al. 2018, Wasserstein auto-encoders, arXiv:1711.01558",
    model="vae", posterior="point", objective="reconstruction", regularizer="mmd", likelihood="gaussian")
add("sliced-wae", "the same by a sliced Wasserstein distance", "Kolouri et al. 2019, Sliced-Wasserstein autoencoder, arXiv:1804.01947",
    model="vae", posterior="point", objective="reconstruction", regularizer="sliced", likelihood="gaussian")
add("aae", "deterministic encoder, latents drawn to the prior by a critic",
    "Makhzani et al. 2016, Adversarial autoencoders, arXiv:1511.05644",
    model="vae", posterior="point", objective="reconstruction", regularizer="adversarial", likelihood="gaussian")
