from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from vae_variants.datasets.dataset import SPLITS
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation
from vae_variants.evaluation.sharpness import SIGMAS, blurred, calibration, equivalent_blur, is_noise, laplacian_variance, reblurred
from vae_variants.evaluation.spectrum import log_spectral_distance, radial_power
from vae_variants.models.base import MeanSampler
from vae_variants.models.references import Pixels

SMOKE = FIDELITIES["smoke"]


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
    from vae_variants.analysis.entries import Entry
    from vae_variants.harness import Record
    from vae_variants.report.content import content
    from vae_variants.report.readme import readme

    def entry(label: str, kept: float, ratio: float) -> Entry:
        found = {"noise_ratio": kept, "sharpness_ratio": ratio, "sharpness": 0.2145, "blur_sigma": 0.8, "fd-mnistcnn": 1.5, "mine": 7.25}
        rows = [
            {"seed": 0, "metric": m, "value": v, "unit": "", "better": "none", "kind": "estimate", "status": "ok", "reason": ""}
            for m, v in found.items()
        ]
        data = {"name": "mnist?static=true", "digest": "0" * 64, "shape": [1, 28, 28], "sizes": {"train": 1, "validation": 1, "test": 1}}
        return Entry(label, Record(label, label, {}, data, "unit", "full", [0], {"0": "ok"}, rows=rows))

    page = readme(content("s", [entry("blurred", 1.2, 0.4), entry("noisy", 0.27, 0.69), entry("binarised", 1.2, 3.7)], "c"), [])
    lines = {line.split("`")[1]: line for line in page.split("## Samples\n")[1].split("\n## ")[0].split("\n") if line.startswith("| `")}
    assert lines["blurred"] == "| `blurred` | 0.2145 | 0.4000 | 1.200 | 0.8000 | 1 |"
    assert lines["noisy"] == "| `noisy` | noise: 0.2145 | noise: 0.6900 | 0.2700 | noise: 0.8000 | 1 |"
    assert lines["binarised"].startswith("| `binarised` | noise: 0.2145 | noise: 3.700 |")
    assert "| FD-mnistcnn ↓ |" in page
    assert "- `fd-mnistcnn` (squared features): Frechet distance" in page
    further = page.split("## Further metrics\n")[1].split("\n## ")[0]
    assert "mine" in further and "fd-" not in further


def test_samples_and_their_negatives_have_the_same_metrics(digits):
    digits = digits.subset(300, 100)
    negative = replace(digits, **{name: digits.levels - 1 - getattr(digits, name) for name in SPLITS})
    assert digits.on_dark is digits and negative.on_dark.digest == digits.digest
    images = blurred(digits.grey("train")[:100], digits.shape, 0.6).float() + 0.02 * torch.rand(100, digits.dim)
    own = [
        m
        for m in METRICS.values()
        if m.needs == (MeanSampler,) and m.unit not in ("images/s", "ms") and "given_networks" not in m.fn.__module__
    ]
    found = [{m.name: m.fn(shown(data, x)) for m in own} for data, x in ((digits, images), (negative, 1 - images))]
    assert {"fd_cnn", "kid_cnn", "precision", "coverage", "sharpness", "blur_sigma", "noise_ratio", "reblur"} <= set(found[0])
    assert found[0]["blur_sigma"] > 0
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=2e-3, abs=1e-6), name
