"""What the latent units carry."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import Encoder, GaussianPosterior

__all__ = [
    "ACTIVE",
    "active",
    "active_units",
    "clustering_score",
    "information",
    "information_ceiling",
    "log_aggregate",
    "marginal_kl",
    "mutual_information",
]

ACTIVE = 0.01
IMAGES = 10_000  # test images at most, where all pairs of them are looked at
CLUSTERED = 2000  # test images at most for the clusters
ROWS = 500
PRECISION = 1e-6  # nats: what the expanded square of a difference may lose


def active(codes: Tensor) -> Tensor:
    """Units whose posterior mean varies over images with a variance above 0.01 (Burda et al. 2016), (N, Z) -> (Z,) bool."""
    return codes.var(0, correction=0) > ACTIVE


@metric(needs=(GaussianPosterior, Encoder), unit="units", better="none")
def active_units(e: Evaluation) -> float:
    """latent units whose posterior mean has a variance above 0.01 over the test images

    Formula: number of units j with Var_x(E_q[z_j | x]) > 0.01.
    Estimator: variance, with 1/N, over test images in the model's own pixels (binary where the model is).
    Sample size: all test images.
    Fails: the count means something only where the variances fall into two groups, far above and far below 0.01, as they do for a VAE
    that has been trained to the end; in between, the threshold decides. An active unit need not be of use to the decoder.
    Reference: Burda et al. 2016, Importance Weighted Autoencoders.
    """
    return active(e.encoded(e.data.test)).sum().item()


def log_aggregate(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log (1/N) sum_j N(z_i; mean_j, diag scale_j^2) for codes z (N, Z) of which the i-th was drawn from the i-th Gaussian: (N,).

    All in float64. The squares are multiplied out, which makes the N^2 densities one matrix product, unless that would lose more
    than `PRECISION`; each code's own density is computed as it stands.
    """
    centre = mean.mean(0)
    z, mean, precision = z - centre, mean - centre, scale**-2
    constant = -scale.log().sum(1) - 0.5 * math.log(2 * math.pi) * mean.shape[1]
    own = -0.5 * ((z - mean) / scale).square().sum(1) + constant
    largest = (torch.maximum(z.square().amax(0), mean.square().amax(0)) * precision.amax(0)).sum().item()
    right = torch.cat([-0.5 * precision, mean * precision], 1).mT
    offset = constant - 0.5 * (mean.square() * precision).sum(1)
    found = []
    for rows in torch.arange(len(z), device=z.device).split(ROWS):
        part = z[rows]
        if largest * torch.finfo(z.dtype).eps < PRECISION:
            log_q = torch.cat([part.square(), part], 1) @ right + offset
        else:
            log_q = torch.stack([-0.5 * ((one - mean) / scale).square().sum(1) + constant for one in part])
        log_q[torch.arange(len(rows), device=z.device), rows] = own[rows]
        found.append(log_q.logsumexp(1) - math.log(len(mean)))
    return torch.cat(found)


@lru_cache(maxsize=1)
def information(e: Evaluation) -> tuple[float, Tensor]:
    """The estimate of I_q(x; z) in nats, and which test images it is of."""
    assert isinstance(e.model, GaussianPosterior)
    index = spread(len(e.test), IMAGES)
    with e.noise("mutual information"):
        parts = [e.model.posterior(x) for x in e.test[index.to(e.device)].split(e.rows())]
        mean, scale = (torch.cat(found).double() for found in zip(*parts, strict=True))
        noise = torch.randn_like(mean)
        own = (-0.5 * noise.square() - scale.log()).sum(1) - 0.5 * math.log(2 * math.pi) * mean.shape[1]
        value = (own - log_aggregate(mean + scale * noise, mean, scale)).clamp(max=math.log(len(index))).mean().item()
    return value, index


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="lower-bound")
def mutual_information(e: Evaluation) -> float:
    """I_q(x; z) between test images and their codes: at most the rate, and at most information_ceiling by construction

    Formula: I_q(x; z) = E_x E_q(z|x)[log q(z | x) - log q(z)], q(z) = E_x q(z | x).
    Estimator: mean_i log q(z_i | x_i) / ((1/N) sum_j q(z_i | x_j)), one draw z_i for each of N images, the own among the j: in
    expectation at most I, and exactly I if the N images were all there are. float64.
    Sample size: N is all test images, at most 10 000.
    Fails: it saturates. Where it is within a nat or so of log N it says only that I is at least that.
    Reference: Hoffman & Johnson 2016, ELBO surgery; van den Oord et al. 2018, Representation Learning with Contrastive Predictive
    Coding (the bound).
    """
    return information(e)[0]


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="exact")
def information_ceiling(e: Evaluation) -> float:
    """log of the images that mutual_information looks at, which it cannot exceed

    Formula: log N.
    Estimator: none: it is known.
    Sample size: N is all test images, at most 10 000.
    Fails: cannot.
    Reference: none
    """
    return math.log(len(information(e)[1]))


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="estimate")
def marginal_kl(e: Evaluation) -> float:
    """KL(q(z) || p(z)), how far the aggregate posterior is from the prior: rate less mutual_information

    Formula: E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)).
    Estimator: the rate in closed form over the images of mutual_information, less that.
    Sample size: all test images, at most 10 000.
    Fails: what mutual_information misses for want of images is counted here: near information_ceiling it is far too high. Noise of
    the one draw for each image can put a small value under 0.
    Reference: Hoffman & Johnson 2016, ELBO surgery.
    """
    value, index = information(e)
    return e.elbo.rate[index].mean().item() - value


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate")
def clustering_score(e: Evaluation) -> float:
    """adjusted mutual information of the classes with as many k-means clusters of the standardised test codes

    Formula: (I(u; v) - E I) / (mean(H(u), H(v)) - E I) of classes u and clusters v, E I the expectation over random labellings of the
    same sizes: 0 by chance, 1 where they are the same.
    Estimator: k-means with as many clusters as classes, the best of 4 starts from a fixed seed, on standardised codes of grey images
    without the units that do not move.
    Sample size: at most 2000 test images at even distances.
    Fails: k-means finds round clusters of like size; codes that keep the classes apart in other shapes score low. Standardising gives
    each unit the same weight, useful or not.
    Reference: Vinh, Epps & Bailey 2010, Information Theoretic Measures for Clusterings Comparison.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    if e.dataset.labels is None:
        raise Skip("the data set has no labels")
    y = e.dataset.labels["test"][spread(len(e.test), CLUSTERED)].numpy()
    codes = e.codes["test"][spread(len(e.test), CLUSTERED)]
    keep = codes.std(0) > 1e-4 if not isinstance(e.model, GaussianPosterior) else active(codes)
    classes = len(set(y.tolist()))
    if not keep.any() or classes < 2:
        return 0.0
    kept = codes[:, keep]
    x = ((kept - kept.mean(0)) / kept.std(0)).numpy()
    with threadpool_limits(1):
        return float(adjusted_mutual_info_score(y, KMeans(classes, n_init=4, random_state=0).fit_predict(x)))
