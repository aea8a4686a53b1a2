"""What is not trained: bounds of the scale of other rows."""

from vae_variants.variants.variant import family

add = family("reference")

# fmt: off
add("reference-data", "real training images, as if sampled", "", model="real-data")
for _latent in (2, 5, 10, 20, 50):
    add(f"reference-pca-{_latent}", f"{_latent} principal components", "Pearson 1901", model="pca", latent=_latent)
for _latent in (10, 20):
    add(f"reference-ica-{_latent}", f"{_latent} independent components", "Hyvarinen 1999, Fast and robust fixed-point algorithms",
        model="ica", latent=_latent)
add("reference-pixels", "raw pixels as the code", "", model="pixels")
add("reference-random-projection", "Gaussian random projection", "", model="random-projection")
add("reference-random-encoder", "untrained encoder", "", model="random-encoder")
