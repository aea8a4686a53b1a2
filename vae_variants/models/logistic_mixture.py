"""The mixture of discretised logistics of PixelCNN++."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_variants.models.likelihoods import LIKELIHOODS, DiscretizedLogistic, Likelihood, Support

Channels = tuple[Tensor, ...]


@LIKELIHOODS.add
class LogisticMixture(Likelihood):
    """A mixture of `components` discretised logistics over the stored grey levels (Salimans et al. 2017, sec. 2.1 and 2.2).

    For images of three channels all channels of a place share the component m, and their locations are coupled: with outputs mu and c,
    mu_1m, mu_2m + tanh(c_1m) x_1, mu_3m + tanh(c_2m) x_1 + tanh(c_3m) x_2. For other numbers of channels every pixel has its own mixture.
    Outputs per pixel: logits of the components, locations, log scales plus 2 and, for three channels, couplings c; logits of the three
    channels are added.
    """

    support = Support.BYTE

    def __init__(self, shape: tuple[int, int, int] = (1, 1, 1), levels: int = 256, components: int = 5) -> None:
        super().__init__()
        self.levels, self.components, self.coupled = levels, components, shape[0] == 3
        self.k = (4 if self.coupled else 3) * components
        self.one = DiscretizedLogistic(levels)

    def _parts(self, h: Tensor) -> tuple[Tensor, Channels, Channels, Channels]:
        """Log weights (..., P, M) of P places; of each channel locations, log scales plus 2 and couplings, alike."""
        outputs = h.unflatten(-1, (3 if self.coupled else 1, -1, self.k // self.components, self.components)).unbind(-2)
        logits, location, wide, *coupling = outputs  # `unbind`, whose gradient is one copy, not one sum for each slice
        coupled = coupling[0].tanh().unbind(-3) if coupling else ()
        return logits.sum(-3).log_softmax(-1), location.unbind(-3), wide.unbind(-3), coupled

    @staticmethod
    def _shifted(location: Channels, coupling: Channels, earlier: Sequence[Tensor]) -> Tensor:
        """Locations (..., P, M) of the channel after the `earlier` ones (..., P)."""
        channel = len(earlier)
        found = location[channel]
        for j, x in enumerate(earlier):
            found = found + coupling[channel - 1 + j] * x.unsqueeze(-1)
        return found

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        total, location, wide, coupling = self._parts(h)
        channels = x.unflatten(-1, (len(location), -1)).unbind(-2)
        for c, level in enumerate(channels):
            total = total + self.one.log_masses(self._shifted(location, coupling, channels[:c]), wide[c], level.unsqueeze(-1))
        return total.logsumexp(-1).sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        log_weight, location, wide, coupling = self._parts(h)
        noise = -torch.log(-torch.log(torch.rand_like(log_weight).clamp(1e-20, 1 - 1e-7)))  # Gumbel: the argmax is a sample
        chosen = (log_weight + noise).argmax(-1, keepdim=True)
        found = list[Tensor]()
        for own in wide:
            found.append(self.one.draws(self._shifted(location, coupling, found), own).gather(-1, chosen).squeeze(-1))
        return torch.stack(found, -2).flatten(-2)

    def mean(self, h: Tensor) -> Tensor:
        """For three channels, the means of the earlier channels stand for their values, so that it is near the expectation."""
        log_weight, location, wide, coupling = self._parts(h)
        found = list[Tensor]()
        for own in wide:
            found.append((log_weight.exp() * self.one.means(self._shifted(location, coupling, found), own)).sum(-1))
        return torch.stack(found, -2).flatten(-2)

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """All components as `discretized-logistic` starts, without coupling."""
        location, log_scale = self.one.start(x).unflatten(-1, (-1, 2)).unbind(-1)
        rows = [torch.zeros_like(location), location, log_scale, torch.zeros_like(location)][: self.k // self.components]
        return torch.stack(rows, -1).unsqueeze(-1).expand(-1, -1, self.components).flatten()
