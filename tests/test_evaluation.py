from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.test_laws import W1, W2, linear_vae
from vae_variants.datasets import split
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, Fidelity, Skip, evaluate
from vae_variants.evaluation.latent import active
from vae_variants.evaluation.likelihood import bits_per_dim, elbo, log_likelihood
from vae_variants.evaluation.probe import probe_accuracy
from vae_variants.evaluation.reconstruction import reconstruction_mse
from vae_variants.evaluation.sharpness import SIGMAS, blurred, calibration, equivalent_blur, is_noise, laplacian_variance, reblurred
from vae_variants.evaluation.spectrum import log_spectral_distance, radial_power
from vae_variants.model import Encoder, LatentVariable
from vae_variants.models.reference import PCA, Pixels
from vae_variants.training import Population
from vae_variants.variants import VARIANTS, build, configure

SMOKE = FIDELITIES["smoke"]


def linear_evaluation(weights, fidelity: Fidelity = SMOKE) -> tuple[Evaluation, float]:
    model, x, exact = linear_vae(weights)
    images = torch.zeros(90, 1, 1, 5, dtype=torch.uint8)
    e = Evaluation(model, split("flat", images, validation=20, test=20), 0, fidelity)
    e.test = x.expand(20, -1)
    return e, exact


def test_the_evaluator_finds_the_exact_log_likelihood():
    e, exact = linear_evaluation(W2)
    assert log_likelihood(e) == pytest.approx(exact, abs=1e-8)
    assert e.bound.ess.mean().item() == pytest.approx(SMOKE.bound_samples, abs=1e-4)


def test_bounds_come_in_order_and_the_elbo_is_minus_rate_minus_distortion():
    e, exact = linear_evaluation(W1, replace(SMOKE, elbo_samples=500, bound_samples=300))
    with torch.no_grad():
        e.model.encoder[0].bias += torch.tensor([0.3, -0.3, 0.3, 0.3], dtype=torch.float64)
    assert elbo(e) < log_likelihood(e) < exact + 0.02
    assert elbo(e) == pytest.approx(-METRICS["rate"].fn(e) - METRICS["distortion"].fn(e), abs=1e-12)
    assert METRICS["rate"].fn(e) == pytest.approx(e.model.infer(e.test, 1, torch.ones(())).kl.mean().item())
    assert 1 < e.bound.ess.mean() < 300


def test_a_bound_known_for_some_images_is_corrected_to_all():
    e, _ = linear_evaluation(W1, replace(SMOKE, bound_images=5, elbo_samples=2000, bound_samples=400))
    with torch.no_grad():
        e.model.encoder[0].bias[2:] += 0.3
    shifted = e.test.clone()
    shifted[1::2] += 3.0  # images that are all alike but for some that are far less likely
    e.test = shifted
    every = Evaluation.__new__(Evaluation)
    every.__dict__.update({k: v for k, v in e.__dict__.items() if k not in ("elbo", "bound")})
    every.fidelity = replace(e.fidelity, bound_images=20)
    assert abs(e.bound.value.mean() - every.bound.value.mean()) > 1
    assert log_likelihood(e) == pytest.approx(log_likelihood(every), abs=0.15)


def test_the_monte_carlo_error_is_the_spread_over_noise():
    values, errors = [], []
    for seed in range(60):
        e, _ = linear_evaluation(W1, replace(SMOKE, bound_images=8, elbo_samples=4, bound_samples=60))
        e.seed = seed
        with torch.no_grad():
            e.model.encoder[0].bias += torch.tensor([0.3, -0.3, 0.3, 0.3], dtype=torch.float64)
        values.append(log_likelihood(e))
        errors.append(METRICS["monte_carlo_error"].fn(e))
    assert torch.tensor(values).std().item() == pytest.approx(sum(errors) / 60, rel=0.3)


def test_chunks_do_not_change_the_bound(monkeypatch):
    from vae_variants.evaluation import evaluation

    found = []
    for elements in (2**21, 3000):
        monkeypatch.setattr(evaluation, "ELEMENTS", elements)
        e, _ = linear_evaluation(W1, replace(SMOKE, bound_samples=2000))
        found.append(log_likelihood(e))
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_bits_per_dim(digits):
    model = next(Population(lambda: build("made[hidden=8]", digits), (0,)).members())
    e = Evaluation(model, digits.subset(50, 20), 0, SMOKE)
    assert bits_per_dim(e) == pytest.approx(-log_likelihood(e) / 64 / math.log(2))


