"""Bugs that this field has made, each told from the right figure; `mutants.toml` puts them in and expects these tests to fail."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.evaluation.test_numbers import Half, evaluation, labelled
from vae_variants.analysis.statistics import compare
from vae_variants.checks.linear_gaussian import W1, linear_vae
from vae_variants.datasets import Dataset, split
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, probe
from vae_variants.evaluation.ais import anneal, anneal_back, log_normal, schedule
from vae_variants.evaluation.likelihood import log_likelihood
from vae_variants.evaluation.sharpness import blurred, laplacian_variance
from vae_variants.evaluation.weights import log_mean_exp
from vae_variants.models.likelihoods import Gaussian, Support
from vae_variants.models.posteriors import Diagonal
from vae_variants.models.vae import VAE

F64 = {"dtype": torch.float64}


# -- evaluator -------------------------------------------------------------------------------------------------------


def loose(elbo_samples: int, bound_samples: int, images: int = 60) -> tuple[Evaluation, float]:
    """A linear VAE whose scales are far too large, on copies of one image; its exact log p(x)."""
    model, x, exact = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias[2:] += 0.7
    dataset = split("flat", torch.zeros(200, 1, 1, 5, dtype=torch.uint8), validation=20, test=images)
    sizes = {"elbo_samples": elbo_samples, "bound_samples": bound_samples, "bound_images": images}
    e = Evaluation(model, dataset, 0, replace(FIDELITIES["smoke"], **sizes))
    e.test = x.expand(images, -1)
    return e, exact


def expected_distortion(model: VAE, x: torch.Tensor) -> float:
    """-E_q log p(x | z) of a linear decoder with Gaussian noise, worked out: the distance at the mean, and tr(W S W') / v."""
    mean, scale = model.moments(x)
    w, v = model.decoder[0].weight, model.likelihood.sigma**2
    spread = (w.square() * scale.square()).sum() / v
    return (-model.log_px(x, mean[None])[0] + 0.5 * spread).item()


def test_the_distortion_is_that_of_draws_and_not_of_the_posterior_mean() -> None:
    e, exact = loose(2000, 50)
    at_mean = -e.model.log_px(e.test[:1], e.model.encode(e.test[:1])[None]).item()
    expected = expected_distortion(e.model, e.test[:1])
    assert METRICS["distortion"].fn(e) == pytest.approx(expected, abs=0.02)
    assert expected > at_mean + 0.5
    assert METRICS["elbo"].fn(e) < exact - 0.3


def test_the_bounds_of_an_evaluation_are_of_as_many_draws_as_they_say() -> None:
    e, exact = loose(500, 1000)
    found = {k: value.mean().item() for k, value in e.bound.levels.items()}
    assert list(found) == [1, 10, 100, 1000]
    assert found[1] == pytest.approx(METRICS["elbo"].fn(e), abs=0.02)
    assert found[1] + 0.2 < found[10] < found[100] - 0.005
    assert found[1000] == pytest.approx(exact, abs=0.01)
    assert METRICS["bound_samples"].fn(e) == 1000


def unlike() -> Dataset:
    """Training images of 0, test images of 0 and 1 in turn: of unlike probability under `Half`, which adds the pixels up."""
    dataset = split("unlike", torch.zeros(90, 1, 1, 4, dtype=torch.uint8), validation=20, test=20)
    return replace(dataset, test=torch.tensor([0, 255], dtype=torch.uint8).repeat(10)[:, None].expand(-1, 4).clone())


def test_a_log_likelihood_is_the_mean_of_logs_over_test_images() -> None:
    e = evaluation(Half((1, 1, 4)), unlike())
    assert log_likelihood(e) == pytest.approx(2)  # 0 and 4 in turn; the log of the mean of exp would be 3.3
    assert math.log((1 + math.exp(4)) / 2) > 3.3


def test_a_model_is_scored_on_test_images_and_not_on_those_it_was_trained_on() -> None:
    e = evaluation(Half((1, 1, 4)), replace(unlike(), test=torch.full((20, 4), 255, dtype=torch.uint8)))
    assert log_likelihood(e) == pytest.approx(4)  # 0 on the training images


# -- samples and codes -----------------------------------------------------------------------------------------------


def bars(n: int = 200) -> Dataset:
    """A bright bar four pixels wide, somewhere in a dark image."""
    images = torch.zeros(n, 1, 20, 20, dtype=torch.uint8)
    for i in range(n):
        images[i, 0, :, 1 + i % 14 : 5 + i % 14] = 200
    return split("bars", images, validation=20, test=100)


def test_blurred_images_with_noise_on_top_do_not_pass_for_sharp_ones() -> None:
    dataset = bars()
    e = evaluation(Half(dataset.shape), dataset)
    smooth = blurred(dataset.grey(), dataset.shape, 1.5)
    real = laplacian_variance(dataset.grey(), dataset.shape).median().item()
    left = real - laplacian_variance(smooth, dataset.shape).median().item()
    e.__dict__["sample_means"] = smooth + math.sqrt(left / 20) * torch.randn_like(smooth)  # noise of variance v adds 20 v
    assert METRICS["sharpness_ratio"].fn(e) == pytest.approx(1, abs=0.1)  # by the Laplacian alone they are as sharp as real ones
    assert METRICS["noise_ratio"].fn(e) < 0.5
    e = evaluation(Half(dataset.shape), dataset)  # another one: what was measured is kept
    e.__dict__["sample_means"] = dataset.grey()
    assert METRICS["noise_ratio"].fn(e) == pytest.approx(1)


def test_the_probe_does_not_amplify_units_that_the_model_has_switched_off() -> None:
    class Collapsed(VAE):
        """An active unit that knows nothing of the class; one with a variance under 0.01 that knows all of it."""

        def conditional(self, x: torch.Tensor) -> Diagonal:
            mean = torch.stack([5 * x[:, 1], 0.05 * x[:, 0]], -1)
            return Diagonal(mean, torch.zeros_like(mean))

    e = evaluation(Collapsed((1, 1, 4), Gaussian(), latent=2, hidden=(3,)), labelled(False, False))
    assert e.varying("train").tolist() == [True, False]
    assert METRICS["probe_accuracy"].fn(e) < 0.7


def test_the_penalty_of_the_probe_is_chosen_on_validation_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, search = [], probe.searched
    monkeypatch.setattr(probe, "searched", lambda x, y, held_out: (seen.append(held_out), search(x, y, held_out))[1])
    dataset = labelled(False, True)
    METRICS["probe_accuracy"].fn(evaluation(Half((1, 1, 4)), dataset))
    ((_, labels),) = seen
    assert labels.tolist() == dataset.labels["validation"].tolist() != dataset.labels["test"].tolist()


def test_no_fit_of_the_probe_sees_a_test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, fit = [], probe.logistic
    monkeypatch.setattr(probe, "logistic", lambda x, y, *rest: (fitted.append(y.tolist()), fit(x, y, *rest))[1])
    dataset = labelled(True, False)
    METRICS["probe_accuracy"].fn(evaluation(Half((1, 1, 4)), dataset))
    train, validation = (dataset.labels[name].tolist() for name in ("train", "validation"))
    assert fitted[-1] == train + validation
    assert all(labels == train for labels in fitted[:-1])


# -- models ----------------------------------------------------------------------------------------------------------


def test_a_noise_free_sample_has_no_pixel_noise() -> None:
    model = VAE((1, 4, 4), Gaussian(0.5), latent=2, hidden=(3,))
    torch.manual_seed(5)
    found = model.sample_mean(100)
    torch.manual_seed(5)
    torch.testing.assert_close(found, model.decoder(model.draw_prior(100)))
    assert model.sample(100).sub(found).std() > 0.3


def test_a_likelihood_of_binary_pixels_is_never_asked_about_grey_ones(digits: Dataset) -> None:
    for name in ("validation", "test"):
        assert set(getattr(digits.as_(Support.BINARY), name).unique().tolist()) == {0.0, 1.0}
        assert len(getattr(digits.as_(Support.UNIT), name).unique()) > 10


# -- annealing -------------------------------------------------------------------------------------------------------


def test_annealing_there_and_back_weighs_every_temperature_once() -> None:
    def start(z: torch.Tensor) -> torch.Tensor:
        return log_normal(z, torch.zeros((), **F64), torch.ones((), **F64))

    def joint(z: torch.Tensor) -> torch.Tensor:
        return start(z) - 7.25  # the posterior is the prior: each weight is p(x), whatever the chain does

    betas, z = schedule(6), torch.randn(3, 5, 2, **F64)
    sizes = torch.full((6, 5), 0.3, **F64)
    there = anneal(z, start, joint, betas, sizes).log_w
    torch.testing.assert_close(there, torch.full_like(there, -7.25))
    torch.testing.assert_close(anneal_back(z, start, joint, betas, sizes).log_w, -there)


@pytest.mark.parametrize("temperatures", [1, 2, 3])
def test_weights_of_annealing_have_the_mean_p_of_x_however_few_the_temperatures(temperatures: int) -> None:
    n, x = 100_000, 3.0

    def start(z: torch.Tensor) -> torch.Tensor:
        return log_normal(z, torch.zeros((), **F64), torch.ones((), **F64))

    def joint(z: torch.Tensor) -> torch.Tensor:
        return start(z) + log_normal(z, torch.tensor(x, **F64), torch.tensor(2.0, **F64))

    betas, sizes = schedule(temperatures), torch.full((temperatures, 1), 0.5, **F64)
    exact = -0.1 * x**2 - 0.5 * math.log(10 * math.pi)  # x ~ N(0, 1 + 4); so wide a likelihood that 1 / w has a variance
    posterior = x / 5 + math.sqrt(0.8) * torch.randn(n, 1, 1, **F64)
    there = anneal(torch.randn(n, 1, 1, **F64), start, joint, betas, sizes, steps=3).log_w
    back = anneal_back(posterior, start, joint, betas, sizes, steps=3).log_w
    for log_w, expected in ((there, exact), (back, -exact)):
        weight = (log_w - expected).exp()
        assert weight.mean().item() == pytest.approx(1, abs=4 * weight.std().item() / n**0.5)
    assert log_mean_exp(there).item() == pytest.approx(exact, abs=0.02)


# -- statistics ------------------------------------------------------------------------------------------------------


def test_values_are_paired_by_their_seed_and_not_by_their_place() -> None:
    found = compare({0: 10.0, 1: 20.0, 2: 30.0}, {2: 29.0, 0: 9.0, 1: 19.0})
    assert found.difference.mean == 1
    assert found.difference.half == pytest.approx(0, abs=1e-12)
    assert found.wins == 3
