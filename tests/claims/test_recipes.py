"""What the study `one-sample` needs of recipes, data sets and the identity of runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from vae_variants.datasets import load_dataset
from vae_variants.harness import Record, RunSpec
from vae_variants.harness.spec import prepared
from vae_variants.models.likelihoods import Support
from vae_variants.registry import UserError
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure
from vae_variants.variants.recipe import Recipe

# -- identity of runs --------------------------------------------------------------------------------------------------

OLD = {  # of runs made before there was `decay`: selector -> the configuration in its identity, key, training key
    "vae-bernoulli[activation=tanh,lr=0.001]": (
        '{"activation":"tanh","batch":100,"epochs":30,"hidden":[200,200],"latent":50,"likelihood":"bernoulli","lr":0.001,"model":"vae",'
        '"network":"mlp","objective":"elbo","samples":1}',
        "fd6f8239c0e97da7edb51a9d1d76ed1f19c2333e53254440230844986d1a4a46",
        "735e35af56a36b8e9c0361c634aabe83f63770a5ce7153a886983692f7b19a40",
    ),
    "iwae-8[activation=tanh,lr=0.001]": (
        '{"activation":"tanh","batch":100,"epochs":30,"hidden":[200,200],"latent":50,"likelihood":"bernoulli","lr":0.001,"model":"vae",'
        '"network":"mlp","objective":"iwae","samples":8}',
        "b5632a9654b386e5b1fbf99ae1be781dbb572dc1ecbc3468f19acb1eca59a9e2",
        "6d48d952b5a78ec3fddfdd72d53bc0e1aad25741de42e82d548c48103715640c",
    ),
    "reference-pca-2": (
        '{"latent":2,"model":"pca"}',
        "6945b629986f43c34c2c69044080fe36ce704ab99b2c3be4002f93fa597431e4",
        "ce841774a85f96cc8c7fe48b8145ca308cd59a161478cf3ac79c691d32bb945f",
    ),
}


def spec(selector: str) -> RunSpec:
    return RunSpec(configure(selector)[0], "digits", (0, 1), "smoke")


@pytest.mark.parametrize("selector", OLD)
def test_runs_from_before_an_option_was_there_keep_their_identity_and_models(selector):
    values, key, training_key = OLD[selector]
    now = spec(selector)
    identity = '{"dataset":"digits","fidelity":"smoke","schema":2,"seeds":[0,1],"values":' + values + "}"
    assert now.identity == identity
    assert now.training_key() == training_key
    assert now._digest(identity) == key != now.key(), "since then the sources enter too; old records are found by identity and images"
    kept = {"key": key, "label": selector, "values": json.loads(values), "support": "binary"}
    kept["dataset"] = prepared("digits", "smoke").recorded()
    kept |= {"fidelity": "smoke", "seeds": [0, 1], "status": {"0": "ok", "1": "ok"}, "schema": 2}
    record = Record.from_json(json.dumps(kept))
    assert record.identity == identity
    assert record.values == dict(now.configuration.values)  # what it was trained with is said all the same


def test_another_schedule_is_another_run():
    constant, same, cosine = (spec(s) for s in ("vae", "vae[decay=constant]", "vae[decay=cosine]"))
    assert (same.identity, same.key(), same.training_key()) == (constant.identity, constant.key(), constant.training_key())
    assert cosine.identity != constant.identity
    assert cosine.key() != constant.key()
    assert cosine.training_key() != constant.training_key()


# -- the schedule ------------------------------------------------------------------------------------------------------


def rates(data, recipe: Recipe, epochs: int, selector: str = "vae[hidden=4,latent=2]") -> tuple[list[list[float]], Training]:
    """The learning rate of every player in each step that is taken."""
    training = Training(Population(lambda: build(selector, data), (0, 1)), data.as_(configure(selector)[0].support), recipe, "key")
    found, turn = [], training.turn

    def noted(i, x, t):
        found.append([optimizer.param_groups[0]["lr"] for optimizer in training.optimizers])
        return turn(i, x, t)

    training.turn = noted
    for _ in range(epochs):
        training.run_epoch()
    return found, training


def test_cosine_goes_from_the_rate_to_zero_over_all_steps(tiny):
    found, training = rates(tiny, Recipe(epochs=3, batch=10, lr=0.2, decay="cosine"), 3)
    total = 3 * training.steps
    assert len(found) == total == 12
    assert [rate for (rate,) in found] == pytest.approx([0.1 * (1 + math.cos(math.pi * n / 12)) for n in range(12)])
    assert found[0] == [0.2]
    assert found[6] == pytest.approx([0.1])  # half of it half way


def test_constant_stays_and_each_player_of_a_game_keeps_its_own_rate(tiny):
    assert {rate for (rate,) in rates(tiny, Recipe(epochs=2, batch=20, lr=0.2), 2)[0]} == {0.2}
    found, _ = rates(tiny, Recipe(epochs=1, batch=20, lr=0.01, decay="cosine"), 1, "gan[hidden=4,latent=2]")
    assert found[2] == found[3] == pytest.approx([0.005, 0.005])  # two steps, each of two players; the second at half


def test_a_training_resumed_under_cosine_ends_as_if_it_had_not_been_interrupted(tiny):
    recipe = Recipe(epochs=4, batch=10, lr=0.05, decay="cosine")
    _, whole = rates(tiny, recipe, 4)
    _, broken = rates(tiny, recipe, 2)
    state = {name: tensor.clone() for name, tensor in broken.state().items()}
    _, resumed = rates(tiny, recipe, 0)
    resumed.restore(state)
    resumed.run_epoch()
    resumed.run_epoch()
    for name, tensor in whole.population.state().items():
        assert torch.equal(tensor, resumed.population.state()[name]), name
    _, constant = rates(tiny, replace(recipe, decay="constant"), 4)
    assert any(not torch.equal(t, constant.population.state()[name]) for name, t in whole.population.state().items())


def test_an_unknown_schedule_gets_one_clear_line():
    with pytest.raises(UserError, match=r"^unknown decay 'cosin'; did you mean 'cosine'\? choices: constant, cosine$"):
        configure("vae[decay=cosin]")


# -- names of data sets ------------------------------------------------------------------------------------------------


def test_a_data_set_is_made_static_or_smaller_by_its_name(digits):
    static = load_dataset("digits?static=true")
    assert static.name == "digits?static=true"
    first, again = (static.as_(Support.BINARY).train, replace(static).as_(Support.BINARY).train)
    assert torch.equal(first, again)
    small = load_dataset("digits?train=64&static=true")
    assert small.sizes == {**digits.sizes, "train": 64}
    assert not small.as_(Support.BINARY).dynamic
    assert load_dataset("digits?train=64").as_(Support.BINARY).dynamic
    assert torch.equal(load_dataset("digits?train=64").train, digits.subset(64, None).train)
    assert torch.equal(small.test, digits.test)
    assert len({digits.digest, static.digest, small.digest, load_dataset("digits?train=64").digest}) == 4
    assert load_dataset("digits").name == "digits"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digits?statik=true", "unknown option 'statik'; did you mean 'static'? choices: static, train (of data set 'digits')"),
        ("digits?static=yes", "option static='yes' is not valid; it takes true or false"),
        ("digits?train=many", "option train='many' is not valid; it takes a whole number"),
        ("digits?train=0", "option train=0 is not valid; it takes a positive whole number"),
        ("digits?train=5000", "train=5000 is not valid: data set 'digits' has 1197 training images"),
    ],
)
def test_a_wrong_option_of_a_data_set_gets_one_clear_line(name, says):
    with pytest.raises(UserError) as error:
        load_dataset(name)
    assert str(error.value) == says