# -- images ------------------------------------------------------------------------------------------------------------


def test_laplacian_variance_has_its_known_values():
    flat = torch.full((3, 100), 0.7)
    assert laplacian_variance(flat, (1, 10, 10)).abs().max() < 1e-12
    noise = torch.rand(40, 64 * 64, dtype=torch.float64)
    assert laplacian_variance(noise, (1, 64, 64)).mean().item() == pytest.approx(20 / 12, rel=0.01)
    torch.testing.assert_close(laplacian_variance(0.3 * noise, (1, 64, 64)), 0.09 * laplacian_variance(noise, (1, 64, 64)))
    colour = noise.reshape(40, 1, -1).expand(-1, 3, -1).reshape(40, -1)
    torch.testing.assert_close(laplacian_variance(colour, (3, 64, 64)), laplacian_variance(noise, (1, 64, 64)))


def test_a_blur_keeps_the_mass_and_adds_its_variance():
    image = torch.zeros(1, 31 * 31)
    image[0, 15 * 31 + 15] = 1
    for sigma in (0.8, 1.5):
        out = blurred(image, (1, 31, 31), sigma).reshape(31, 31)
        assert out.sum().item() == pytest.approx(1.0, abs=1e-6)
        offset = torch.arange(31) - 15
        assert (out.sum(0) * offset**2).sum().item() == pytest.approx(sigma**2, rel=0.03)


def test_the_equivalent_blur_of_a_blurred_image_is_its_blur(mnist):
    curve = calibration(mnist)
    assert all(a >= b for a, b in pairwise(curve))
    real = mnist.grey()[::5]
    for sigma in (0.55, 1.25, 2.0):
        value = laplacian_variance(blurred(real, mnist.shape, sigma), mnist.shape).median().item()
        assert equivalent_blur(value, curve) == pytest.approx(sigma, abs=0.05)
    assert equivalent_blur(curve[0] * 2, curve) == 0
    assert equivalent_blur(0.0, curve) == SIGMAS[-1]


def shown(dataset, images) -> Evaluation:
    e = Evaluation(Pixels(dataset.shape), dataset, 0, SMOKE)
    e.__dict__["sample_means"] = images.float().clamp(0, 1)
    return e


def flagged(dataset, images) -> bool:
    e = shown(dataset, images)
    return is_noise(METRICS["noise_ratio"].fn(e), METRICS["sharpness_ratio"].fn(e))


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_noise_is_told_from_sharpness(name, request):
    dataset = request.getfixturevalue(name)
    real, shape = dataset.grey()[:500], dataset.shape
    blur = {sigma: blurred(real, shape, sigma) for sigma in (0.5, 1, 2)}
    honest = {"test": real, "train": dataset.grey("train")[:1000], "faded": 0.7 * real, **blur}
    assert [key for key, images in honest.items() if flagged(dataset, images)] == []
    noise = 0.1 * torch.randn(real.shape)
    false = {"noise": torch.rand(real.shape), "noisy": real + noise, "noisy 1": blur[1] + noise, "noisy 2": blur[2] + noise}
    false |= {f"binarised {sigma}": torch.rand(real.shape) < images for sigma, images in blur.items()}
    assert [key for key, images in false.items() if not flagged(dataset, images)] == []


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_blurred_images_with_noise_are_not_scored_as_sharp(name, request):
    dataset = request.getfixturevalue(name)
    blur = blurred(dataset.grey()[:1000], dataset.shape, 1.0)
    clean, noisy = shown(dataset, blur), shown(dataset, blur + 0.1 * torch.randn(blur.shape))
    blind = equivalent_blur(METRICS["sharpness"].fn(noisy), calibration(dataset))
    assert blind < 0.7  # what sharpness alone would say
    assert METRICS["blur_sigma"].fn(clean) == pytest.approx(1, abs=0.05)
    assert METRICS["blur_sigma"].fn(noisy) == pytest.approx(0.8, abs=0.1)
    assert flagged(dataset, noisy.sample_means)
    assert METRICS["blur_sigma"].fn(shown(dataset, dataset.grey("train")[:1000])) == 0


