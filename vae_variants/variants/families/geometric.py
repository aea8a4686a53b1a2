"""VAEs whose posterior follows the density of the model, and VAEs with curved latents."""

from vae_variants.variants.variant import family

add = family("geometric")

# fmt: off
add("hvae", "posterior moved by 3 tempered leapfrog steps on -log p(x, z)",
    "Caterini, Doucet & Sejdinovic 2018, Hamiltonian Variational Auto-Encoder, arXiv:1805.11328",
    model="vae", posterior="hamiltonian")
add("rhvae", "10 latent units; posterior moved by a leapfrog step in a learnt metric, which also draws the samples",
    "Chadebec et al. 2020, Geometry-Aware Hamiltonian VAE, arXiv:2010.11518; samples: Chadebec et al. 2021, arXiv:2105.00026",
    model="riemannian-vae")
add("vae-poincare", "5 latent units in the Poincaré ball: wrapped normal posterior and prior",
    "Mathieu et al. 2019, Continuous Hierarchical Representations with Poincaré VAEs, arXiv:1901.06033",
    model="vae", posterior="wrapped-normal", prior="wrapped-normal", latent=5)
