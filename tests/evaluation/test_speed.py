"""Throughputs, latencies and what a step costs, by a clock that the tests turn."""

from __future__ import annotations

import pytest
import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation import METRICS, Evaluation, fidelity, speed
from vae_variants.harness import measured
from vae_variants.harness.measured import costs
from vae_variants.models.base import Encoder, Model, Sampler
from vae_variants.models.gan import GAN
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.vae import VAE
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.throughput import product_rate, step_flops
from vae_variants.variants.recipe import Recipe

CPU = torch.device("cpu")


class Half(Model, Encoder):
    """Codes are the first two pixels."""

    support = Support.UNIT

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def encode(self, x):
        return x[:, :2]

    def loss(self, x, t):
        return x.sum(-1).mean() * self.weight


def evaluation(model, dataset) -> Evaluation:
    return Evaluation(model, dataset, 0, fidelity("smoke"))


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a test says so."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_throughputs_are_images_over_seconds(clock, digits: Dataset):
    calls = []

    def work():
        clock[0] += 4.0 if not calls else 0.02  # the first call warms up
        calls.append(1)

    assert speed.median_seconds(work, CPU, 0.05) == pytest.approx(0.02)
    assert len(calls) >= 4

    class Timed(Half, Sampler):
        def sample(self, n):
            clock[0] += 0.5
            return torch.zeros(n, 64)

        def encode(self, x):
            clock[0] += 0.25
            return x[:, :2]

    e = evaluation(Timed(digits.shape), digits)
    assert METRICS["sample_images_per_second"].fn(e) == pytest.approx(200)
    assert METRICS["encode_images_per_second"].fn(e) == pytest.approx(400)


def test_a_timing_while_another_program_runs_is_taken_again(clock, digits: Dataset):
    """Single images take 0.02 ms; batches of 100 take 20 ms at first, as while cores are shared, then 1 ms."""
    batches = []

    class Shared(Half):
        def encode(self, x):
            batches.extend([1] * (len(x) > 1))
            clock[0] += 2e-5 if len(x) == 1 else 0.02 if len(batches) < 6 else 0.001
            return x[:, :2]

    assert METRICS["encode_images_per_second"].fn(evaluation(Shared(digits.shape), digits)) == pytest.approx(100 / 0.001)
    turns = iter([0.0, 0.01, 0.09, 0.04, *[0.02] * 9])
    assert speed.median_seconds(lambda: clock.__setitem__(0, clock[0] + next(turns)), CPU, 0.0) == pytest.approx(0.02)


def test_the_cost_of_training(clock, monkeypatch, digits: Dataset):
    monkeypatch.setattr(measured, "product_rate", lambda device, name: 1e9)
    monkeypatch.setattr(measured, "step_flops", lambda training: 5e7)

    class Slow(Half):
        def loss(self, x, t):
            clock[0] += 0.1
            return super().loss(x, t)

    training = Training(Population(lambda: Slow(digits.shape), (0, 1)), digits.as_(Support.UNIT), Recipe(3, 100, 0.0), "")
    before = training.population.owned(training.players[0])[0].clone()
    found = costs(training, training.recipe.epochs, 0.5, 0)
    assert torch.equal(training.population.owned(training.players[0])[0], before), "measuring leaves the population as it was"
    assert found["train_images_per_second"] == pytest.approx(2 * 100 / 0.1)
    assert found["train_seconds"] == pytest.approx(3 * 11 * 0.1)  # 11 steps of 100 in 1197 images
    assert found["train_product_share"] == pytest.approx(5e7 / 0.1 / 1e9)


def test_latencies_are_milliseconds_of_one_image(clock, digits: Dataset):
    class Timed(Half, Sampler):
        def sample(self, n):
            assert n == 1
            clock[0] += 0.5
            return torch.zeros(n, 64)

        def encode(self, x):
            assert len(x) == 1
            clock[0] += 0.25
            return x[:, :2]

    e = evaluation(Timed(digits.shape), digits)
    assert METRICS["sample_latency"].fn(e) == pytest.approx(500)
    assert METRICS["encode_latency"].fn(e) == pytest.approx(250)


def test_the_sweep_ends_where_larger_batches_gain_nothing(clock):
    tried = []

    def work(batch):
        tried.append(batch)
        clock[0] += 0.1 * max(1, 1.01 * batch / 64)  # so many at once take no longer than one

    assert speed.saturated(work, CPU, 0.0) == (pytest.approx(640, rel=0.02), 64)
    assert max(tried) == 256

    def starved(batch):
        if batch > 16:
            raise RuntimeError("can't allocate memory")
        clock[0] += 0.1

    assert speed.saturated(starved, CPU, 0.0) == (pytest.approx(160), 16)
    with pytest.raises(RuntimeError, match="shape"):
        speed.saturated(lambda batch: torch.ones(2) @ torch.ones(3, 4), CPU, 0.0)


def test_the_sweep_is_for_those_who_ask_for_it(digits: Dataset):
    def asked(fidelity_name):
        found = Evaluation(Half(digits.shape), digits, 0, fidelity(fidelity_name))
        return METRICS["encode_images_per_second_saturated"].asked_of(found)

    assert asked("thorough") and asked("smoke[sweep=true]") and not asked("full")
    assert fidelity("smoke[sweep=TRUE]").name == "smoke[sweep=true]"


class Alone(VAE):
    stackable = False


@pytest.mark.parametrize(("seeds", "kind"), [(1, VAE), (3, VAE), (2, Alone)])
def test_operations_of_a_step_are_counted(seeds, kind, digits: Dataset):
    population = Population(lambda: kind(digits.shape, Bernoulli(), latent=3, hidden=(7,)), range(seeds))
    training = Training(population, digits.as_(Support.BINARY), Recipe(1, 100), "")
    state, noise = {k: v.clone() for k, v in training.population.state().items()}, torch.get_rng_state()
    layers = [(64, 7), (7, 6), (3, 7), (7, 64)]
    multiplications = 3 * sum(n * m for n, m in layers) - 64 * 7  # forward, for weights, for inputs: but images have no gradient
    assert step_flops(training) == 2 * multiplications * 100 * seeds
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(state[k], v) for k, v in training.population.state().items())
    assert product_rate(CPU, "fp32") > 1e8


def test_operations_are_counted_where_a_loss_has_a_gradient_in_it(digits: Dataset):
    """The discriminator's penalty: at least its forward products, those of the generator, and as many again for each gradient."""
    population = Population(lambda: GAN(digits.shape, latent=3, hidden=(7,)), range(2))
    training = Training(population, digits.as_(Support.UNIT), Recipe(1, 100), "")
    generator, discriminator = 3 * 7 + 7 * 64, 64 * 7 + 7
    forward = 2 * generator + 3 * discriminator  # images for either player; real ones, and those for each of them
    assert 2 * 2 * forward * 100 * 2 < step_flops(training) < 4 * 2 * forward * 100 * 2