def test_sharpness_of_mnist_is_that_of_the_reference_table(mnist):
    real, shape = mnist.grey()[:2000], mnist.shape
    blur = blurred(real, shape, 1.0)
    found = [laplacian_variance(x, shape).mean().item() for x in (real, blur, blur + 0.1 * torch.randn(blur.shape))]
    assert found == pytest.approx([0.1826, 0.0146, 0.2145], rel=0.05)


def test_reblur_is_scikit_images_and_grows_with_blur(digits):
    from skimage.measure import blur_effect

    real = digits.grey()[:50]
    expected = [blur_effect(x.reshape(8, 8).double().numpy(), h_size=3) for x in real]
    torch.testing.assert_close(reblurred(real, digits.shape), torch.tensor(expected, dtype=torch.float64))
    colour = real[:, None].expand(-1, 3, -1).flatten(1)
    torch.testing.assert_close(reblurred(colour, (3, 8, 8)), reblurred(real, digits.shape))
    larger = torch.rand(3, 28 * 28)
    expected = [blur_effect(x.reshape(28, 28).double().numpy(), h_size=11) for x in larger]
    torch.testing.assert_close(reblurred(larger, (1, 28, 28)), torch.tensor(expected, dtype=torch.float64))
    values = [METRICS["reblur"].fn(shown(digits, blurred(digits.grey(), digits.shape, sigma))) for sigma in (0, 0.5, 1, 2)]
    assert values == sorted(values)
    assert reblurred(torch.full((1, 64), 0.5), digits.shape).item() == 1
    assert METRICS["reblur"].fn(shown(digits, 0.3 * digits.grey())) == pytest.approx(values[0], abs=1e-3)


def test_the_spectral_distance_has_its_known_values(digits):
    shape = (1, 28, 28)
    noise = torch.rand(400, 784, dtype=torch.float64)
    power = radial_power(noise, shape)
    assert log_spectral_distance(power, power) == 0
    assert log_spectral_distance(radial_power(0.1 * noise, shape), power) == pytest.approx(20, abs=1e-3)
    assert log_spectral_distance(radial_power(0 * noise, shape), power) == pytest.approx(60, abs=0.5)  # the floor
    assert (power[1:] / power[1:].mean() - 1).abs().max() < 0.06  # white noise: alike in every ring, but where the mean is removed
    cycles, row = 5, torch.arange(28, dtype=torch.float64)
    wave = (0.5 + 0.4 * torch.cos(2 * math.pi * cycles / 28 * row)).expand(28, 28).reshape(1, -1)
    assert radial_power(wave, shape).argmax().item() == cycles - 1
    wide = wave.reshape(28, 28)[:20].T.reshape(1, -1)  # of 28 rows and 20 columns: rings by the shorter side
    assert radial_power(wide, (1, 28, 20)).argmax().item() == round(cycles * 20 / 28) - 1
    sigma, frequency = 0.8, torch.arange(2, 9) / 28  # a blur in the plane takes exp(-4 pi^2 sigma^2 f^2) of the energy
    ratio = radial_power(blurred(noise, shape, sigma), shape)[1:8] / power[1:8]
    torch.testing.assert_close(ratio, torch.exp(-4 * math.pi**2 * sigma**2 * frequency.double() ** 2), rtol=0.12, atol=0)
    values = [METRICS["spectral_distance"].fn(shown(digits, blurred(digits.grey(), digits.shape, s))) for s in (0, 0.5, 1)]
    assert values[0] == 0 < values[1] < values[2]


# -- codes -------------------------------------------------------------------------------------------------------------


def fitted(model, dataset):
    model.initialise(dataset.grey("train"))
    return Evaluation(model, dataset, 0, SMOKE)


def test_pca_loses_the_variance_of_the_components_left_out(digits):
    everything = replace(digits, test=digits.train, labels=None)
    e = fitted(PCA(digits.shape, latent=20), everything)
    x = digits.grey("train").double()
    values = torch.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    assert reconstruction_mse(e) == pytest.approx(values[:-20].sum().item() / 64, rel=1e-4)


def test_the_probe_reads_pixels_and_not_shuffled_labels(digits):
    honest = probe_accuracy(Evaluation(Pixels(digits.shape), digits, 0, SMOKE))
    assert 0.93 < honest < 0.99
    labels = {name: y[torch.randperm(len(y))] for name, y in digits.labels.items()}
    shuffled = probe_accuracy(Evaluation(Pixels(digits.shape), replace(digits, labels=labels), 0, SMOKE))
    assert shuffled < 0.1 + 4 * math.sqrt(0.09 / 300)


