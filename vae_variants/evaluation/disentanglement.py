"""Whether latent units and the factors that images were made from belong together one to one."""

import math
from functools import lru_cache

import numpy as np
import torch

from vae_variants.evaluation import factor_scores as scores
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.factor_predictors import (  # noqa: F401  (some are in the texts alone)
    BATCH,
    LEAF,
    TREES,
    VOTES,
    Parts,
    beta_vae,
    explicitness,
    factor_vae,
    importances,
)
from vae_variants.evaluation.factor_scores import BINS, QUANTILE  # noqa: F401
from vae_variants.evaluation.latent import CORRELATED, IMAGES
from vae_variants.evaluation.metrics import TOLD, Skip, metric
from vae_variants.evaluation.pieces import spread
from vae_variants.models.base import Classifier, Encoder, GaussianPosterior
from vae_variants.models.latent import LatentModel
from vae_variants.models.priors import StandardNormal
from vae_variants.training.batches import derive_seed

TEST = 10_000  # test images at most
TRAIN = 10_000  # training images at most, for predictors
UNITS = 128  # at most: trees and regressions of thousands of pixels take minutes


def factored(e: Evaluation) -> bool:
    """Whether it is known what the images were made from: two factors at least."""
    return e.dataset.factors is not None and len(e.dataset.factors.names) > 1


@lru_cache(maxsize=1)
def parts(e: Evaluation) -> Parts:
    """Latents and factors of training and test images, without inactive units. Without any active unit, one that is 0."""
    assert e.dataset.factors is not None
    if isinstance(e.model, Classifier):
        raise Skip(TOLD)
    keep, found = e.varying("test"), list[np.ndarray]()
    if int(keep.sum()) > UNITS:
        raise Skip(f"more than {UNITS} units vary")
    for part, most in (("train", TRAIN), ("test", TEST)):
        rows = spread(e.dataset.sizes[part], most)
        codes = e.codes[part][rows][:, keep]
        found += [codes.numpy() if keep.any() else np.zeros((len(rows), 1)), e.dataset.factors.values[part][rows].numpy()]
    return Parts(*found)


