"""A metric of one's own: a number that every model gets that is capable of it.

The largest error of a pixel is a worked example: put your own figure in its place.
"""

from vae_variants import metric
from vae_variants.models.base import Coder


@metric(
    needs=(Coder,),  # the capabilities that it asks for, of vae_variants.models.base
    unit="grey",  # of its figure: nats, fraction, ratio, pixels, ...
    better="lower",  # or higher, or none
)
def template(e):
    """largest error of any pixel of any reconstructed test image"""  # what `vae-variants list metrics` shows
    # e.model, e.dataset, e.test (test images in the model's support); computed once, where they are first asked for: e.elbo, e.bound,
    # e.log_prob, e.codes, e.reconstructions, e.sample_means. Draws belong inside `with e.noise("template"):`. Where there is no value,
    # raise vae_variants.evaluation.Skip("why").
    return (e.reconstructions - e.dataset.grey()).abs().max().item()
