"""A model. Its base classes are its capabilities, which decide the metrics it gets.

The mixture of Bernoullis is a worked example: put your own model in its place.
"""

import torch

from vae_variants import MODELS, Density, Model, Sampler, Support


@MODELS.add  # the name of the class, in kebab case, is its name in a selector
class Template(Model, Sampler, Density):  # also Coder, Encoder, MeanSampler, LatentVariable, ...
    """A mixture of `components` products of Bernoullis: with exact log p(x)."""

    exact = True  # log_prob is log p(x), not a bound on it
    support = Support.BINARY  # a model that takes `likelihood` after `shape` has its support instead

    def __init__(self, shape, *, components: int = 10) -> None:  # options have defaults, and may be set in a selector
        super().__init__()
        self.shape = shape  # channels, height, width; images x are flat, (B, D), in [0, 1]
        self.weights = torch.nn.Parameter(torch.zeros(components))
        self.logits = torch.nn.Parameter(torch.randn(components, shape[0] * shape[1] * shape[2]))

    def log_prob(self, x):
        """(B, D) -> (B,) nats."""
        each = (x.unsqueeze(-2) * self.logits - torch.nn.functional.softplus(self.logits)).sum(-1)
        return (self.weights.log_softmax(-1) + each).logsumexp(-1)

    def loss(self, x, t):
        """(B, D), t the fraction of training done -> () the mean over the batch, to be minimised."""
        return -self.log_prob(x).mean()

    def sample(self, n):
        """n -> (n, D) in the model's support."""
        chosen = torch.multinomial(self.weights.softmax(-1), n, replacement=True)
        return torch.bernoulli(self.logits[chosen].sigmoid())
