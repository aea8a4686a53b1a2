"""What the latent units encode."""

import math
import warnings
from functools import lru_cache

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import Encoder, GaussianPosterior

ACTIVE = 0.01
IMAGES = 10_000  # test images at most, where all pairs of them are looked at
CLUSTERED = 2000  # test images at most for the clusters
ROWS = 500
PRECISION = 1e-6  # nats: what the expanded square of a difference may lose


def active(codes: Tensor) -> Tensor:
    """Units whose mean varies over images with a variance above 0.01 (Burda et al. 2016): (N, Z) -> (Z,) bool."""
    return codes.var(0, correction=0) > ACTIVE


@metric(needs=(GaussianPosterior, Encoder), unit="units", better="none")
def active_units(e: Evaluation) -> float:
    """latent units whose posterior mean has a variance above {ACTIVE} over the test images

    Formula: number of units j with Var_x(E_q[z_j | x]) > {ACTIVE}.
    Estimator: variance, with 1/N, over test images in the model's own pixels.
    Sample size: all test images.
    Fails: the threshold decides unless variances are far above or far below it, as is usual. The decoder may ignore an active unit.
    Reference: Burda et al. 2016, Importance Weighted Autoencoders.
    """
    return active(e.encoded(e.data.test)).sum().item()


def log_aggregate(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log (1/N) sum_j N(z_i; mean_j, diag scale_j^2), for z (N, Z) with z_i sampled from the i-th Gaussian: (N,), in float64.

    The N^2 densities are one matrix product of expanded squares, unless that loses more than `PRECISION`; a sample's own is direct.
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
    """The estimate of I_q(x; z) in nats, and the indices of its test images."""
    assert isinstance(e.model, GaussianPosterior)
    index = spread(len(e.test), IMAGES)
    with e.noise("mutual information"):
        parts = [e.model.moments(x) for x in e.test[index.to(e.device)].split(e.rows())]
        mean, scale = (torch.cat(found).double() for found in zip(*parts, strict=True))
        noise = torch.randn_like(mean)
        own = (-0.5 * noise.square() - scale.log()).sum(1) - 0.5 * math.log(2 * math.pi) * mean.shape[1]
        value = (own - log_aggregate(mean + scale * noise, mean, scale)).clamp(max=math.log(len(index))).mean().item()
    return value, index


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="lower-bound")
def mutual_information(e: Evaluation) -> float:
    """I_q(x; z) between test images and latents; at most the rate, and at most information_ceiling

    Formula: I_q(x; z) = E_x E_q(z|x)[log q(z | x) - log q(z)], q(z) = E_x q(z | x).
    Estimator: mean_i log q(z_i | x_i) / ((1/N) sum_j q(z_i | x_j)), one sample z_i for each of N images, including j = i, in float64. Its
    expectation is at most I, and equals I if the N images are the whole population.
    Sample size: all test images, at most {IMAGES}.
    Fails: saturates within about a nat of log N; there it only says that I is at least that.
    Reference: Hoffman & Johnson 2016, ELBO surgery; van den Oord et al. 2018, Representation Learning with Contrastive Predictive Coding.
    """
    return information(e)[0]


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="exact")
def information_ceiling(e: Evaluation) -> float:
    """log of the number of images, the largest value that mutual_information can have

    Formula: log N.
    Estimator: known.
    Sample size: all test images, at most {IMAGES}.
    Fails: never.
    Reference: none
    """
    return math.log(len(information(e)[1]))


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="estimate")
def marginal_kl(e: Evaluation) -> float:
    """KL(q(z) || p(z)) between the aggregate posterior and the prior: rate minus mutual_information

    Formula: E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)).
    Estimator: the closed-form rate over the images of mutual_information, minus that.
    Sample size: all test images, at most {IMAGES}.
    Fails: far too high if mutual_information is near information_ceiling. Sampling noise can make a small value negative.
    Reference: Hoffman & Johnson 2016, ELBO surgery.
    """
    value, index = information(e)
    return e.elbo.rate[index].mean().item() - value


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate")
def clustering_score(e: Evaluation) -> float:
    """adjusted mutual information between the classes and as many k-means clusters of the standardised latents of test images

    Formula: (I(u; v) - E I) / (mean(H(u), H(v)) - E I) of classes u and clusters v, E I the expectation over random labellings of the
    same sizes: 0 by chance, 1 if they agree.
    Estimator: k-means with as many clusters as classes, best of 4 fixed starts, on standardised active latents of grey images.
    Sample size: at most {CLUSTERED} test images at equal distances.
    Fails: k-means finds round clusters of similar size and misses other shapes. Standardising weighs all units equally.
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
    if classes < 2:
        raise Skip("the test images have one class")
    if not keep.any():
        return 0.0
    kept = codes[:, keep]
    x = ((kept - kept.mean(0)) / kept.std(0)).numpy()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")  # of copies, or of collapsed latents
        return float(adjusted_mutual_info_score(y, KMeans(classes, n_init=4, random_state=0).fit_predict(x)))
