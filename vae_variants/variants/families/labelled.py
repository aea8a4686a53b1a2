"""Models that are told the classes of training images."""

from vae_variants.variants.variant import family

add = family("labelled")

KINGMA = "Kingma et al. 2014, Semi-supervised learning with deep generative models, arXiv:1406.5298"

# fmt: off
add("conditional-vae", "VAE that is told the class of a training image; log p(x) is that of an image without its class",
    f"{KINGMA}; Sohn, Lee & Yan 2015, NIPS", model="labelled-vae")
add("m2", "the same with a classifier, told the classes of a tenth of the images", KINGMA, model="labelled-vae", share=0.1)
