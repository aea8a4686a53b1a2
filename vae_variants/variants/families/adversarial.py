"""Models with a critic on images."""

from vae_variants.variants.variant import family

add = family("adversarial")

# fmt: off
add("gan", "non-saturating GAN on grey pixels, gradient penalty on real images, averaged generator",
    "Goodfellow et al. 2014, arXiv:1406.2661; Mescheder et al. 2018, arXiv:1801.04406", model="gan", lr=1e-3, average=0.999, penalty=1.0)
add("wgan-gp", "GAN by the Wasserstein distance, gradient penalty between real and generated images, five critic steps",
    "Gulrajani et al. 2017, Improved training of Wasserstein GANs, arXiv:1704.00028",
    model="gan", loss="wgan-gp", penalty=10.0, critic_steps=5, lr=1e-3, average=0.999)
add("gan-hinge", "GAN by the hinge loss, critic of spectral norm 1", "Miyato et al. 2018, Spectral normalization, arXiv:1802.05957",
    model="gan", loss="hinge", penalty=0.0, spectral=True, lr=1e-3, average=0.999)
add("lsgan", "GAN by least squares, gradient penalty on real images", "Mao et al. 2017, Least squares GANs, arXiv:1611.04076",
    model="gan", loss="lsgan", lr=1e-3, average=0.999)
add("bigan", "generator and encoder against a critic of pairs (x, z)",
    "Donahue et al. 2017, arXiv:1605.09782; Dumoulin et al. 2017, arXiv:1606.00704", model="bigan", lr=1e-3, average=0.999)
add("avb", "posterior without a density, KL by a critic, adaptive contrast",
    "Mescheder, Nowozin & Geiger 2017, Adversarial variational Bayes, arXiv:1701.04722",
    model="vae", objective="avb", posterior="implicit", lr=2e-3)
add("soft-intro-vae", "VAE whose encoder is the critic of its decoder", "Daniel & Tamar 2021, Soft-IntroVAE, arXiv:2012.13253",
    model="vae", objective="soft-intro-vae", likelihood="gaussian", sigma=0.25, lr=2e-3)
add("vae-gan", "reconstruction in the hidden features of a critic on images, which also judges samples",
    "Larsen et al. 2016, Autoencoding beyond pixels, arXiv:1512.09300", model="vae", objective="vae-gan", likelihood="gaussian", lr=1e-3)
