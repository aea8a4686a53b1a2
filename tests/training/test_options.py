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
    "objective log-cosh sharpness", "objective renyi alpha", "regularizer l2 shrink",
}  # fmt: skip


def real_options() -> Iterator[tuple[str, float]]:
    """Kind, name and option of each real number of an objective, a likelihood or a regularizer, and its default."""
    for kind in (KINDS["likelihood"], KINDS["objective"], KINDS["regularizer"]):
        assert isinstance(kind, Part)
        for name, entry in kind.registry.items():
            yield from ((f"{kind.key} {name} {key}", value) for key, value in parameters(entry).items() if type(value) is float)


def members(selector: str, options: Sequence[tuple[str, float]]) -> Population:
    """A member for each value of an option, all of one seed, in float64."""
    data = digits()
    chosen = [configuration(selector).with_defaults(**{key: value}) for key, value in options]
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
    values = [(key, 0.95 * default), (key, 0.8 * default)] if default else [(key, 0.1), (key, 0.2)]
    selector = f"vae[{kind}={name},samples=3]"
    if option in REFUSED:
        with pytest.raises(RuntimeError, match="vmap"):
            stepped(members(selector, values), trace=False)
        return
    alone = [torch.cat(both) for both in zip(*(stepped(members(selector, [each]), trace=False) for each in values), strict=True)]
    assert not all(torch.equal(*each) for each in alone), "the option changes nothing"
    for trace in (False, True):
        for mine, expected in zip(stepped(members(selector, values), trace), alone, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


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