def test_the_probe_is_skipped_without_labels(digits):
    e = Evaluation(Pixels(digits.shape), replace(digits, labels=None), 0, SMOKE)
    with pytest.raises(Skip, match="no labels"):
        probe_accuracy(e)
    (row,) = [v for v in evaluate(e) if v.metric == "probe_accuracy"]
    assert (row.status, row.value) == ("skipped", None)


def test_active_units_are_those_that_move():
    codes = torch.cat([torch.randn(1000, 3), 0.05 * torch.randn(1000, 2)], 1)
    assert active(codes).tolist() == [True, True, True, False, False]


def test_a_metric_that_fails_is_a_row_with_its_reason(digits):
    class Broken(Pixels):
        def encode(self, x):
            raise RuntimeError("no codes today")

    rows = {v.metric: v for v in evaluate(Evaluation(Broken(digits.shape), digits, 0, SMOKE))}
    assert rows["probe_accuracy"].status == "error"
    assert "no codes today" in rows["probe_accuracy"].reason


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_finite_values_for_what_it_is_capable_of_and_no_others(name, digits):
    small = digits.subset(100, 40)
    (chosen,) = configure(name, {"hidden": [8]})
    if name == "made-orders-8":
        chosen = chosen.with_defaults(orders=2)
    population = Population(lambda: build(chosen, small), (0,))
    population.initialise(small.as_(chosen.support).train)
    model = next(population.members())
    cost = {"train_seconds": 1.0, "train_images_per_second": 1.0, "peak_memory_bytes": 1.0}
    e = Evaluation(model, small, 0, replace(SMOKE, bound_samples=30, image_samples=25, timing_seconds=1e-3), cost=cost)
    rows = {v.metric: v for v in evaluate(e)}
    assert all(v.status == "ok" and math.isfinite(v.value) for v in rows.values()), [v for v in rows.values() if v.status != "ok"]
    assert ("elbo" in rows) == isinstance(model, LatentVariable)
    assert ("probe_accuracy" in rows) == isinstance(model, Encoder)
    assert set(rows) == {m.published_for("digits") for m in METRICS.values() if m.asked_of(e)}


def test_noise_depends_on_data_and_seed_and_leaves_the_global_stream_alone(digits):
    def drawn(dataset, seed):
        e = Evaluation(Pixels(dataset.shape), dataset, seed, SMOKE)
        with e.noise("a"):
            return torch.rand(3)

    before = torch.random.get_rng_state()
    first = drawn(digits, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, drawn(digits, 0))
    assert not torch.equal(first, drawn(digits, 1))
    assert not torch.equal(first, drawn(digits.subset(50, 20), 0))


def test_mutual_information_is_that_of_a_known_channel():
    from vae_variants.evaluation.latent import information, information_ceiling, marginal_kl, mutual_information

    e, _ = linear_evaluation(W2)
    n = 2000
    e.test = 3.0 * torch.randn(n, 5, dtype=torch.float64)
    found = mutual_information(e)
    mean, scale = e.model.posterior(e.test)
    spread_of = torch.cov(mean.mT) + torch.diag(scale[0].square())  # z is nearly Gaussian, since x is
    expected = 0.5 * (torch.logdet(spread_of) - scale[0].square().log().sum()).item()
    assert found == pytest.approx(expected, abs=0.1)
    assert found < math.log(n) == information_ceiling(e)
    law, prior = (
        torch.distributions.MultivariateNormal(m, c)
        for m, c in ((mean.mean(0), spread_of), (torch.zeros(2).double(), torch.eye(2).double()))
    )
    assert marginal_kl(e) == pytest.approx(torch.distributions.kl_divergence(law, prior).item(), abs=0.15)
    information.cache_clear()
    e.model.encoder[0].weight.data.zero_()  # codes that know nothing of the image
    assert mutual_information(e) == pytest.approx(0, abs=1e-6)
    information.cache_clear()
    e.model.encoder[0].weight.data[:2] = 1e9  # codes that know everything: the estimate cannot exceed log n
    assert mutual_information(e) == pytest.approx(math.log(n), abs=1e-6)
    assert mutual_information(e) <= math.log(n)


