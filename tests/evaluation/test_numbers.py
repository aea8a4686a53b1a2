"""Figures against values worked out by hand: what would catch a wrong sign, a sum for a mean, an inverse, or a leak."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vae_variants.datasets import Dataset, load_dataset, split
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation
from vae_variants.harness import parse_seeds
from vae_variants.harness.suites import load_suite
from vae_variants.models.base import Density, Encoder, MeanSampler, Model
from vae_variants.models.draws import Draws
from vae_variants.models.gan import GAN
from vae_variants.models.likelihoods import DiscretizedLogistic, Support
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.models.posteriors import Scored
from vae_variants.registry import UserError
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure
from vae_variants.variants.recipe import Recipe

SMOKE, CPU = FIDELITIES["smoke"], torch.device("cpu")


class Given(Scored):
    """A q of which the density of two draws of two images is known."""

    def __init__(self, log_q):
        self.log_q = log_q

    def draw(self, k):
        raise NotImplementedError

    def log_prob(self, z):
        return self.log_q

    def detached(self):
        return self


def draws(t: float = 1.0) -> Draws:
    """Two draws of z, two images, two latent units."""
    kl_units = torch.tensor([[0.1, 3.0], [0.3, 1.0]])
    return Draws(
        log_px=torch.tensor([[-10.0, -20.0], [-14.0, -22.0]]),
        log_pz=torch.tensor([[-2.0, -1.0], [-1.0, -3.0]]),
        log_qz=torch.tensor([[1.0, 0.5], [0.0, 2.0]]),
        kl=kl_units.sum(-1),
        kl_units=kl_units,
        z=torch.zeros(2, 2, 2),
        t=torch.tensor(t),
        gate=torch.zeros(2, 2),
        q=Given(torch.tensor([[1.0, 0.5], [0.0, 2.0]])),
    )


W = [[-13.0, -21.5], [-15.0, -27.0]]  # log w of those draws
EXPECTED = {
    "elbo": [3.1 + 12, 1.3 + 21],
    "elbo-sampled": [14.0, 24.25],
    "iwae": [-math.log((math.exp(a) + math.exp(b)) / 2) for a, b in zip(*W, strict=True)],
    "stl": [14.0, 24.25],
    "dreg": [-math.log((math.exp(a) + math.exp(b)) / 2) for a, b in zip(*W, strict=True)],
    "beta": [4 * 3.1 + 12, 4 * 1.3 + 21],
    "warm-up": [3.1 + 12, 1.3 + 21],
    "free-bits": [0.25 + 2 + 12, 0.25 + 2 + 21],  # unit means 0.2, below the floor of 0.25, and 2
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_objective_is_its_formula(name):
    torch.testing.assert_close(OBJECTIVES[name](draws()), torch.tensor(EXPECTED[name]))


def test_options_of_objectives_count():
    torch.testing.assert_close(OBJECTIVES["warm-up"](draws(0.15)), torch.tensor([3.1 / 2 + 12, 1.3 / 2 + 21]))
    torch.testing.assert_close(OBJECTIVES["warm-up"](draws(0.0)), torch.tensor([12.0, 21.0]))
    torch.testing.assert_close(OBJECTIVES["beta"](draws(), beta=0.5), torch.tensor([3.1 / 2 + 12, 1.3 / 2 + 21]))
    torch.testing.assert_close(OBJECTIVES["free-bits"](draws(), free_bits=5.0), torch.tensor([10.0 + 12, 10.0 + 21]))
    with pytest.raises(UserError, match="positive number"):
        configure("vae[objective=warm-up,warm_up=0]")


def test_the_players_of_a_gan_want_what_goodfellow_says():
    model = GAN((1, 2, 2), latent=2, hidden=(5,), penalty=0.0)
    x, t = torch.rand(50, 4), torch.ones(())
    torch.manual_seed(3)
    fake = model.sample(50)
    real_logit, fake_logit = model.discriminator(x), model.discriminator(fake)
    one, zero = torch.ones(50, 1), torch.zeros(50, 1)
    torch.manual_seed(3)
    expected = F.binary_cross_entropy_with_logits(real_logit, one) + F.binary_cross_entropy_with_logits(fake_logit, zero)
    torch.testing.assert_close(model.discriminator_loss(x, t), expected)
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(x, t), F.binary_cross_entropy_with_logits(fake_logit, one))


class Half(Model, Encoder, MeanSampler, Density):
    """Codes are the first two pixels; samples are what they are told to be."""

    exact, support = True, Support.UNIT

    def __init__(self, shape, means=None):
        super().__init__()
        self.shape, self.means = shape, means
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def encode(self, x):
        return x[:, :2]

    def sample_mean(self, n):
        return self.means[:n]

    def log_prob(self, x):
        return x.sum(-1) + self.weight

    def loss(self, x, t):
        return -self.log_prob(x).mean()


def evaluation(model, dataset, **cost) -> Evaluation:
    return Evaluation(model, dataset, 0, SMOKE, "cpu", cost)


def test_contrast_squares_in_sharpness(digits: Dataset):
    real = digits.grey()[:100]
    values = {}
    for scale in (1.0, 0.5):
        e = evaluation(Half(digits.shape, real * scale), digits)
        values[scale] = [METRICS[m].fn(e) for m in ("sharpness", "sharpness_ratio", "blur_sigma")]
    assert values[0.5][0] == pytest.approx(values[1.0][0] / 4, rel=1e-5)
    assert values[0.5][1] == pytest.approx(values[1.0][1] / 4, rel=1e-5)
    assert values[1.0][1] == pytest.approx(1, abs=0.1)
    assert values[0.5][2] > values[1.0][2] + 0.2


def test_reconstruction_in_nats_and_in_sharpness(digits: Dataset):
    model = build("vae[hidden=8,latent=2]", digits).eval().requires_grad_(False)
    e = evaluation(model, digits)
    law = torch.distributions.Bernoulli(logits=model.decoder(model.encode(e.test)))
    expected = -law.log_prob(e.test).sum(-1).mean().item()
    assert METRICS["reconstruction_nats"].fn(e) == pytest.approx(expected, rel=1e-5)
    e.reconstructions = digits.grey() * 0.5
    assert METRICS["reconstruction_sharpness_ratio"].fn(e) == pytest.approx(0.25, rel=1e-4)
    assert METRICS["reconstruction_mse"].fn(e) == pytest.approx((digits.grey() / 2).square().mean().item(), rel=1e-4)


def labelled(test_flipped: bool, validation_flipped: bool) -> Dataset:
    """The first pixel tells the class; in parts that are flipped it tells the other one."""
    labels = torch.arange(400) % 2
    images = torch.randint(0, 60, (400, 1, 1, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] += (160 * labels).to(torch.uint8)
    found = split("told", images, labels, validation=100, test=100)
    flip = {"train": False, "validation": validation_flipped, "test": test_flipped}
    return replace(found, labels={part: y ^ flip[part] for part, y in found.labels.items()})


def test_the_probe_learns_from_training_and_is_scored_on_test_images():
    assert METRICS["probe_accuracy"].fn(evaluation(Half((1, 1, 4)), labelled(False, False))) == 1
    assert METRICS["probe_accuracy"].fn(evaluation(Half((1, 1, 4)), labelled(True, False))) == 0


def test_training_looks_at_training_images_and_validates_on_validation_images():
    images = torch.zeros(90, 1, 1, 4, dtype=torch.uint8)
    dataset = split("levels", images, validation=20, test=20)
    dataset = replace(dataset, validation=dataset.validation + 51, test=dataset.test + 255)  # 0, 0.2 and 1 in [0, 1]
    training = Training(Population(lambda: Half((1, 1, 4)), (0, 1)), dataset.as_(Support.UNIT), Recipe(1, 10, 0.0), "key")
    curves = training.run_epoch()
    assert curves["train_loss"] == [0.0, 0.0]
    assert curves["validation_log_prob"] == pytest.approx([0.8, 0.8])


def batches(digits: Dataset, seeds=(0, 1), variant="vae[hidden=8]", key="k") -> list[torch.Tensor]:
    (chosen,) = configure(variant)
    data = digits.as_(chosen.support)
    training = Training(Population(lambda: build(chosen, digits), seeds), data, Recipe(3, 100, 1e-3), key)
    first = torch.stack(list(training.batches()))
    training.epoch = 1
    return [first, torch.stack(list(training.batches()))]


def test_order_and_binarisation_depend_on_seed_and_epoch_and_not_on_the_variant(digits: Dataset):
    first, second = batches(digits)
    again, _ = batches(digits, variant="made[hidden=9]")
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:, 0], first[:, 1])
    alone, _ = batches(digits, seeds=(1,))
    assert torch.equal(first[:, 1], alone[:, 0])
    grey, _ = batches(digits, variant="vae[likelihood=gaussian,hidden=8]")
    whole = digits.grey("train")
    for seed in (0, 1):  # each epoch shows each image at most once
        shown = grey[:, seed].flatten(0, 1)
        assert len({row.numpy().tobytes() for row in shown}) > 0.95 * len(shown)
    assert {row.numpy().tobytes() for row in grey.flatten(0, 2)} <= {row.numpy().tobytes() for row in whole}
    rates = first.flatten(0, 2).mean(0)
    torch.testing.assert_close(rates, whole.mean(0), atol=0.03, rtol=0)


def test_a_scale_far_out_has_a_finite_mass():
    likelihood = DiscretizedLogistic()
    h = torch.tensor([[0.0, 200.0], [0.0, -200.0]], requires_grad=True)
    value = likelihood.log_prob(h, torch.full((2, 1), 128 / 255))
    value.sum().backward()
    assert value.isfinite().all()
    assert h.grad.isfinite().all()


# -- what users hand over --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float32])
def test_arrays_of_zero_and_one_are_black_and_white(dtype, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (70, 6, 5)).astype(dtype)
    np.savez(tmp_path / "a.npz", x=x)
    assert load_dataset(f"npz:{tmp_path}/a.npz").grey("train").unique().tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["16 bits", "transparent", "float"])
def test_pictures_keep_their_grey(kind, tmp_path):
    grey = np.linspace(0, 255, 64).reshape(8, 8)
    for i in range(70):
        if kind == "16 bits":
            picture = Image.fromarray((grey * 257).astype(np.uint16))
        elif kind == "float":
            picture = Image.fromarray((grey / 255).astype(np.float32))
        else:  # black ink of that opacity
            picture = Image.fromarray(np.stack([*[np.zeros((8, 8))] * 3, 255 - grey], -1).astype(np.uint8), "RGBA")
        picture.save(tmp_path / f"{i:02}.{'tiff' if kind == 'float' else 'png'}")
    found = load_dataset(f"images:{tmp_path}?size=8").train[0].numpy().reshape(8, 8)
    np.testing.assert_allclose(found, grey, atol=1.6)


def test_parts_that_do_not_fit_together_get_one_clear_line():
    images, labels = torch.zeros(50, 1, 4, 4, dtype=torch.uint8), torch.zeros(50, dtype=torch.long)
    with pytest.raises(UserError, match="50 images and 49 labels"):
        split("a", images, labels[1:], validation=5, test=5)
    with pytest.raises(UserError, match=r"images of \(1, 5, 5\)"):
        split("a", images, labels, validation=5, test=(torch.zeros(9, 1, 5, 5, dtype=torch.uint8), labels[:9]))
    with pytest.raises(UserError, match="9 images and 50 labels"):
        split("a", images, labels, validation=5, test=(images[:9], labels))


def test_each_member_of_a_stack_takes_from_the_data(digits: Dataset):
    from vae_variants.models.base import DataDependent

    class Taking(Half, DataDependent):
        def __init__(self, shape):
            super().__init__(shape)
            self.register_buffer("mean", torch.rand(64))

        def initialise(self, x):
            self.mean += x.mean(0)

    population = Population(lambda: Taking(digits.shape), (0, 1))
    before = population.state()["mean"].clone()
    Training(population, digits.as_(Support.UNIT), Recipe())
    assert not torch.equal(before[0], before[1])
    torch.testing.assert_close(population.state()["mean"], before + digits.grey("train").mean(0))


def test_a_seed_that_diverged_takes_no_last_step_and_does_not_stop_the_others(digits: Dataset):
    from vae_variants.models.base import Finished

    class Last(Half, Finished):
        def __init__(self, shape):
            super().__init__(shape)
            self.register_buffer("mean", torch.zeros(()))

        def finish(self, x):
            if not self.weight.isfinite():
                raise ValueError("nothing can be fitted to that")
            self.mean.copy_(x.mean())

    population = Population(lambda: Last(digits.shape), (4, 7))
    population.params["weight"].data[0] = torch.nan
    population.finish(digits.grey("train"), skip={0: 1})
    assert population.state()["mean"].tolist() == [0, pytest.approx(digits.grey("train").mean().item())]


def test_what_cannot_be_meant_gets_one_clear_line(tmp_path):
    for seeds in ("1000000000000", "5000"):
        with pytest.raises(UserError, match="too many"):
            parse_seeds(seeds)
    for selector, says in [
        ("vae[model=gan]", "before the bracket"),
        ("vae[sigma=0.1]", "'sigma' is an option of likelihood=gaussian"),
        ("ae[beta=2]", r"\(of model 'autoencoder'\)$"),
        ("vae[network=mpl]", "did you mean 'mlp'"),
        ("vae[network=conv,activation=tan]", "did you mean 'tanh'"),
    ]:
        with pytest.raises(UserError, match=says):
            configure(selector)
    path = tmp_path / "mine.toml"
    path.write_text('dataset = "digits"\nseeds = 1\n[defaults]\nlatnet = 3\n[[runs]]\nvariants = ["vae"]\n')
    with pytest.raises(UserError, match="did you mean 'latent'"):
        load_suite(str(path)).plan()


def test_a_fidelity_caps_what_was_not_chosen(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('dataset = "digits"\nseeds = 1\n[[runs]]\nvariants = ["vae", "vae[epochs=7]"]\n')
    suite = load_suite(str(path))
    epochs = [spec.configuration.values["epochs"] for spec in suite.plan(fidelity="smoke")]
    assert epochs == [2, 7]
    assert [spec.configuration.values["epochs"] for spec in suite.plan(fidelity="smoke", epochs=5)] == [5, 5]
    assert [spec.configuration.values["epochs"] for spec in suite.plan()] == [30, 7]
