"""What may be done around the steps of an optimiser, for each of the stacked members apart: clipping, averages, early stopping."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_variants.registry import UserError
from vae_variants.training.population import Population


def clipped(gradients: list[Tensor], most: float, alone: int = 0) -> list[Tensor]:
    """The gradients of all members, each member's scaled to a Euclidean norm of at most `most`.

    Args:
        gradients: (S, ...) for each parameter; if `alone`, those of the parameters of each member after another.
        most: The largest norm over all parameters of one member.
        alone: The number of members that are not stacked.
    """
    if alone:
        size = len(gradients) // alone
        groups = [gradients[s * size : (s + 1) * size] for s in range(alone)]
        return [g.squeeze(0) for group in groups for g in clipped([g.unsqueeze(0) for g in group], most)]
    norm = torch.stack([g.flatten(1).square().sum(1) if g.dim() > 1 else g.square() for g in gradients]).sum(0).sqrt()
    factor = (most / norm.clamp(min=1e-12)).clamp(max=1.0)
    return [g * factor.view(-1, *[1] * (g.dim() - 1)) for g in gradients]


class Average:
    """Exponential moving averages of parameters.

    After step n the decay is min(decay, n / (n + 9)), so that the first weights are soon forgotten.
    """

    def __init__(self, parameters: list[Tensor], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.means = [p.detach().clone() for p in parameters]
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        torch._foreach_lerp_(self.means, self.parameters, 1 - min(self.decay, self.steps / (self.steps + 9)))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges averages and parameters."""
        for parameter, mean in zip(self.parameters, self.means, strict=True):
            kept = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(kept)

    def state(self) -> list[Tensor]:
        return [torch.tensor(float(self.steps)), *self.means]

    def take(self, state: list[Tensor]) -> None:
        self.steps = int(state[0])
        for own, given in zip(self.means, state[1:], strict=True):
            own.copy_(given)


class Best:
    """The state of each member at its best validation, and the epochs since. After `patience` epochs without a better one, it is final."""

    def __init__(self, population: Population, patience: int) -> None:
        self.population, self.patience = population, patience
        self.value = torch.full((len(population),), -torch.inf, dtype=torch.float64)
        self.since = torch.zeros(len(population), dtype=torch.int64)
        self.kept = {name: tensor.clone() for name, tensor in population.state().items()}

    def update(self, curves: dict[str, list[float]]) -> None:
        """Compares the validation of an epoch with the best so far. Raises `UserError` if there is none."""
        signs = {"validation_loss": -1.0, "validation_log_prob": 1.0}  # the loss, if there are both, is of as many samples as training
        found = [sign * torch.tensor(curves[name], dtype=torch.float64) for name, sign in signs.items() if name in curves]
        if not found:
            raise UserError(f"{type(self.population.template).__name__} has no validation, which patience needs; set patience=0")
        better = (found[0] > self.value) & (self.since < self.patience)
        self.value = torch.where(better, found[0], self.value)
        self.since = torch.where(better, 0, self.since + 1)
        for name, tensor in self.population.state().items():
            chosen = better.to(tensor.device)
            self.kept[name][chosen] = tensor[chosen]

    @property
    def settled(self) -> list[bool]:
        """Of each member, whether it cannot become better any more: alone, its training would have ended."""
        return (self.since >= self.patience).tolist()

    @property
    def final(self) -> bool:
        """Whether no member can still become better."""
        return all(self.settled)

    def restore(self, members: Sequence[int] | slice = slice(None)) -> None:
        """Gives members their best state."""
        state = {name: tensor.clone() for name, tensor in self.population.state().items()}
        for name, tensor in state.items():
            tensor[members] = self.kept[name][members]
        self.population.restore(state)

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value, "since": self.since, **{f"kept/{name}": tensor for name, tensor in self.kept.items()}}

    def take(self, state: dict[str, Tensor]) -> None:
        self.value, self.since = state["value"].clone(), state["since"].clone()
        self.kept = {
            name.removeprefix("kept/"): tensor.to(self.population.device, copy=True) for name, tensor in state.items() if "kept/" in name
        }