@pytest.mark.parametrize("shift", [0.0, 50.0, 1e7])
@pytest.mark.parametrize("narrow", [1.0, 1e-2, 1e-7])  # the last is too narrow for squares that are multiplied out
def test_the_density_of_the_aggregate_is_that_of_a_mixture(shift: float, narrow: float):
    from vae_variants.evaluation.latent import log_aggregate

    mean, scale = shift + torch.randn(1200, 4, dtype=torch.float64), narrow * (0.2 + torch.rand(1200, 4, dtype=torch.float64))
    z = mean + scale * torch.randn_like(mean)
    z[:100] = z[600:700]  # codes that another image explains better
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(1200, dtype=torch.float64)),
        torch.distributions.Independent(torch.distributions.Normal(mean, scale), 1),
    )
    torch.testing.assert_close(log_aggregate(z, mean, scale), mixture.log_prob(z), atol=1e-6, rtol=1e-9)


def test_clusters_of_codes_that_tell_the_class_agree_with_it(digits):
    from vae_variants.evaluation.latent import clustering_score

    e = Evaluation(Pixels(digits.shape), digits, 0, SMOKE)
    told = {name: torch.nn.functional.one_hot(y, 10).double() for name, y in digits.labels.items()}
    e.codes = {name: codes + 0.01 * torch.randn_like(codes) for name, codes in told.items()}
    assert clustering_score(e) == pytest.approx(1)
    e.codes = {name: torch.randn(len(y), 3, dtype=torch.float64) for name, y in digits.labels.items()}
    assert abs(clustering_score(e)) < 0.1


def test_high_frequencies_are_where_they_should_be(mnist):
    from vae_variants.evaluation.spectrum import high_frequencies

    row = torch.arange(32, dtype=torch.float64)
    for cycles, share in ((0.1, 0.0), (0.2, 0.0), (0.375, 1.0)):
        wave = (0.5 + 0.4 * torch.cos(2 * math.pi * cycles * row)).expand(32, 32).reshape(1, -1)
        assert high_frequencies(wave, (1, 32, 32)).item() == pytest.approx(share, abs=0.05)
    noise = torch.rand(300, 784, dtype=torch.float64)
    assert high_frequencies(noise, (1, 28, 28)).mean().item() == pytest.approx(0.81, abs=0.01)
    real = mnist.grey()[::20]
    values = [high_frequencies(blurred(real, mnist.shape, sigma), mnist.shape).mean().item() for sigma in (0, 0.5, 1.0, 2.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(0.12, abs=0.03)
    assert values[2] < values[0] / 8
    flat = torch.full((1, 784), 0.3)
    assert high_frequencies(flat, (1, 28, 28)).item() == 0


def test_the_report_says_which_sharpness_is_noise_and_names_the_distance_after_the_data():
    from vae_variants.harness import Record
    from vae_variants.report.entries import Entry
    from vae_variants.report.readme import readme

    def entry(label: str, kept: float, ratio: float) -> Entry:
        found = {"noise_ratio": kept, "sharpness_ratio": ratio, "sharpness": 0.2145, "blur_sigma": 0.8, "fd-mnistcnn": 1.5, "mine": 7.25}
        rows = [
            {"seed": 0, "metric": m, "value": v, "unit": "", "better": "none", "kind": "estimate", "status": "ok", "reason": ""}
            for m, v in found.items()
        ]
        data = {"name": "mnist?static=true", "digest": "0" * 64, "shape": [1, 28, 28], "sizes": {"train": 1, "validation": 1, "test": 1}}
        return Entry(label, Record(label, label, {}, data, "unit", "full", [0], {"0": "ok"}, rows=rows))

    page = readme("s", [entry("blurred", 1.2, 0.4), entry("noisy", 0.27, 0.69), entry("binarised", 1.2, 3.7)], [], "c", [])
    lines = {line.split("`")[1]: line for line in page.split("## Samples\n")[1].split("\n## ")[0].split("\n") if line.startswith("| `")}
    assert lines["blurred"] == "| `blurred` | 0.2145 | 0.4000 | 1.200 | 0.8000 | 1 |"
    assert lines["noisy"] == "| `noisy` | noise: 0.2145 | noise: 0.6900 | 0.2700 | noise: 0.8000 | 1 |"
    assert lines["binarised"].startswith("| `binarised` | noise: 0.2145 | noise: 3.700 |")
    assert "| FD-mnistcnn ↓ |" in page
    assert "- `fd-mnistcnn` (squared features): Frechet distance" in page
    further = page.split("## Further metrics\n")[1].split("\n## ")[0]
    assert "mine" in further and "fd-" not in further
