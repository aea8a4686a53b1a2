"""What a model says of the classes by itself: a classifier inside it, or the components of its prior."""

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.models.base import Classifier, Encoder
from vae_variants.models.latent import LatentModel
from vae_variants.models.priors import MixturePrior


@metric(needs=(Classifier,), unit="fraction", better="higher")
def label_accuracy(e: Evaluation) -> float:
    """share of test images whose class the model itself tells, of a model that was told labels of training images

    Formula: share of test images with y = argmax_c q(c | x).
    Estimator: exact; test images in the model's own pixels.
    Sample size: all test images.
    Fails: models that were told other shares of the labels cannot be compared; see each model's option `share`. It is no property of the
    latents: compare it with a classifier that is trained on the same labels, not with probe_accuracy.
    Reference: Kingma et al. 2014, Semi-supervised Learning with Deep Generative Models.
    """
    assert isinstance(e.model, Classifier) and e.dataset.labels is not None
    with e.noise("classes"):
        found = [e.model.classify(x).argmax(-1).cpu() for x in e.test.split(e.rows(e.model.classes))]
    sizes = [len(part) for part in found]
    right = [(mine == y).sum().item() for mine, y in zip(found, e.dataset.labels["test"].split(sizes), strict=True)]
    return sum(right) / len(e.test)


def with_components(e: Evaluation) -> bool:
    return isinstance(e.model, LatentModel) and isinstance(e.model.prior, MixturePrior) and e.dataset.labels is not None


@metric(needs=(Encoder,), unit="fraction", better="higher", applies=with_components)
def component_accuracy(e: Evaluation) -> float:
    """share of test images in the right class, if the components of the prior are matched to the classes one to one as well as possible

    Formula: max over one-to-one maps m of the share with y = m(argmax_c p(c | z)), p(c | z) proportional to w_c N(z; m_c, s_c^2) at the
    posterior mean z of x; components without a class count as wrong.
    Estimator: exact, by the Hungarian algorithm; test images in the model's own pixels.
    Sample size: all test images, which also choose the map.
    Fails: with more components than classes, those that are not matched count as wrong. The map is chosen on the images that it is scored
    on, which matters if images are few.
    Reference: Jiang et al. 2017, Variational Deep Embedding, arXiv:1611.05148.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix  # scikit-learn takes seconds to import

    assert isinstance(e.model, LatentModel) and isinstance(e.model.prior, MixturePrior) and e.dataset.labels is not None
    prior = e.model.prior
    found = prior.shares(e.encoded(e.data.test).to(prior.means)).argmax(-1)
    table = contingency_matrix(e.dataset.labels["test"].numpy(), found.cpu().numpy())
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())
