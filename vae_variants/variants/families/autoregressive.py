"""Chains of pixels, with an exact likelihood."""

from vae_variants.variants.variant import family

add = family("autoregressive")

MADE = "Germain et al. 2015, MADE, arXiv:1502.03509"

# fmt: off
add("fvbn", "logistic autoregression over pixels: exact likelihood", "Frey, Hinton & Dayan 1996, NIPS", model="fvbn")
add("made", "masked autoregressive network, one order of the pixels", MADE, model="made")
add("made-orders-8", "the same over 8 orders, mixed as joints", MADE, model="made", orders=8)
