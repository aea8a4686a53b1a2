"""VAEs whose posterior follows the density of the model, and VAEs with curved latents."""

from vae_variants.variants.variant import family

add = family("geometric")

# fmt: off
add("hvae", "posterior moved by 3 tempered leapfrog steps on -log p(x, z)",
    "Caterini, Doucet & Sejdinovic 2018, Hamiltonian Variational Auto-Encoder, arXiv:1805.11328",
    model="vae", posterior="hamiltonian")
