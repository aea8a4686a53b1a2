"""VAEs with several layers of latents."""

from vae_variants.variants.families.bounds import BURDA
from vae_variants.variants.families.objectives import SONDERBY
from vae_variants.variants.variant import family

add = family("hierarchical")

CHILD = "Child 2021, Very deep VAEs generalize autoregressive models, arXiv:2011.10650"

# fmt: off
add("vae-two-layers", "two layers of latents, the upper one inferred from the lower", BURDA, model="hierarchical")
for _samples in (8, 50):
    add(f"iwae-two-layers-{_samples}", f"the same, trained on the importance-weighted bound with {_samples} samples", BURDA,
        model="hierarchical", objective="iwae", samples=_samples)
add("ladder-vae", "three layers of latents inferred from the top down, KL weight rising from 0 to 1", SONDERBY,
    model="hierarchical", inference="top-down", latents=[32, 16, 8], objective="warm-up")
add("vdvae", "convolutional: a grid of latents in each residual block, inferred from the top down", CHILD,
    model="vdvae", lr=3e-3)  # at 0.01 all layers collapse
