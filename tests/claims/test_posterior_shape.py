"""The shape of the posterior: modes with known answers, and the verdict on planted tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.claims.posterior_shape import COUNT, PosteriorShape, activity, binomial, modes, of_units, share_above
from vae_variants.datasets import Dataset
from vae_variants.evaluation import Evaluation, fidelity
from vae_variants.harness import Store
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.vae import VAE
from vae_variants.studies import Findings, Lab, Verdict
from vae_variants.variants import Configuration


def mixture(*parts: tuple[float, float, float], sd: float = 0.5, n: int = 101, m: int = 121) -> np.ndarray:
    """log density of a mixture of round Gaussians (weight, x, y) on a grid that is not square."""
    x, y = np.meshgrid(np.linspace(-5, 5, n), np.linspace(-6, 6, m), indexing="ij")
    total = sum(w * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * sd**2)) for w, a, b in parts)
    return np.log(total + 1e-300)


def test_one_bump_is_one_mode() -> None:
    assert modes(mixture((1.0, 0.3, -2.0))).tolist() == [1.0]


def test_masses_of_well_separated_modes() -> None:
    found = modes(mixture((0.2, 3.0, 3.0), (0.5, -2.0, -1.0), (0.3, 2.0, -3.0)))
    assert found.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-4)


@pytest.mark.parametrize("separation", [0.8, 2.6, 2.9, 3.2, 4.0])
def test_prominence_decides_whether_two_bumps_are_two(separation: float) -> None:
    """Of two equal Gaussians a distance d apart, in sd: the saddle is d^2 / 8 - log 2 nats under the peaks, where they are far apart."""
    f = mixture((0.5, -separation / 2, 0.0), (0.5, separation / 2, 0.0), sd=1.0, n=401)
    line = f[:, 60]
    depth = line.max() - line[200]
    assert len(modes(f)) == (2 if depth > 1 else 1)
    assert len(modes(f, prominence=0.9 * depth)) == (2 if depth > 0 else 1)
    assert len(modes(f, prominence=1.1 * depth + 1e-9)) == 1


def test_a_bump_on_the_way_up_belongs_to_the_higher_one() -> None:
    f = np.full((3, 9), -50.0)
    f[1] = [-4, -0.4, -1, 0, -9, -2, -2.5, -1.8, -5]  # 0.4 and 0 are one, with a dip of 0.6; -2 and -1.8 another, with a dip of 0.5
    share = np.exp(f[1])
    left, right = share[:4].sum(), share[5:].sum()
    found = modes(f)
    assert len(found) == 2
    assert found.sum() == pytest.approx(1.0)
    assert found[0] == pytest.approx((left + share[4]) / (left + right + share[4]), abs=1e-3)


def test_a_ridge_and_a_plateau_are_one_mode() -> None:
    x, y = np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-3, 3, 80), indexing="ij")
    assert len(modes(-((x - y) ** 2) / 0.02 - (x + y) ** 2 / 4)) == 1
    assert len(modes(np.zeros((5, 6)))) == 1


def test_bumps_far_down_are_no_modes_but_their_mass_is_not_given_away() -> None:
    f = mixture((1.0, -2.0, 0.0), (math.exp(-12.0), 3.0, 0.0))
    assert len(modes(f)) == 1
    assert len(modes(f, depth=13.0)) == 2
    f = mixture((1.0, -2.0, 0.0), (math.exp(-1.5), 3.0, 0.0))
    assert modes(f, depth=1.0).tolist() == pytest.approx([1 / (1 + math.exp(-1.5))], abs=1e-3)


def test_the_grid_may_be_transposed() -> None:
    f = mixture((0.6, 3.0, 3.0), (0.4, -2.0, -1.0))
    assert modes(f).tolist() == pytest.approx(modes(f.T).tolist())


def unit(code: str, name: str, seed: int, j: int, kind: str, sigma: float) -> dict[str, object]:
    return {
        "code": code,
        "trained as": name,
        "seed": seed,
        "unit": j,
        "variance of the mean": 1 - sigma**2 if kind == "active" else 0.0,
        "σ of q": sigma,
        "share of images with σ over 0.5": float(sigma > 0.5),
        "entropy reduction (nats)": -math.log(sigma) if kind == "active" else 0.0,
    }


def planted(
    seeds: int = 3,
    sigma: float = 0.2,
    one: float = 0.99,
    inactive: float | None = None,
    iwae: float = 0.3,
    mass: float = 0.9,
    images: int = 400,
) -> dict[str, pd.DataFrame]:
    """Tables of a VAE whose active units have that width, and of an IWAE."""
    units, grids = [], []
    for name, width in (("VAE", sigma), ("IWAE, 8 draws", iwae)):
        for seed in range(seeds):
            shares = {"share with one mode": one + 0.001 * seed, "share with 99 % of the mass in one": mass + 0.001 * seed}
            grids.append({"trained as": name, "seed": seed, "images": images, **shares})
            for code in ("larger code", "2 units"):
                units += [unit(code, name, seed, j, "active", width * (0.9 + 0.2 * j) + 0.001 * seed) for j in range(2)]
            if inactive is not None:
                units.append(unit("larger code", name, seed, 2, "inactive", inactive + 0.001 * seed))
    return {"grid": pd.DataFrame(grids), "units": pd.DataFrame(units)}


def test_verdicts() -> None:
    judge = PosteriorShape().judge
    assert judge(planted(mass=0.98)).verdict is Verdict.SUPPORTED
    assert judge(planted(inactive=1.0)).verdict is Verdict.CONDITIONAL
    assert judge(planted(iwae=0.8)).verdict is Verdict.CONDITIONAL
    assert judge(planted(sigma=0.8)).verdict is Verdict.REFUTED
    assert judge(planted(one=0.8)).verdict is Verdict.REFUTED
    assert judge(planted(sigma=0.8, inactive=0.1)).verdict is Verdict.REFUTED  # what is no part of the core cannot save it
    assert judge(planted(one=0.8, mass=0.98)).verdict is Verdict.CONDITIONAL  # more than one mode, and no mass in the others
    assert judge(planted(one=0.8, mass=0.98, sigma=0.8)).verdict is Verdict.REFUTED
    assert judge(planted(one=0.949)).verdict is Verdict.INCONCLUSIVE
    assert judge(planted(seeds=2)).verdict is Verdict.INCONCLUSIVE
    assert judge(planted(seeds=2, inactive=1.0)).verdict is Verdict.INCONCLUSIVE
    assert judge(planted(seeds=1, sigma=0.8)).verdict is Verdict.INCONCLUSIVE
    assert "99.1% have one mode" in judge(planted(inactive=1.0)).reason


def test_each_width_is_an_effect_with_the_mean_over_units_of_a_kind() -> None:
    effects = {tuple(e.where.values()): e for e in PosteriorShape().judge(planted(sigma=0.4, inactive=0.499)).effects}
    assert effects["σ of q, active, 2 units", "VAE"].value == pytest.approx(0.401)  # units of 0.36 and 0.44, seeds 0.001 apart
    for value, verdict in ((1.0, Verdict.REFUTED), (0.1, Verdict.SUPPORTED), (0.499, Verdict.INCONCLUSIVE)):
        effects = {tuple(e.where.values()): e for e in PosteriorShape().judge(planted(inactive=value)).effects}
        found = effects["σ of q, inactive, larger code", "VAE"]
        assert (found.value, found.verdict) == (pytest.approx(value + 0.001), verdict)
    assert len(effects) == 10 and len(PosteriorShape().judge(planted()).effects) == 8  # without inactive units


def test_the_interval_of_a_share_knows_how_many_images_there_were() -> None:
    """Fifty images of which all have one mode: 1 - p = 0.95 would give that with a chance of 8 %."""
    where = {"what": COUNT, "trained as": "VAE"}
    few = share_above(where, [1.0, 1.0, 1.0, 1.0, 1.0], 50, 0.95)
    assert (few.low, few.high) == (pytest.approx(0.025 ** (1 / 50)), 1.0)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert share_above(where, [1.0] * 5, 100, 0.95).verdict is Verdict.SUPPORTED
    assert share_above(where, [0.0] * 5, 100, 0.95).verdict is Verdict.REFUTED
    assert share_above(where, [1.0, 1.0], 100, 0.95).verdict is Verdict.INCONCLUSIVE  # too few seeds
    apart = share_above(where, [0.9, 1.0, 0.95], 10**6, 0.5)  # here the seeds decide
    assert apart.low == pytest.approx(0.95 - 4.302652729 * 0.05 / math.sqrt(3)) and apart.high == 1.0
    assert PosteriorShape().judge(planted(one=0.999, mass=1.0, images=50)).verdict is Verdict.INCONCLUSIVE


def test_binomial_interval() -> None:
    low, high = binomial(8, 10)  # tabulated: Clopper & Pearson
    assert (low, high) == (pytest.approx(0.4439, abs=1e-4), pytest.approx(0.9748, abs=1e-4))
    assert binomial(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert binomial(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_a_part_that_is_missing_cannot_be_supported() -> None:
    tables = planted()
    judge, empty, grid, units = PosteriorShape().judge, pd.DataFrame(), tables["grid"], tables["units"]
    assert judge({**tables, "grid": grid[grid["trained as"] != "VAE"]}).verdict is Verdict.INCONCLUSIVE
    assert judge({**tables, "grid": empty}).verdict is Verdict.INCONCLUSIVE
    assert judge({**tables, "units": empty}).verdict is Verdict.INCONCLUSIVE
    assert judge(dict.fromkeys(tables, empty)).verdict is Verdict.INCONCLUSIVE
    assert judge({}).verdict is Verdict.INCONCLUSIVE
    assert judge({**tables, "units": units[units["code"] == "larger code"]}).verdict is Verdict.INCONCLUSIVE


def test_units_of_a_model(tiny: Dataset) -> None:
    model = VAE(tiny.shape, Bernoulli(), latent=3, hidden=(4,)).requires_grad_(False)
    model.encoder[-1].weight.mul_(3.0)
    e = Evaluation(model, tiny, 5, fidelity("smoke"))
    mean, scale = (part.double() for part in model.moments(e.test))
    for j, row in enumerate(of_units("2 units", "VAE", e)):
        assert (row["unit"], row["seed"]) == (j, 5)
        assert row["variance of the mean"] == pytest.approx((mean[:, j] - mean[:, j].mean()).square().mean().item(), rel=1e-6)
        assert row["σ of q"] == pytest.approx(scale[:, j].mean().item(), rel=1e-6)
        assert row["entropy reduction (nats)"] == pytest.approx(-scale[:, j].log().mean().item(), rel=1e-6)
    carried = 0.5 * ((mean - mean.mean(0)).square() + scale.square() - 1) - scale.log()  # KL to a Gaussian around the unit's mean
    made = pd.DataFrame([unit("2 units", "VAE", 5, j, "active", sigma) for j, sigma in enumerate((0.89, 0.92))])
    assert activity(made)["active"].tolist() == ["active", "inactive"], "0.1 nat is a sigma of 0.905 where v + sigma^2 = 1"
    rows = pd.DataFrame(of_units("2 units", "VAE", e))
    told = (rows["variance of the mean"] + rows["σ of q"] ** 2 - 1) / 2 + rows["entropy reduction (nats)"]
    assert (told <= carried.mean(0).numpy() + 1e-9).all() and (told > 0).all()


def test_on_digits(tmp_path: Path) -> None:
    lab = Lab("digits", "smoke", (0, 1), Store(tmp_path), torch.device("cpu"))
    study = PosteriorShape()
    found = study.measure(lab)
    assert study.judge(found.tables).verdict is Verdict.INCONCLUSIVE
    grid = found.tables["grid"]
    assert grid["mass in the top mode, least"].between(0, 1 + 1e-6).all()
    assert (grid["grid error (nats)"] < 0.02).all()
    assert (grid["epochs"] == 2).all()
    assert (grid["KL(q ‖ posterior), mean (nats)"] > 0).all()
    assert len(study.draw(found)) == 1


def test_on_large_images_the_planar_model_outside_of_the_suite_trains_for_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("digits", "full", (0, 1, 2), Store(tmp_path), torch.device("cpu"))
    asked: dict[str, int] = {}

    def models(configuration: Configuration, seeds: tuple[int, ...]) -> dict[int, VAE]:
        asked[str(configuration.values)] = configuration.recipe.epochs
        return {}

    monkeypatch.setattr(lab, "models", models)
    PosteriorShape().measure(lab)
    usual = set(asked.values())
    asked.clear()
    monkeypatch.setattr("bench.claims.posterior_shape.LARGE", 64)
    PosteriorShape().measure(lab)
    assert len(usual) == 1 and sorted(asked.values()) == [10, *list(usual) * 3]


def test_the_panels_of_widths_have_one_scale() -> None:
    units = [unit("larger code", name, 0, j, "active", 0.2) for name, n in (("VAE", 9), ("IWAE, 8 draws", 2)) for j in range(n)]
    (picture,) = PosteriorShape().draw(Findings({**planted(), "units": pd.DataFrame(units)}))
    *panels, _ = picture.figure.axes
    assert len(panels) == 2 and len({ax.get_ylim() for ax in panels}) == 1
    assert not any(ax.get_legend() for ax in panels)
