"""What the latent units carry."""

from __future__ import annotations

import math

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_variants.evaluation.ais import log_normal
from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.model import Encoder, GaussianPosterior, LatentVariable

__all__ = ["ACTIVE", "active", "active_units", "clustering_score", "mutual_information"]

ACTIVE = 0.01
IMAGES = 2000  # test images at most, where all pairs of them are looked at


def active(codes: Tensor) -> Tensor:
    """Units whose posterior mean varies over images with a variance above 0.01 (Burda et al. 2016), (N, Z) -> (Z,) bool."""
    return codes.var(0, correction=0) > ACTIVE


@metric(needs=(LatentVariable, Encoder), unit="units", better="none")
def active_units(e: Evaluation) -> float:
    """latent units whose posterior mean has a variance above 0.01 over the test images"""
    return active(e.encoded(e.data.test)).sum().item()


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="estimate")
def mutual_information(e: Evaluation) -> float:
    """I_q(x; z) between test images and their codes: at most the rate, and at most log of the images (2000) by construction

    mean_i log q(z_i | x_i) / ((1/N) sum_j q(z_i | x_j)), one draw z_i for each of N images, the own among the j. The rate less this
    is KL(q(z) || p(z)), how far the aggregate posterior is from the prior (Hoffman & Johnson 2016).
    """
    assert isinstance(e.model, GaussianPosterior)
    x = e.test[spread(len(e.test), IMAGES).to(e.device)]
    with e.noise("mutual information"):
        mean, scale = (t.double() for t in e.model.posterior(x))
        z = mean + scale * torch.randn_like(mean)
        rows = []
        for part in z.split(100):
            log_q = log_normal(part[:, None], mean, scale)  # (100, N)
            rows.append(log_q.logsumexp(1) - math.log(len(x)))
        return (log_normal(z, mean, scale) - torch.cat(rows)).mean().item()


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate")
def clustering_score(e: Evaluation) -> float:
    """adjusted mutual information of the classes with as many k-means clusters of the standardised test codes"""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    if e.dataset.labels is None:
        raise Skip("the data set has no labels")
    y = e.dataset.labels["test"][spread(len(e.test), IMAGES)].numpy()
    codes = e.codes["test"][spread(len(e.test), IMAGES)]
    keep = codes.std(0) > 1e-4 if not isinstance(e.model, LatentVariable) else active(codes)
    classes = len(set(y.tolist()))
    if not keep.any() or classes < 2:
        return 0.0
    kept = codes[:, keep]
    x = ((kept - kept.mean(0)) / kept.std(0)).numpy()
    with threadpool_limits(1):
        return float(adjusted_mutual_info_score(y, KMeans(classes, n_init=4, random_state=0).fit_predict(x)))
