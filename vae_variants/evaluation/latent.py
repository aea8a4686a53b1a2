"""What the latent units encode."""

import math
import warnings
from functools import lru_cache

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import TOLD, Skip, metric
from vae_variants.evaluation.pieces import spread
from vae_variants.evaluation.units import ACTIVE, SAMPLES  # noqa: F401  (in the texts)
from vae_variants.models.base import Classifier, Encoder, Euclidean, GaussianPosterior, ScoredPosterior

IMAGES = 10_000  # test images at most, where all pairs of them are looked at
SCORED = 2000  # the same, if q is no diagonal Gaussian: its density is then asked for
CORRELATED = 500  # latents at most for the total correlation
CLUSTERED = 2000  # test images at most for the clusters
ROWS = 500
PAIRS = 2**23  # numbers of one chunk of samples with images
PRECISION = 1e-6  # nats: what the expanded square of a difference may lose


@metric(needs=(Euclidean, Encoder), unit="units", better="none")
def active_units(e: Evaluation) -> float:
    """latent units of whose variance more than 1 % is due to the test image

    Formula: number of units j with Var_x(E_q[z_j | x]) > {ACTIVE} Var(z_j), Var(z_j) = Var_x(E_q[z_j | x]) + E_x Var_q(z_j | x).
    Estimator: variance, with 1/N, over test images in the model's own pixels. Mean and variance of a diagonal Gaussian q are exact; those
    of any other come from {SAMPLES} samples of q, without bias.
    Sample size: all test images.
    Fails: the threshold decides unless variances are far above or far below it, as is usual. The decoder may ignore an active unit. Absent
    without q(z|x) on R^Z: a deterministic encoder has no variance to compare with.
    Reference: Burda et al. 2016, Importance Weighted Autoencoders, who take 0.01 on latents whose variance is near 1.
    """
    return e.variance(e.data.test).active.sum().item()


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


