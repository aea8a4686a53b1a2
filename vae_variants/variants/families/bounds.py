"""VAEs trained on other bounds, or by other gradients."""

from vae_variants.variants.families.papers import KINGMA
from vae_variants.variants.variant import family

add = family("bound")

BURDA = "Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders, arXiv:1509.00519"
ROEDER = "Roeder, Wu & Duvenaud 2017, Sticking the landing, arXiv:1703.09194"
TUCKER = "Tucker et al. 2019, Doubly reparameterized gradient estimators, arXiv:1810.04152"
RAINFORTH = "Rainforth et al. 2018, Tighter variational bounds are not necessarily better, arXiv:1802.04537"

# fmt: off
for _samples in (8, 64):
    add(f"vae-samples-{_samples}", f"the ELBO estimated from {_samples} draws of z per image", KINGMA, model="vae", samples=_samples)
for _samples in (8, 64):
    add(f"iwae-{_samples}", f"importance-weighted bound with {_samples} draws", BURDA, model="vae", objective="iwae", samples=_samples)
add("vae-stl", "the ELBO by its path gradient, without the score of q", ROEDER, model="vae", objective="stl")
add("iwae-dreg-8", "importance-weighted bound with 8 draws, doubly reparameterised gradient", TUCKER,
    model="vae", objective="dreg", samples=8)
add("miwae-8x8", "mean of 8 importance-weighted bounds with 8 samples each", RAINFORTH,
    model="vae", objective="miwae", groups=8, samples=64)
add("piwae-8x8", "encoder trained by 8 bounds with 8 samples each, decoder by the bound with 64", RAINFORTH,
    model="vae", objective="piwae", groups=8, samples=64)
add("ciwae-64", "half the ELBO and half the importance-weighted bound with 64 samples", RAINFORTH,
    model="vae", objective="ciwae", samples=64)
add("vae-renyi", "Renyi's bound of order 0.5 with 8 samples", "Li & Turner 2016, Renyi divergence variational inference, NeurIPS",
    model="vae", objective="renyi", samples=8)
