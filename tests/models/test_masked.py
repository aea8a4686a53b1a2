"""Masked networks: what each output sees."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from vae_variants.models.masked import MaskedNetwork

Z = 5


@pytest.mark.parametrize("hidden", [(11,), (11, 9)])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_output_sees_all_units_before_it_and_the_context(hidden, context, reverse) -> None:
    network = MaskedNetwork(Z, 2, hidden, context=context, reverse=reverse).double()
    z, c = torch.randn(Z, dtype=torch.float64), torch.randn(context, dtype=torch.float64)
    before = torch.ones(Z, Z, dtype=torch.bool).tril(-1)
    jacobians = torch.func.jacrev(lambda z: network(z, c))(z)
    assert len(jacobians) == 2
    for jacobian in jacobians:
        assert torch.equal(jacobian != 0, before.mT if reverse else before)
    if context:
        for jacobian in torch.func.jacrev(lambda c: network(z, c))(c):
            assert (jacobian != 0).all(), "also for the first unit"


def test_a_single_unit_sees_the_context() -> None:
    network = MaskedNetwork(1, 1, (4,), context=2)
    a, b = (network(torch.zeros(1), c)[0] for c in (torch.zeros(2), torch.ones(2)))
    assert a != b
    torch.testing.assert_close(network(torch.ones(1), torch.zeros(2))[0], a)


def test_seeds_are_stacked() -> None:
    networks = [MaskedNetwork(Z, 2, (7,)) for _ in range(3)]
    z = torch.randn(3, 4, Z)
    found = vmap(lambda state, z: functional_call(networks[0], state, (z,)))(*(lambda p, b: (p | b, z))(*stack_module_state(networks)))
    alone = [torch.stack(parts) for parts in zip(*(network(each) for network, each in zip(networks, z, strict=True)), strict=True)]
    torch.testing.assert_close(list(found), alone)
