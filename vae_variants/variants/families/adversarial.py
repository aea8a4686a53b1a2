"""Models with a critic on images."""

from vae_variants.variants.variant import family

add = family("adversarial")

# fmt: off
add("gan", "non-saturating GAN on grey pixels, gradient penalty on real images",
    "Goodfellow et al. 2014, arXiv:1406.2661; Mescheder et al. 2018, arXiv:1801.04406", model="gan", lr=1e-3)
add("vae-gan", "reconstruction in the hidden features of a critic on images, which also judges samples",
    "Larsen et al. 2016, Autoencoding beyond pixels, arXiv:1512.09300", model="vae", objective="vae-gan", likelihood="gaussian", lr=1e-3)
