"""Checks of models: capabilities and exact densities."""

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check, described
from vae_variants.checks.fixtures import changed_by, gradient_reaches, members, model_of, outside, size, tiny
from vae_variants.models.base import (
    MODELS,
    ClassSampler,
    ClosedElbo,
    Coder,
    Density,
    Encoder,
    LatentVariable,
    MeanSampler,
    Model,
    Sampler,
    owned,
)
from vae_variants.models.likelihoods import Support

DRAWS = 20_000


def roughened(model: Model) -> Model:
    """In float64, with weights large enough for the order of the pixels to matter."""
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    return model


def all_binary(d: int) -> Tensor:
    """(2^d, d) every image of d binary pixels."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=d)), dtype=torch.float64)


@check("model", first=True)
def says_what_it_is(name: str) -> None:
    """It has a description for `list`, and can be built with its default options for images of any size."""
    described("model", name)
    for data in (tiny(), tiny(3, 3)):
        model = model_of(name, data)
        if getattr(model, "shape", None) != data.shape:
            found = f"built for images of {size(data.shape)}, its shape is {getattr(model, 'shape', None)}"
            raise Failed(found, "write self.shape = shape")
        if not isinstance(getattr(model, "support", None), Support):
            raise Failed("built, it has no support", "write self.support = likelihood.support, or support = Support.BINARY in the class")


@check("model", first=True)
def each_players_loss_reaches_each_of_its_parameters(name: str) -> None:
    """Each player's loss is one number, with a finite gradient for all of its parameters, and each parameter is one player's.

    The last bias of a critic may drop out of its loss.
    """
    data = tiny()
    model = model_of(name, data)
    x = data.as_(model.support).train[:].round()
    parameters = dict(model.named_parameters())
    each = owned(model.players, [*parameters])
    for player, names in zip(model.players, each, strict=True):
        mine = {name: parameters[name] for name in names}
        if not mine:
            found = f"player {player.name!r} owns no parameter"
            raise Failed(found, "`owns` has the beginnings of the names of its parameters, such as 'generator.'")
        value = model(player.loss, x, torch.ones(()))
        if tuple(value.shape) != ():
            raise Failed(f"{player.loss}() gives {size(tuple(value.shape))}, expected one number, ()", "end it with .mean() over the batch")
        again = partial(model, player.loss, x, torch.ones(()))
        gradient_reaches(f"{player.loss}()", value, mine, "use it in the loss, make it a buffer, or remove it", again)
    if model.players and (left := set(parameters) - {name for names in each for name in names}):
        raise Failed(f"parameter {min(left)} is no player's", "let what a player owns begin its name, or make it a buffer")


@check("model")
def capabilities_keep_their_promises(name: str) -> None:
    """Samples, latents and densities have the shapes and the support that the capabilities say."""
    model, x = members(name, tiny())
    if isinstance(model, Sampler):
        drawn = model.sample(6)
        expect("sample(6)", drawn, (6, 10))
        if model.support.discrete and (strange := outside(drawn, model.support, 4)).numel():
            found = f"sample() draws {strange[0].item():.4g}, which is not in Support.{model.support.name}"
            raise Failed(found, "draw pixels, not their probabilities")
    if isinstance(model, MeanSampler):
        expect("sample_mean(6)", model.sample_mean(6), (6, 10))
    if isinstance(model, ClassSampler):
        expect("sample_mean_of(labels)", model.sample_mean_of(torch.tensor([0, 1, 1])), (3, 10))
    if isinstance(model, Density):
        expect("log_prob(x)", model.log_prob(x), (len(x),))
    if isinstance(model, LatentVariable):
        d = model.infer(x, 4, torch.ones(()))
        expect("infer(x, 4, t).log_w", d.log_w, (4, len(x)))
        expect("infer(x, 4, t).kl", d.kl, (len(x),))
        expect("infer(x, 4, t).z without its last axis", d.z[..., 0], (4, len(x)))
        if not torch.allclose(d.kl_units.sum(-1), d.kl, rtol=1e-4, atol=1e-5):
            raise Failed("kl_units of infer() do not sum to kl", "kl is their sum over the last axis")
        if model.closed_kl and not torch.allclose(model.infer(x, 4, torch.ones(())).kl, d.kl, rtol=1e-4, atol=1e-5):
            raise Failed("kl of infer() depends on the samples", "write closed_kl = False in the class, or give the closed form")
    if isinstance(model, Encoder):
        z = model.encode(x)
        expect("encode(x)", z, (len(x), z.shape[-1]))
        if not torch.equal(model.encode(x), z):
            raise Failed("encode() gives other latents the second time", "give the posterior mean, not a sample")
        if isinstance(model, Coder):
            expect("decode(z)", model.decode(z), tuple(x.shape))


@check("model")
def evaluation_leaves_its_state_alone(name: str) -> None:
    """In evaluation mode no method changes a parameter or buffer; in training mode a loss changes buffers in place."""
    model, x = members(name, tiny())
    for what, ask in questions(model, x).items():
        if changed := changed_by(ask, model):
            raise Failed(f"{what} changes {changed[0]} of a model in evaluation mode", "change it in loss() alone, if self.training")
    model.train()
    for player in model.players:
        before = {tensor_name: id(tensor) for tensor_name, tensor in model.named_buffers()}
        changed = changed_by(lambda loss=player.loss: model(loss, x.round(), torch.ones(())), model)  # type: ignore[misc]
        if parameters := [each for each in changed if each in dict(model.named_parameters())]:
            raise Failed(f"{player.loss}() changes the parameter {parameters[0]}", "make it a buffer; the optimiser changes parameters")
        replaced = [each for each, tensor in model.named_buffers() if before.get(each) != id(tensor)]
        if model.stackable and replaced:
            found = f"{player.loss}() puts another tensor in the place of {replaced[0]}, which is lost where seeds are stacked"
            raise Failed(found, f"change it in place, such as self.{replaced[0]}.copy_(...)")


def questions(model: Model, x: Tensor) -> dict[str, Callable[[], object]]:
    """What an evaluation asks of a model that can be asked it."""
    t, found = torch.ones(()), dict[str, Callable[[], object]]()
    if isinstance(model, Sampler):
        found["sample()"] = lambda: model.sample(3)
    if isinstance(model, MeanSampler):
        found["sample_mean()"] = lambda: model.sample_mean(3)
    if isinstance(model, ClassSampler):
        found["sample_mean_of()"] = lambda: model.sample_mean_of(torch.tensor([0, 1, 1]))
    if isinstance(model, Density):
        found["log_prob()"] = lambda: model.log_prob(x)
    if isinstance(model, LatentVariable):
        found |= {"infer()": lambda: model.infer(x, 2, t), "simulate()": lambda: model.simulate(3)}
        found |= {"draw_prior()": lambda: model.draw_prior(3), "conditional()": lambda: model.conditional(x)}
    if isinstance(model, ClosedElbo):
        found["bound()"] = lambda: model.bound(x)
    if isinstance(model, Encoder):
        found["encode()"] = lambda: model.encode(x)
    if isinstance(model, Coder):
        found["decode()"] = lambda: model.decode(model.encode(x))
    return found


def expect(what: str, found: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(found.shape) != shape:
        raise Failed(f"{what} gives {size(tuple(found.shape))}, expected {size(shape)}", "see the class of the capability")
    if not found.isfinite().all():
        raise Failed(f"{what} gives {found[~found.isfinite()][0].item()}", "see that it is finite")


def exact_binary(name: str, height: int, width: int) -> Model:
    cls = MODELS[name]
    if not (issubclass(cls, Density) and getattr(cls, "exact", False)):
        raise Skipped("it has no exact log p(x)")
    model = model_of(name, tiny(height, width))
    if model.support is not Support.BINARY:
        raise Skipped("summed over binary images alone")
    return roughened(model)


@check("model")
def an_exact_density_sums_to_one(name: str) -> None:
    """If log_prob is exact, p(x) sums to 1 over all images of 10 binary pixels."""
    model = exact_binary(name, 2, 5)
    with torch.no_grad():
        total = model.log_prob(all_binary(10)).logsumexp(0).item()  # type: ignore[operator]
    if abs(total) > 1e-9:
        found = f"p(x) sums to {torch.tensor(total).exp().item():.6g} instead of 1 over all 1024 images of 10 binary pixels"
        raise Failed(found, "see that a pixel depends on those before it alone, or say exact = False")


@check("model")
def samples_follow_the_density(name: str) -> None:
    """If log_prob is exact, images are sampled with those probabilities."""
    model = exact_binary(name, 2, 2)
    if not isinstance(model, Sampler):
        raise Skipped("it draws no samples")
    with torch.no_grad():
        p = model.log_prob(all_binary(4)).exp()  # type: ignore[operator]
        index = (model.sample(DRAWS).double() @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    counts = torch.bincount(index, minlength=16)
    off = (counts - DRAWS * p).abs() - 5 * torch.sqrt(DRAWS * p * (1 - p)) - 1
    if (off > 0).any():
        i = int(off.argmax())
        found = f"sample() draws image {all_binary(4)[i].int().tolist()} {counts[i].item()} times in {DRAWS}"
        raise Failed(
            f"{found}, where log_prob says {DRAWS * p[i].item():.0f}", "draw pixels in the order, and from the density, of log_prob"
        )