def log_mixture(model: ScoredPosterior, x: Tensor, z: Tensor, own: Tensor) -> Tensor:
    """log (1/N) sum_j q(z_i | x_j) of z (N, Z), by the density of q for images x (N, D); own (N,) is log q(z_i | x_i). (N,), float64."""
    rows, images = torch.arange(len(z), device=z.device), max(1, PAIRS // z.numel())
    found = z.new_full((len(z),), -torch.inf, dtype=torch.float64)
    for part, index in zip(x.split(images), rows.split(images), strict=True):
        log_q = model.conditional(part).log_prob(z[:, None].expand(-1, len(part), -1)).double()  # type: ignore[attr-defined]
        log_q[index, index - index[0]] = own[index]
        found = torch.logaddexp(found, log_q.logsumexp(1))
    return found - math.log(len(z))


def surprise(model: ScoredPosterior, x: Tensor, rows: int) -> Tensor:
    """log q(z_i | x_i) - log (1/N) sum_j q(z_i | x_j) of one sample z_i for each of the images x (N, D): (N,) float64."""
    if isinstance(model, GaussianPosterior):
        parts = [model.moments(part) for part in x.split(rows)]
        mean, scale = (torch.cat(found).double() for found in zip(*parts, strict=True))
        noise = torch.randn_like(mean)
        own = (-0.5 * noise.square() - scale.log()).sum(1) - 0.5 * math.log(2 * math.pi) * mean.shape[1]
        return own - log_aggregate(mean + scale * noise, mean, scale)
    drawn = [model.conditional(part).draw(1) for part in x.split(rows)]
    z, own = torch.cat([each.z[0] for each in drawn]), torch.cat([each.log_q[0] for each in drawn]).double()
    return own - log_mixture(model, x, z, own)


@lru_cache(maxsize=1)
def information(e: Evaluation) -> tuple[float, Tensor]:
    """The estimate of I_q(x; z) in nats, and the indices of its test images."""
    assert isinstance(e.model, ScoredPosterior)
    index = spread(len(e.test), IMAGES if isinstance(e.model, GaussianPosterior) else SCORED)
    with e.noise("mutual information"):
        found = surprise(e.model, e.test[index.to(e.device)], e.rows())
        value = found.clamp(max=math.log(len(index))).mean().item()
    return value, index


@metric(needs=(ScoredPosterior,), unit="nats", better="none", kind="lower-bound")
def mutual_information(e: Evaluation) -> float:
    """I_q(x; z) between test images and latents; at most the rate, and at most information_ceiling

    Formula: I_q(x; z) = E_x E_q(z|x)[log q(z | x) - log q(z)], q(z) = E_x q(z | x).
    Estimator: mean_i log q(z_i | x_i) / ((1/N) sum_j q(z_i | x_j)), one sample z_i for each of N images, including j = i, in float64. Its
    expectation is at most I, and equals I if the N images are the whole population.
    Sample size: all test images, at most {IMAGES}; at most {SCORED} if q is no diagonal Gaussian.
    Fails: saturates within about a nat of log N; there it only says that I is at least that. Absent if q has no density at a given z, as
    after an autoregressive flow.
    Reference: Hoffman & Johnson 2016, ELBO surgery; van den Oord et al. 2018, Representation Learning with Contrastive Predictive Coding.
    """
    return information(e)[0]


@metric(needs=(ScoredPosterior,), unit="nats", better="none", kind="exact")
def information_ceiling(e: Evaluation) -> float:
    """log of the number of images, the largest value that mutual_information can have

    Formula: log N.
    Estimator: known.
    Sample size: that of mutual_information.
    Fails: never.
    Reference: none
    """
    return math.log(len(information(e)[1]))


@metric(needs=(ScoredPosterior,), unit="nats", better="none", kind="estimate")
def marginal_kl(e: Evaluation) -> float:
    """KL(q(z) || p(z)) between the aggregate posterior and the prior: rate minus mutual_information

    Formula: E_x KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)).
    Estimator: the rate over the images of mutual_information, minus that.
    Sample size: that of mutual_information.
    Fails: far too high if mutual_information is near information_ceiling. Sampling noise can make a small value negative.
    Reference: Hoffman & Johnson 2016, ELBO surgery.
    """
    value, index = information(e)
    return e.elbo.rate[index].mean().item() - value


def of_several(e: Evaluation) -> bool:
    return len(e.test) > 1


@metric(needs=(GaussianPosterior,), unit="nats", better="lower", kind="estimate", applies=of_several)
def total_correlation(e: Evaluation) -> float:
    """KL(q(z) || prod_j q(z_j)), the dependence of the latent units of the aggregate posterior; 0 if they are independent

    Formula: E_q(z)[log q(z) - sum_j log q(z_j)], q(z) = E_x q(z | x) and q(z_j) its marginals.
    Estimator: q(z) is the mixture of q(z | x) over N test images, for which the mean over samples z of it is unbiased, in float64.
    Sample size: at most {IMAGES} images in the mixture, {CORRELATED} samples z.
    Fails: the mixture of few images is N separate bumps, whose units depend on each other. If mutual_information is near
    information_ceiling, the value is too high, by up to I - log N; compare models only below that. Latents that say less of the image
    depend less on each other: compare models of like mutual_information. Absent unless q is a diagonal Gaussian: the marginals of any
    other have no closed form.
    Reference: Chen et al. 2018, Isolating Sources of Disentanglement in Variational Autoencoders.
    """
    assert isinstance(e.model, GaussianPosterior)
    with e.noise("total correlation"):
        x = e.test[spread(len(e.test), IMAGES).to(e.device)]
        parts = [e.model.moments(part) for part in x.split(e.rows())]
        mean, scale = (torch.cat(found).double() for found in zip(*parts, strict=True))
        own = spread(len(mean), CORRELATED).to(e.device)
        z = mean[own] + scale[own] * torch.randn_like(mean[own])
        return dependence(z, mean, scale).mean().item()


def dependence(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log q(z) - sum_j log q(z_j) of samples z (S, Z), for q = (1/N) sum_i N(mean_i, diag scale_i^2), both (N, Z): (S,)."""
    joint, units = z.new_zeros(len(z), len(mean)), z.new_zeros(len(z))
    for at, centre, width in zip(z.mT, mean.mT, scale.mT, strict=True):
        log_q = -0.5 * ((at[:, None] - centre) / width).square() - width.log()
        joint += log_q
        units += log_q.logsumexp(1) - math.log(len(mean))
    return joint.logsumexp(1) - math.log(len(mean)) - units


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
    if isinstance(e.model, Classifier):
        raise Skip(TOLD)
    y = e.dataset.labels["test"][spread(len(e.test), CLUSTERED)].numpy()
    codes = e.codes["test"][spread(len(e.test), CLUSTERED)]
    keep = e.varying("test") & (codes.std(0) > 0)
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
