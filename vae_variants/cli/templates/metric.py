"""A metric: a number for every model that has the capabilities it needs.

The mean error of a pixel is a worked example: put your own number in its place.
"""

from vae_variants import Coder, metric


@metric(
    needs=(Coder,),  # capabilities of a model: also Density, Encoder, Sampler, MeanSampler, LatentVariable
    unit="grey",  # nats, fraction, ratio, pixels, ...
    better="lower",  # or higher, or none
)
def template(e):
    """mean absolute error of a pixel of a reconstructed test image"""  # what `vae-variants list metrics` shows
    # e.model, e.dataset, e.test (test images in the model's support); computed once, when first asked for: e.elbo, e.bound,
    # e.log_prob, e.codes, e.reconstructions, e.sample_means. Draw random numbers inside `with e.noise("template"):`. If there is no
    # value, raise vae_variants.Skip("why").
    return (e.reconstructions - e.dataset.grey()).abs().mean().item()