def tested(e: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Latents (N, Z) and factors (N, F) of test images."""
    found = parts(e)
    return found.test_codes, found.test_factors


@lru_cache(maxsize=1)
def forest(e: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    return importances(parts(e))


def stream(e: Evaluation, purpose: str) -> np.random.Generator:
    """Random numbers that are the same for every model."""
    return np.random.default_rng(derive_seed("evaluation", e.dataset.digest, e.seed, purpose))


def unit_information(e: Evaluation) -> dict[str, list[float]]:
    """Name of a factor -> share of its entropy that each latent unit tells, without its bias; 0 for inactive units.

    Empty if it is not known, or cannot be.
    """
    if e.dataset.factors is None or not (factored(e) and isinstance(e.model, Encoder)):
        return {}
    try:
        codes, factors = tested(e)
    except Skip:
        return {}
    keep, share = e.varying("test"), scores.information(codes, factors, True) / scores.entropies(factors, True)
    found = np.zeros((len(keep), share.shape[1]))
    if keep.any():
        found[keep.numpy()] = share
    return {name: [round(v, 6) for v in column.tolist()] for name, column in zip(e.dataset.factors.shown, found.T, strict=True)}


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def beta_vae_score(e: Evaluation) -> float:
    """share of batches of pairs for which a linear classifier tells which factor both images of each pair have in common

    Formula: share of batches with k = argmax_c (w_c . d + b_c), where factor k is the same in both images of each pair and d_j is the mean
    of |z_j - z'_j| over the pairs of the batch. Chance is 1 / F for F factors.
    Estimator: units divided by their standard deviation. Logistic regression with C = 1, fitted on {VOTES} batches of {BATCH} pairs and
    scored on {VOTES} others. The second image of a pair is drawn among the test images that have the factor's value.
    Sample size: at most {TEST} test images, from which pairs are drawn again and again. The standard error is at most 0.008.
    Fails: 1 is reached by latents that are not disentangled, because a classifier may combine units. A factor with few images of a value
    pairs images with themselves.
    Reference: Higgins et al. 2017, beta-VAE, openreview Sy2fzU9gl, with scikit-learn's classifier as in Locatello et al. 2019,
    arXiv:1811.12359; they do not divide units by their deviation.
    """
    return beta_vae(*tested(e), stream(e, "beta-VAE score"))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def factor_vae_score(e: Evaluation) -> float:
    """share of batches for which the unit that varies least tells which factor all images of the batch have in common

    Formula: share of batches with k = c(argmin_j Var_batch(z_j) / Var(z_j)), where factor k is the same in all images of the batch, and
    c(j) is the factor that unit j had most often in other batches. At least 1 / F for F factors, a little more by chance.
    Estimator: {VOTES} batches of {BATCH} test images choose c, {VOTES} others are counted. Units that are inactive take no part.
    Sample size: at most {TEST} test images, from which batches are drawn again and again. The standard error is at most 0.008.
    Fails: says nothing of a factor that two units share. A noisy unit can win a batch. A unit with a finer code for one value of a factor
    is preferred for that value.
    Reference: Kim & Mnih 2018, Disentangling by factorising, arXiv:1802.05983.
    """
    return factor_vae(*tested(e), stream(e, "FactorVAE score"))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def mig(e: Evaluation) -> float:
    """mutual information gap: what the best unit tells of a factor more than the second best, as a share of what there is to tell

    Formula: mean over factors k of (I(z_a; v_k) - I(z_b; v_k)) / H(v_k), a and b the units with the largest information on v_k.
    Estimator: each unit in {BINS} bins of equal width, information from the table of counts.
    Sample size: at most {TEST} test images.
    Fails: the table's information is too large by about (bins - 1)(values - 1) / (2 N) nats: see mig_corrected. Outliers make bins coarse.
    Two units that share a factor, such as an angle as sine and cosine, give 0. A unit may encode several factors and lose nothing.
    Reference: Chen et al. 2018, Isolating Sources of Disentanglement, arXiv:1802.04942; the bins are those of Locatello et al.
    2019, arXiv:1811.12359.
    """
    return scores.mig(*tested(e))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def mig_corrected(e: Evaluation) -> float:
    """mig with the first term of the bias of information and entropy taken off

    Formula: that of mig, with I + (B_z + B_v - B_zv - 1) / (2 N), at least 0, and H + (B_v - 1) / (2 N), B the numbers of cells that occur.
    Estimator: Miller and Madow's correction of each entropy, in the bins of mig.
    Sample size: that of mig.
    Fails: as mig, but for the bias, of which terms of order 1 / N^2 remain.
    Reference: Paninski 2003, Estimation of Entropy and Mutual Information (the correction).
    """
    return scores.mig(*tested(e), corrected=True)


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def sap(e: Evaluation) -> float:
    """separated attribute predictability: by how much a straight line through the best unit explains a factor better than the second best

    Formula: mean over factors k of r^2(z_a, v_k) - r^2(z_b, v_k), with r Pearson's correlation with the number of the factor's value, a and
    b the units with the largest r^2.
    Estimator: correlations over test images.
    Sample size: at most {TEST} test images. The standard error of an r^2 near 0 is 0.0001.
    Fails: sees straight lines alone: an angle is none, and neither is a shape whose numbers are in no order. Published values often rest on
    the accuracy of linear classifiers of single units, which is another number.
    Reference: Kumar, Sattigeri & Balakrishnan 2018, DIP-VAE, arXiv:1711.00848, section 3, for factors that are numbers.
    """
    return scores.sap(*tested(e))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def dci_disentanglement(e: Evaluation) -> float:
    """whether each unit helps to tell one factor only

    Formula: sum_j rho_j (1 - H_F(P_j)), P_jk = R_jk / sum_k R_jk, rho_j the share of unit j in the sum of R, H_F the entropy to the base
    F, R_jk the importance of unit j for factor k.
    Estimator: R is the decrease of impurity in a forest of {TREES} trees for each factor. Each split may use any unit, and a leaf has at
    least {LEAF} images.
    Sample size: at most {TRAIN} training images.
    Fails: importances depend on the predictor: boosted trees or a lasso, as in other programs, give other numbers. Deep splits
    on noise count a little: smaller leaves would lower the value, and units without information could then raise it by more than 0.01.
    Reference: Eastwood & Williams 2018, A framework for the quantitative evaluation of disentangled representations, openreview By-7dz-AZ,
    section 2.
    """
    return scores.concentration(forest(e)[0])


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def dci_completeness(e: Evaluation) -> float:
    """whether each factor is told by one unit only

    Formula: that of dci_disentanglement with units and factors exchanged: the entropy of a factor's importances is over Z units, to base Z.
    Estimator: as dci_disentanglement.
    Sample size: at most {TRAIN} training images.
    Fails: as dci_disentanglement. Grows with units that are not used: compare models with as many active ones.
    Reference: Eastwood & Williams 2018, A framework for the quantitative evaluation of disentangled representations, section 2.
    """
    return scores.concentration(forest(e)[0].T)


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def dci_informativeness(e: Evaluation) -> float:
    """how well the latents tell the factors: mean accuracy of the forests of dci_disentanglement

    Formula: mean over factors of the share of test images whose value the forest tells.
    Estimator: as dci_disentanglement, scored on test images.
    Sample size: at most {TRAIN} training and {TEST} test images.
    Fails: says nothing of disentanglement: a rotation of the latents keeps nearly all of it. Chance is the share of the most frequent
    value of each factor.
    Reference: Eastwood & Williams 2018, A framework for the quantitative evaluation of disentangled representations, section 2.
    """
    return float(forest(e)[1].mean())


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def modularity(e: Evaluation) -> float:
    """whether each unit has information on one factor only

    Formula: mean over units j of 1 - sum_{k != a} I_jk^2 / ((F - 1) I_ja^2), I_jk the mutual information of unit j with factor k, a the
    factor with the largest; 0 for a unit without information.
    Estimator: information in {BINS} bins, as in mig.
    Sample size: at most {TEST} test images.
    Fails: every unit counts alike, however little it tells; the bias of the information makes weak units look like mixtures.
    Reference: Ridgeway & Mozer 2018, Learning Deep Disentangled Embeddings with the F-Statistic Loss, arXiv:1802.05312, section 3.
    """
    return scores.modularity(scores.information(*tested(e)))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored, name="explicitness")
def explicitness_score(e: Evaluation) -> float:
    """how well a linear classifier on all units tells the values of the factors: area under the ROC curve; 0.5 by chance

    Formula: mean over factors, and over their values v, of P(p(v | z) > p(v | z')) for images z with the value and z' without; ties half.
    Estimator: multinomial logistic regression with C = 1 on standardised latents.
    Sample size: at most {TRAIN} training images to fit, {TEST} test images to score.
    Fails: says nothing of disentanglement: a rotation of the latents changes nothing. Values near 1 are usual.
    Reference: Ridgeway & Mozer 2018, Learning Deep Disentangled Embeddings with the F-Statistic Loss, arXiv:1802.05312, section 3.
    """
    return explicitness(parts(e))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def irs(e: Evaluation) -> float:
    """interventional robustness: how little each unit moves while its best factor stays and all others change

    Formula: sum_j m_j (1 - min_k D_jk / m_j) / sum_j m_j, m_j the largest |z_j - mean|, D_jk the mean over values of factor k of the 0.99
    quantile of |z_j - mean given the value|.
    Estimator: over test images; the paper's maximum is the {QUANTILE} quantile, as in Locatello et al. 2019.
    Sample size: at most {TEST} test images.
    Fails: outliers raise it: for latents without any information it is 1 - (0.99 quantile / maximum), which is 0.4 for 10 000 normal
    numbers. Depends on the scale of the units.
    Reference: Suter et al. 2019, Robustly Disentangled Causal Mechanisms, arXiv:1811.00007.
    """
    return scores.irs(*tested(e))


@metric(needs=(Encoder,), unit="fraction", better="higher", kind="estimate", applies=factored)
def mcc(e: Evaluation) -> float:
    """mean correlation coefficient: absolute correlation of factors and units, matched one to one as well as possible

    Formula: (1 / F) max over one-to-one maps of sum_k |r(z_m(k), v_k)|, r Pearson's correlation; a factor without a unit has 0.
    Estimator: the Hungarian algorithm on correlations over test images.
    Sample size: at most {TEST} test images. By chance about sqrt(2 log(Z) / N).
    Fails: sees straight lines alone, as sap. Says nothing of what else a unit encodes: a rotation by 45 degrees still has 0.71.
    Reference: Hyvarinen & Morioka 2016, Unsupervised Feature Extraction by Time-Contrastive Learning, arXiv:1605.06336.
    """
    return scores.mcc(*tested(e))


@metric(needs=(Encoder,), unit="nats", better="lower", kind="estimate", applies=factored)
def gaussian_total_correlation(e: Evaluation) -> float:
    """total correlation of a Gaussian with the covariance of the latents; 0 if units are uncorrelated

    Formula: -0.5 log det C, C the correlation matrix of the active units.
    Estimator: the covariance over test images of the posterior means.
    Sample size: at most {TEST} test images.
    Fails: sees correlations alone, and of means alone: see total_correlation for the samples of q. Says nothing of the factors.
    Reference: Locatello et al. 2019, Challenging Common Assumptions, arXiv:1811.12359.
    """
    found = scores.gaussian_total_correlation(tested(e)[0]) if e.varying("test").any() else 0.0
    if not math.isfinite(found):
        raise Skip("an active unit is a linear function of the others")
    return found


def of_normal_prior(e: Evaluation) -> bool:
    return factored(e) and isinstance(e.model, LatentModel) and isinstance(e.model.prior, StandardNormal)


@metric(needs=(GaussianPosterior,), unit="nats", better="none", kind="estimate", applies=of_normal_prior)
def unit_marginal_kl(e: Evaluation) -> float:
    """sum over units of the KL of the aggregate posterior of a unit from its normal prior

    Formula: sum_j KL(q(z_j) || N(0, 1)), q(z_j) = E_x q(z_j | x): marginal_kl = total_correlation + this.
    Estimator: mean of log q(z_j) - log p(z_j) over samples, q(z_j) the mixture of q(z_j | x) over test images, in float64.
    Sample size: at most {IMAGES} images in the mixture, {CORRELATED} samples z.
    Fails: the standard error over samples is about sqrt(2 / {CORRELATED}) nats for each nat.
    Reference: Chen et al. 2018, Isolating Sources of Disentanglement, arXiv:1802.04942.
    """
    assert isinstance(e.model, GaussianPosterior)
    with e.noise("total correlation"):
        x = e.test[spread(len(e.test), IMAGES).to(e.device)]
        found = [e.model.moments(part) for part in x.split(e.rows())]
        mean, scale = (torch.cat(each).double() for each in zip(*found, strict=True))
        own = spread(len(mean), CORRELATED).to(e.device)
        z = mean[own] + scale[own] * torch.randn_like(mean[own])
        terms = [marginal(*unit) for unit in zip(z.mT, mean.mT, scale.mT, strict=True)]
        return (torch.stack(terms).sum(0) + 0.5 * z.square().sum(1)).mean().item()


def marginal(z: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """log of sqrt(2 pi) (1/N) sum_i N(z; mean_i, scale_i^2) for z (S,) and N Gaussians: (S,)."""
    log_q = -0.5 * ((z[:, None] - mean) / scale).square() - scale.log()
    return log_q.logsumexp(1) - math.log(len(mean))
