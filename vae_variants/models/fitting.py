"""Networks that are fitted after training, and held as buffers, because no player of the model trains them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

BATCH, RATE = 256, 5e-3
EVERY = 50  # steps between looks at the held-out rows


def held(module: nn.Module) -> nn.Module:
    """The module with buffers in the place of its parameters."""
    for each in module.modules():
        for name, parameter in list(each.named_parameters(recurse=False)):
            delattr(each, name)
            each.register_buffer(name, parameter.detach().clone())
    return module


def fitted(
    build: Callable[[], nn.Module],
    loss: Callable[[nn.Module, Tensor], Tensor],
    rows: Tensor,
    steps: int,
    held_out: Tensor | None = None,
) -> nn.Module:
    """A network that Adam has fitted to rows (N, ...) in so many steps, from a fixed seed.

    Args:
        build: Gives a new network.
        loss: (network, rows (B, ...)) -> (B,), whose mean is minimised.
        held_out: Rows (M, ...). If there are some, the network has the weights, of every `EVERY` steps, with the least mean loss on them.
    """
    with torch.enable_grad(), torch.random.fork_rng([rows.device] if rows.is_cuda else []):
        torch.manual_seed(0)
        network = build()
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best = Best(network, loss, held_out) if held_out is not None else None
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss(network, rows[torch.randint(len(rows), (BATCH,), device=rows.device)]).mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            decay.step()
            if best and step % EVERY == 0:
                best.look()
        if best:
            network.load_state_dict(best.state)
    return network


class Best:
    """The weights of a network that had the least mean loss on held-out rows."""

    def __init__(self, network: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], held_out: Tensor) -> None:
        self.network, self.loss, self.held_out = network, loss, held_out
        self.least = float("inf")
        self.look()

    @torch.no_grad()
    def look(self) -> None:
        value = float(self.loss(self.network, self.held_out).mean())
        if value < self.least:
            self.least, self.state = value, {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
