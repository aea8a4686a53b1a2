"""VAEs with other posteriors."""

from vae_variants.variants.families.papers import IAF, KINGMA
from vae_variants.variants.variant import family

add = family("posterior")

CLIP = 100.0  # of the gradient: a chain of flows can multiply it by orders of magnitude, and then a seed diverges

# fmt: off
add("vae-full", "Gaussian posterior with a full covariance matrix", KINGMA, model="vae", posterior="full")
add("vae-planar", "posterior moved by 8 planar flows", "Rezende & Mohamed 2015, Normalizing flows, arXiv:1505.05770",
    model="vae", posterior="planar", clip=CLIP)
add("vae-radial", "posterior moved by 8 radial flows", "Rezende & Mohamed 2015, Normalizing flows, arXiv:1505.05770",
    model="vae", posterior="radial", clip=CLIP)
add("vae-sylvester", "posterior moved by 4 Sylvester flows of 8 columns", "van den Berg et al. 2018, Sylvester flows, arXiv:1803.05649",
    model="vae", posterior="sylvester", clip=CLIP)
add("vae-iaf", "posterior moved by 2 inverse autoregressive flows", IAF, model="vae", posterior="iaf", clip=CLIP)
add("vae-spherical", "10 latent units on the sphere: power spherical posterior, uniform prior",
    "De Cao & Aziz 2020, The power spherical distribution, arXiv:2006.04437; Davidson et al. 2018, arXiv:1804.00891",
    model="vae", posterior="power-spherical", prior="sphere", latent=10)
add("vae-gumbel", "20 relaxed one-hot vectors of 10 categories",
    "Jang et al. 2017, Gumbel-softmax, arXiv:1611.01144; Maddison et al. 2017, The Concrete distribution",
    model="vae", posterior="gumbel-softmax", prior="concrete", latent=200)
