"""Members of a stack that differ in an option train as each does alone, or the stack is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vae_variants.checks.fixtures import configuration, digits
from vae_variants.components import KINDS, Part, parameters
from vae_variants.models.base import Model
from vae_variants.training.options import Place, Unlike, compared, holding
from vae_variants.training.population import Population
from vae_variants.training.traced import Gradient
from vae_variants.variants import build

REFUSED = {  # their code takes a way that depends on the value, or calls a function of numbers
    "likelihood student-t df", "objective ciwae weight", "objective cyclical ramp", "objective info alpha", "objective info strength",
    "objective log-cosh sharpness", "objective renyi alpha", "regularizer l2 shrink", "quantizer vq restart", "quantizer residual restart",
    "quantizer hrq dropout", "prior wrapped-normal curvature", "prior riemannian-normal curvature", "posterior wrapped-normal curvature",
}  # fmt: skip
BESIDE = {  # what a part or an option needs beside it
    "prior concrete": "posterior=gumbel-softmax,latent=10", "posterior gumbel-softmax": "prior=concrete,latent=10",
    "prior wrapped-normal": "posterior=wrapped-normal", "prior riemannian-normal": "posterior=wrapped-normal",
    "posterior wrapped-normal": "prior=wrapped-normal", "quantizer vq memory": "ema=true", "quantizer vq restart": "ema=true",
}  # fmt: skip
LATER = {"quantizer hrq norm", "quantizer hrq ratio", "quantizer hrq temperature"}  # which change nothing in the first step


def real_options() -> Iterator[tuple[str, float]]:
    """Kind, name and option of each real number of a part that training uses, and its default."""
    for kind in (KINDS[name] for name in ("likelihood", "objective", "regularizer", "prior", "posterior", "quantizer")):
        assert isinstance(kind, Part)
        for name, entry in kind.registry.items():
            found = parameters(entry) if callable(entry) else {}
            yield from ((f"{kind.key} {name} {key}", value) for key, value in found.items() if type(value) is float)


def members(selector: str, options: Sequence[tuple[str, float]]) -> Population:
    """A member for each value of an option, all of one seed, in float64. Prior and posterior share a `curvature`."""
    data = digits()
    base = configuration(selector)
    keys = [key for key in base.values if options[0][0] in (key, *(["curvature"] if key.endswith(".curvature") else []))]
    chosen = [base.with_defaults(**dict.fromkeys(keys, value)) for _, value in options]
    builds = [lambda each=each: build(each, data).double() for each in chosen]
    population = Population(builds, [5] * len(builds))
    population.initialise(data.as_(chosen[0].support).train.double())
    return population


def stepped(population: Population, trace: bool) -> list[Tensor]:
    """Losses, gradients and the buffers that a step of each player leaves, with the members as leading axis."""
    x = digits().as_(population.template.support).train[:8].double().expand(len(population), -1, -1)
    found = list[Tensor]()
    for i, player in enumerate(population.template.players):
        population.reseed(i)
        loss, gradients = Gradient(population, player, trace=trace)(x, torch.tensor(0.1, dtype=torch.float64))
        found += [loss.clone(), *(gradient.clone() for gradient in gradients)]
    return found + [buffer.clone() for buffer in population.buffers.values()]


@pytest.mark.parametrize(("option", "default"), list(real_options()))
def test_members_that_differ_in_an_option_are_as_each_is_alone(option: str, default: float) -> None:
    kind, name, key = option.split()
    beside = [text for start, text in BESIDE.items() if f"{option} ".startswith(f"{start} ")]
    model = "quantized-vae[" if kind == "quantizer" else "vae[samples=3,"
    selector = f"{model}{','.join([f'{kind}={name}', *beside])}]"
    known = configuration(selector).values
    key = key if key in known or key == "curvature" else f"{kind}.{key}"
    values = [(key, 0.95 * default), (key, 0.8 * default)] if default else [(key, 0.1), (key, 0.2)]
    if option in REFUSED:
        with pytest.raises(RuntimeError, match="vmap"):
            stepped(members(selector, values), trace=False)
        return
    alone = [torch.cat(both) for both in zip(*(stepped(members(selector, [each]), trace=False) for each in values), strict=True)]
    assert all(torch.equal(*each) for each in alone) == (option in LATER), "the option changes nothing"
    for trace in (False, True):
        for mine, expected in zip(stepped(members(selector, values), trace), alone, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-7, atol=1e-7)  # `torch.where` makes float32 of two numbers


def test_each_member_is_handed_out_with_its_own_number_and_the_template_keeps_its_own() -> None:
    values = (0.5, 2.0, 0.5)
    population = members("vae[likelihood=gaussian]", [("sigma", value) for value in values])
    stepped(population, trace=True)
    assert [member.likelihood.sigma for member in population.members()] == [*values]  # type: ignore[union-attr]
    assert population.template.likelihood.sigma == 0.5  # type: ignore[union-attr]
    assert not population.state().keys() & population.options.keys() and len(population.options) == 1


def test_the_share_of_labels_is_one_for_all() -> None:
    """The loop asks the model for it, and tells all members the same labels."""
    with pytest.raises(Unlike, match="label_share"):
        members("labelled-vae[share=0.5]", [("share", 0.5), ("share", 0.6)])


class Holder(nn.Module):
    """A module with something in it."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.deeper = nn.Sequential(nn.Linear(2, 2), nn.Module())
        self.deeper[1].held = held
        self.again = self.deeper[1]


def differing(make: Callable[[float], Any], *values: float) -> dict[str, list[Place]]:
    return dict(compared("", [Holder(make(value)) for value in values], set()))


@pytest.mark.parametrize(
    "make",
    [
        lambda v: v, lambda v: {"a": v}, lambda v: partial(max, a=v), lambda v: SimpleNamespace(a=v),
        lambda v: [1, SimpleNamespace(a=partial(max, 3, a={"b": v}))],
    ],
)  # fmt: skip
def test_a_number_is_found_and_replaced_wherever_it_is(make: Callable[[float], Any]) -> None:
    ((name, places),) = differing(make, 1.5, 2.5, 1.5).items()
    assert [place.holder[place.key] for place in places] == [1.5, 2.5, 1.5] and len({id(place.holder) for place in places}) == 3
    with holding({name: places[1]}, {name: 7.0}):
        assert places[1].holder[places[1].key] == 7.0
    assert places[1].holder[places[1].key] == 2.5
    assert differing(make, 1.5, 1.5) == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda v: (v,), lambda v: [v], int, str, torch.tensor, lambda v: lambda: v, lambda v: partial(max, v), lambda v: {"a" * int(v): v},
        lambda v: nn.Linear(2, int(v)), lambda v: None if v > 2 else v, lambda v: nn.ReLU() if v > 2 else nn.SiLU(),
        lambda v: nn.Linear(2, 2, bias=v > 2), lambda v: [1] * int(v),
    ],
)  # fmt: skip
def test_what_is_no_number_must_be_alike(make: Callable[[float], Any]) -> None:
    with pytest.raises(Unlike):
        differing(make, 1.5, 2.5)


def test_models_of_one_kind_have_no_options() -> None:
    class Never(Model):
        def __init__(self) -> None:
            super().__init__()
            self.shape, self.at = (1, 1, 1), (object(), lambda: 0)

    assert Population(Never, (0, 1)).options == {}
