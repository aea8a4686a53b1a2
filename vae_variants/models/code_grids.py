"""A density of grids of codes, by a gated PixelCNN."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.causal import GatedStack


class CodeGrid(nn.Module):
    """p(k) = prod_i p(k_i | k_<i) of grids of indices k_i in 0 .. C - 1, in raster order, by a gated PixelCNN (van den Oord et al. 2016).

    It is a prior of the codes of a quantised model. The network sees the codes as one-hot vectors. Untrained, it is near uniform.

    Args:
        categories: C.
        height, width: Of the grid.
        features, layers, kernel: As of `gated-pixelcnn`.
    """

    def __init__(self, categories: int, height: int, width: int, *, features: int = 16, layers: int = 2, kernel: int = 5) -> None:
        super().__init__()
        self.categories, self.size = categories, (height, width)
        self.network = GatedStack(categories, categories, 1, features=features, layers=layers, kernel=kernel)
        self.bias = nn.Parameter(torch.zeros(categories))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (N, H, W), whole numbers -> logits (N, H, W, C) of each code given those before it."""
        one_hot = F.one_hot(codes, self.categories).to(self.bias.dtype)
        return self.network(one_hot) + self.bias

    def log_prob(self, codes: Tensor) -> Tensor:
        """Codes (..., H, W) -> (...) nats."""
        batch = codes.shape[:-2]
        codes = codes.reshape(-1, *self.size)
        logits = self(codes).log_softmax(-1)
        return logits.gather(-1, codes.unsqueeze(-1)).flatten(1).sum(1).reshape(batch)

    def sample(self, n: int, *, kept: bool = True) -> Tensor:
        """n grids of codes (n, H, W). With `kept` false, the same from the same noise, by one pass for each code."""
        x = self.bias.new_zeros(n, *self.size, self.categories)

        def put(outputs: Tensor, row: int, column: int, _: int) -> None:
            chosen = torch.multinomial((outputs + self.bias).softmax(-1), 1)
            x[:, row, column] = F.one_hot(chosen.squeeze(-1), self.categories).to(x.dtype)

        self.network.walk(x, put, 1, kept=kept)
        return x.argmax(-1)
