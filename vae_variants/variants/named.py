"""The named variants: each is a model with some options chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vae_variants.registry import Registry


@dataclass(frozen=True)
class Variant:
    """A named configuration: `config` holds the model and the options that differ from its defaults."""

    name: str
    description: str
    reference: str
    config: Mapping[str, Any]


VARIANTS: Registry[Variant] = Registry("variant")


@VARIANTS.validator
def _fault(obj: Any) -> str:
    if not isinstance(obj, Variant):
        return 'is not a variant; write Variant(name, description, reference, {"model": "vae", ...})'
    if "model" not in obj.config:
        return 'names no model; write {"model": "vae", ...} for its configuration'
    return ""


def _add(name: str, description: str, reference: str, **config: Any) -> None:
    VARIANTS.add(Variant(name, description, reference, config), name=name)


KINGMA = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114"
BURDA = "Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders, arXiv:1509.00519"
RYBKIN = "Rybkin, Daniilidis & Levine 2021, sigma-VAE, arXiv:2006.13202"
M2 = "Kingma et al. 2014, Semi-supervised learning with deep generative models, arXiv:1406.5298 (sums over a discrete code)"
LUCAS = "Lucas et al. 2019, Don't Blame the ELBO!, NeurIPS"
SALIMANS = "Salimans et al. 2017, PixelCNN++, arXiv:1701.05517"
LOAIZA = "Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, arXiv:1907.06845"
SONDERBY = "Sonderby et al. 2016, Ladder VAE, arXiv:1602.02282"
IAF = "Kingma et al. 2016, Inverse autoregressive flow, arXiv:1606.04934"
ROEDER = "Roeder, Wu & Duvenaud 2017, Sticking the landing, arXiv:1703.09194"
TUCKER = "Tucker et al. 2019, Doubly reparameterized gradient estimators, arXiv:1810.04152"
MADE = "Germain et al. 2015, MADE, arXiv:1502.03509"

# fmt: off
_add("ae", "autoencoder with 20 codes, squared error", "Hinton & Salakhutdinov 2006, Science 313:504",
     model="autoencoder", likelihood="gaussian", latent=20)
_add("ae-gmm", "the same, and a mixture of 10 Gaussians on its codes to draw from", "Ghosh et al. 2020, RAE, arXiv:1903.12436",
     model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", latent=20)
_add("vae-bernoulli", "VAE, sigmoid decoder on binarised pixels: the baseline", KINGMA, model="vae")
_add("vae-gaussian", "VAE, Gaussian decoder of constant standard deviation 1 (squared error)", KINGMA,
     model="vae", likelihood="gaussian", sigma=1.0)
_add("vae-gaussian-0.1", "VAE, Gaussian decoder with standard deviation 0.1", KINGMA, model="vae", likelihood="gaussian", sigma=0.1)
_add("vae-gaussian-learnt", "VAE, Gaussian decoder with one learnt standard deviation", RYBKIN, model="vae", likelihood="gaussian-learnt")
_add("vae-discretized", "VAE, discretized logistic over the stored grey levels", SALIMANS, model="vae", likelihood="discretized-logistic")
_add("vae-continuous-bernoulli", "VAE, continuous Bernoulli on grey pixels", LOAIZA, model="vae", likelihood="continuous-bernoulli")
for _latent in (2, 5, 10, 20, 50):
    _add(f"vae-latent-{_latent}", f"the baseline with {_latent} latent units", KINGMA, model="vae", latent=_latent)
for _samples in (8, 64):
    _add(f"vae-samples-{_samples}", f"the ELBO estimated from {_samples} draws of z per image", KINGMA, model="vae", samples=_samples)
for _samples in (8, 64):
    _add(f"iwae-{_samples}", f"importance-weighted bound with {_samples} draws", BURDA, model="vae", objective="iwae", samples=_samples)
_add("vae-stl", "the ELBO by its path gradient, without the score of q", ROEDER, model="vae", objective="stl")
_add("iwae-dreg-8", "importance-weighted bound with 8 draws, doubly reparameterised gradient", TUCKER,
     model="vae", objective="dreg", samples=8)
_add("beta-vae-4", "KL weighted by 4", "Higgins et al. 2017, beta-VAE, ICLR", model="vae", objective="beta", beta=4.0)
_add("vae-warm-up", "KL weight rising from 0 to 1 over the first 30 % of training", SONDERBY, model="vae", objective="warm-up")
_add("vae-free-bits", "at least 0.25 nats allowed to each latent unit", IAF, model="vae", objective="free-bits")
_add("vae-categorical", "VAE with one categorical code of 32 values, summed over: exact log p(x), ELBO and gap", M2,
     model="categorical-vae")
_add("vae-linear", "linear-Gaussian VAE with 20 latent units (probabilistic PCA): exact log p(x) beside its bounds", LUCAS,
     model="linear-vae", latent=20)
_add("vae-conv", "the baseline with a small convolutional network", KINGMA, model="vae", network="conv")
_add("gan", "non-saturating GAN on grey pixels, gradient penalty on real images",
     "Goodfellow et al. 2014, arXiv:1406.2661; Mescheder et al. 2018, arXiv:1801.04406", model="gan", lr=1e-3)
_add("fvbn", "logistic autoregression over pixels: exact likelihood", "Frey, Hinton & Dayan 1996, NIPS", model="fvbn")
_add("made", "masked autoregressive network, one order of the pixels", MADE, model="made")
_add("made-orders-8", "the same over 8 orders, mixed as joints", MADE, model="made", orders=8)
_add("reference-data", "real training images, as if sampled", "", model="real-data")
for _latent in (2, 5, 10, 20, 50):
    _add(f"reference-pca-{_latent}", f"{_latent} principal components", "Pearson 1901", model="pca", latent=_latent)
_add("reference-pixels", "raw pixels as the code", "", model="pixels")
_add("reference-random-projection", "Gaussian random projection to 20 codes", "", model="random-projection", latent=20)
_add("reference-random-encoder", "untrained encoder with 20 codes", "", model="random-encoder", latent=20)

# -- priors and samplers -----------------------------------------------------------------------------------------------

VAMP = "Tomczak & Welling 2018, VAE with a VampPrior, arXiv:1705.07120"
EXEMPLAR = "Norouzi, Fleet & Norouzi 2020, Exemplar VAE, arXiv:2004.04795"
REALNVP = "Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP, arXiv:1605.08803"
MAF = "Papamakarios, Pavlakou & Murray 2017, Masked autoregressive flow, arXiv:1705.07057"
TWO_STAGE = "Dai & Wipf 2019, Diagnosing and enhancing VAE models, arXiv:1903.05789"

_add("vae-mixture-prior", "prior of 10 learnt Gaussians", VAMP, model="vae", prior="mixture")
_add("vae-vamp", "prior that is the mean posterior of 100 learnt pseudo-inputs", VAMP, model="vae", prior="vamp")
_add("vae-exemplar", "prior that is the mean posterior of 500 training images", EXEMPLAR, model="vae", prior="exemplar")
_add("vae-realnvp-prior", "prior that is a flow of 4 affine couplings", REALNVP, model="vae", prior="realnvp")
_add("vae-maf-prior", "prior that is a flow of 2 masked autoregressive layers", MAF, model="vae", prior="maf")
_add("ae-maf", "the autoencoder, and a masked autoregressive flow on its latents to sample from", MAF,
     model="autoencoder", sampler="maf", likelihood="gaussian", latent=20)
_add("ae-two-stage", "the autoencoder, and a second VAE of its latents to sample from", TWO_STAGE,
     model="autoencoder", sampler="second-stage", likelihood="gaussian", latent=20)
_add("vae-two-stage", "VAE, Gaussian decoder with one learnt standard deviation, and a second VAE of its latents to sample from", TWO_STAGE,
     model="vae", sampler="second-stage", likelihood="gaussian-learnt")
_add("vae-full", "Gaussian posterior with a full covariance matrix", KINGMA, model="vae", posterior="full")
_add("vae-planar", "posterior moved by 8 planar flows", "Rezende & Mohamed 2015, Normalizing flows, arXiv:1505.05770",
     model="vae", posterior="planar")
_add("vae-radial", "posterior moved by 8 radial flows", "Rezende & Mohamed 2015, Normalizing flows, arXiv:1505.05770",
     model="vae", posterior="radial")
_add("vae-sylvester", "posterior moved by 4 Sylvester flows of 8 columns", "van den Berg et al. 2018, Sylvester flows, arXiv:1803.05649",
     model="vae", posterior="sylvester")
_add("vae-iaf", "posterior moved by 2 inverse autoregressive flows", IAF, model="vae", posterior="iaf")
_add("vae-spherical", "10 latent units on the sphere: power spherical posterior, uniform prior",
     "De Cao & Aziz 2020, The power spherical distribution, arXiv:2006.04437; Davidson et al. 2018, arXiv:1804.00891",
     model="vae", posterior="power-spherical", prior="sphere", latent=10)
_add("vae-gumbel", "20 relaxed one-hot vectors of 10 categories",
     "Jang et al. 2017, Gumbel-softmax, arXiv:1611.01144; Maddison et al. 2017, The Concrete distribution",
     model="vae", posterior="gumbel-softmax", prior="concrete", latent=200)

# objectives, regularizers and likelihoods
RAINFORTH = "Rainforth et al. 2018, Tighter variational bounds are not necessarily better, arXiv:1802.04537"
KUMAR = "Kumar, Sattigeri & Balakrishnan 2018, DIP-VAE, arXiv:1711.00848"
GHOSH = "Ghosh et al. 2020, RAE, arXiv:1903.12436"
_add("miwae-8x8", "mean of 8 importance-weighted bounds with 8 samples each", RAINFORTH,
     model="vae", objective="miwae", groups=8, samples=64)
_add("piwae-8x8", "encoder trained by 8 bounds with 8 samples each, decoder by the bound with 64", RAINFORTH,
     model="vae", objective="piwae", groups=8, samples=64)
_add("ciwae-64", "half the ELBO and half the importance-weighted bound with 64 samples", RAINFORTH,
     model="vae", objective="ciwae", samples=64)
_add("vae-renyi", "Renyi's bound of order 0.5 with 8 samples", "Li & Turner 2016, Renyi divergence variational inference, NeurIPS",
     model="vae", objective="renyi", samples=8)
_add("vae-capacity", "KL held near a capacity that rises to 25 nats", "Burgess et al. 2018, Understanding disentangling, arXiv:1804.03599",
     model="vae", objective="capacity")
_add("vae-cyclical", "KL weight rising from 0 to 1 four times", "Fu et al. 2019, Cyclical annealing schedule, arXiv:1903.10145",
     model="vae", objective="cyclical")
_add("beta-tc-vae", "total correlation of the latents weighted by 6", "Chen et al. 2018, beta-TCVAE, arXiv:1802.04942",
     model="vae", regularizer="tc")
_add("dip-vae-i", "covariance of posterior means drawn to the identity", KUMAR, model="vae", regularizer="dip")
_add("dip-vae-ii", "covariance of the latents drawn to the identity", KUMAR, model="vae", regularizer="dip", kind="ii", diagonal=10.0)
_add("info-vae", "part of the KL exchanged for a maximum mean discrepancy", "Zhao, Song & Ermon 2019, InfoVAE, arXiv:1706.02262",
     model="vae", objective="info")
_add("wae-mmd", "deterministic encoder, latents drawn to the prior by a maximum mean discrepancy",
     "Tolstikhin et al. 2018, Wasserstein auto-encoders, arXiv:1711.01558",
     model="vae", posterior="point", objective="reconstruction", regularizer="mmd", likelihood="gaussian")
_add("sliced-wae", "the same by a sliced Wasserstein distance", "Kolouri et al. 2019, Sliced-Wasserstein autoencoder, arXiv:1804.01947",
     model="vae", posterior="point", objective="reconstruction", regularizer="sliced", likelihood="gaussian")
_add("factor-vae", "total correlation of the latents by a critic", "Kim & Mnih 2018, Disentangling by factorising, arXiv:1802.05983",
     model="vae", regularizer="factor")
_add("aae", "deterministic encoder, latents drawn to the prior by a critic",
     "Makhzani et al. 2016, Adversarial autoencoders, arXiv:1511.05644",
     model="vae", posterior="point", objective="reconstruction", regularizer="adversarial", likelihood="gaussian")
_add("vae-log-cosh", "log cosh of the error in place of a log density", "Chen et al. 2019, Log hyperbolic cosine loss, OpenReview",
     model="vae", objective="log-cosh")
_add("vae-ms-ssim", "structural similarity in place of a log density",
     "Snell et al. 2017, Learning to generate images with perceptual similarity metrics, arXiv:1511.06409",
     model="vae", objective="ms-ssim")
_add("rae-l2", "autoencoder with decay of latents and decoder, mixture of Gaussians to draw from", GHOSH,
     model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="l2", shrink=1e-4)
_add("rae-gp", "autoencoder with a penalty on the decoder's gradient, mixture of Gaussians to draw from", GHOSH,
     model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="gradient-penalty")
_add("rae-sn", "autoencoder with a penalty on the decoder's spectral norms, mixture of Gaussians to draw from", GHOSH,
     model="autoencoder", sampler="gaussian-mixture", likelihood="gaussian", regularizer="spectral")
_add("vae-laplace", "VAE, Laplace decoder with one learnt scale", KINGMA, model="vae", likelihood="laplace")
_add("vae-student-t", "VAE, Student's t decoder with 5 degrees of freedom and one learnt scale",
     "Takahashi et al. 2018, Student-t variational autoencoder, IJCAI", model="vae", likelihood="student-t")
_add("vae-gaussian-pixel", "VAE, Gaussian decoder with a standard deviation for each pixel", KINGMA,
     model="vae", likelihood="gaussian-pixel")
_add("vae-gaussian-optimal", "VAE, Gaussian decoder whose variance is the mean squared error", RYBKIN,
     model="vae", likelihood="gaussian-optimal")
_add("vae-logistic-mixture", "VAE, mixture of discretized logistics over the stored grey levels", SALIMANS,
     model="vae", likelihood="logistic-mixture")
_add("vae-gan", "reconstruction in the hidden features of a critic on images, which also judges samples",
     "Larsen et al. 2016, Autoencoding beyond pixels, arXiv:1512.09300", model="vae", objective="vae-gan", likelihood="gaussian", lr=1e-3)
