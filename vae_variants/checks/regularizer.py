"""Checks of regularizers: shapes, gradients, stacking."""

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, check
from vae_variants.checks.fixtures import each_player_trains, model_of, size, stacks_in_a_vae, tiny, with_defaults
from vae_variants.checks.linear_gaussian import W1, linear_vae
from vae_variants.models.draws import Draws
from vae_variants.models.regularizers import REGULARIZERS

NAMES = ("encoder", "decoder")


def drawn(k: int, b: int = 5) -> tuple[Draws, dict[str, Tensor]]:
    """K samples of b different images from a linear-Gaussian VAE, and the parameters of its encoder and decoder by name."""
    model, x, _ = linear_vae(W1)
    generator = torch.Generator().manual_seed(0)
    x = x + torch.randn(b, x.shape[1], generator=generator, dtype=x.dtype)
    parameters: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if name.startswith(NAMES)}
    return model.infer(x, k, torch.tensor(0.5, dtype=x.dtype)), parameters


@check("regularizer", first=True)
def one_number_or_one_for_each_image(name: str) -> None:
    """It gives () or (B,) for samples (K, B), and is finite."""
    for k in (1, 3):
        value = with_defaults(REGULARIZERS[name], 5, (1, 1, 5))(drawn(k)[0])
        if not isinstance(value, Tensor):
            raise Failed(f"gives {type(value).__name__}, expected a tensor of shape () or (5,)", "return a tensor")
        if (found := tuple(value.shape)) not in ((), (5,)):
            fix = "reduce over the K samples, the first axis, and over units; the model takes the mean over images"
            raise Failed(f"is of a wrong shape: expected () or (5,), got {size(found)}", fix)
        if not value.isfinite().all():
            raise Failed(f"is {value[~value.isfinite()][0].item()} for 5 images", "see that logarithms and divisions stay away from 0")


@check("regularizer")
def reaches_the_encoder_or_the_decoder(name: str) -> None:
    """Its gradient is finite, and not 0 for all parameters of encoder and decoder, if it is not constant."""
    d, parameters = drawn(3)
    value = with_defaults(REGULARIZERS[name], 5, (1, 1, 5))(d).mean()
    if name == "none" or (not value.requires_grad and value == 0):
        return
    if not value.requires_grad:
        raise Failed("has no gradient", "use d.z, d.q or d.model, without .detach()")
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    found = {each: gradient for each, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    for each, gradient in found.items():
        if not gradient.isfinite().all():
            raise Failed(f"its gradient with respect to {each} is not finite", "keep logarithms and divisions away from 0")
    if not any(gradient.abs().sum() > 0 for gradient in found.values()):
        raise Failed("its gradient reaches neither encoder nor decoder", "use d.z, d.q or d.model, without .detach()")


@check("regularizer")
def can_be_stacked(name: str) -> None:
    """It can be mapped over seeds that train together (torch.func.vmap)."""
    stacks_in_a_vae(f"vae[regularizer={name},samples=3]")


@check("regularizer")
def trains(name: str) -> None:
    """A VAE takes a step with it: the gradient of each player reaches all of its parameters and is finite."""
    each_player_trains(f"vae[regularizer={name},samples=3]", "let the critic's loss use all of it")


@check("regularizer")
def leaves_evaluation_alone(name: str) -> None:
    """A model with it is evaluated as one without it: log p(x) of the same weights and noise is the same."""
    data = tiny()
    model, plain = model_of(f"vae[regularizer={name}]", data).eval(), model_of("vae", data).eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("regularizer.")})
    x, found = data.as_(model.support).test, list[Tensor]()
    for each in (model, plain):
        torch.manual_seed(1)
        found.append(each("log_prob", x))
    if not torch.equal(*found):
        raise Failed("changes log p(x) of a model that has it", "it may change nothing but what is minimised")
