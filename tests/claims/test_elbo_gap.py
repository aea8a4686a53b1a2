"""The gap between the ELBO and log p(x): known answers for its three routes, and the verdict on planted tables."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bench.claims.elbo_gap import (
    BLOCKS,
    IDENTITY,
    ROUTES,
    ElboGap,
    Terms,
    bounds,
    categorical_terms,
    linear_terms,
    plane_terms,
    steps,
    wrong_way,
)
from vae_variants.evaluation.posterior_grid import PosteriorGrid, midpoint_log_p
from vae_variants.harness import Store
from vae_variants.models.categorical import CategoricalVAE
from vae_variants.models.likelihoods import Bernoulli, Gaussian
from vae_variants.models.linear import LinearVAE
from vae_variants.models.vae import VAE
from vae_variants.studies import Findings, Lab, Verdict


def linear() -> tuple[LinearVAE, Tensor]:
    """The fixture of probabilistic PCA with W of five pixels and two units, sigma^2 = 0.25."""
    model = LinearVAE((1, 1, 5), latent=2).double().requires_grad_(False)
    w = torch.tensor([[1, 0.5], [0, 1], [-1, 0.5], [0.5, -0.5], [0, 2]], dtype=torch.float64)
    model.decoder.weight.copy_(w)
    model.decoder.bias.copy_(torch.tensor([0.1, -0.2, 0.3, 0, 0.5], dtype=torch.float64))
    model.likelihood.weight.fill_(math.log(0.5))
    return model, torch.tensor([[1, -1, 0.5, 2, 0]], dtype=torch.float64)


def test_linear_terms_at_the_best_diagonal_q() -> None:
    model, x = linear()
    precision = torch.eye(2, dtype=torch.float64) + 4 * model.decoder.weight.mT @ model.decoder.weight
    model.encoder.weight.copy_(4 * torch.linalg.solve(precision, model.decoder.weight.mT))
    model.encoder.bias.copy_(-model.encoder.weight @ model.decoder.bias)
    model.log_scale.copy_(-0.5 * precision.diagonal().log())
    found = linear_terms(model, x)
    assert found.log_p.item() == pytest.approx(-11.587021175172655, abs=1e-12)
    assert found.kl.item() == pytest.approx(0.0020876857052405384, abs=1e-12)  # (sum log P_jj - log |P|) / 2
    assert (found.log_p - found.elbo - found.kl).abs().item() < 1e-12


def test_the_identity_holds_for_any_q_and_not_with_the_reversed_kl() -> None:
    model, x = linear()
    found = linear_terms(model, torch.cat([x, 2 * x]))
    assert (found.log_p - found.elbo - found.kl).abs().max().item() < 1e-11
    assert (found.log_p - found.elbo - found.reverse).abs().min().item() > 0.1
    categorical = CategoricalVAE((1, 2, 3), Bernoulli(), categories=4, hidden=(5,)).double()
    y = (torch.rand(7, 6) < 0.5).double()
    found = categorical_terms(categorical, y)
    log_q = categorical.encoder(y).log_softmax(-1)
    each = torch.stack([categorical.likelihood.log_prob(categorical.decoder(c.expand(7, 4)), y) for c in categorical.codes], -1)
    assert torch.allclose(found.log_p, each.exp().mean(-1).log(), atol=1e-12)
    assert torch.allclose(found.kl, (log_q.exp() * (log_q - each.log_softmax(-1))).sum(-1), atol=1e-12)
    assert (found.log_p - found.elbo - found.kl).abs().max().item() < 1e-12
    assert (found.log_p - found.elbo - found.reverse).abs().max().item() > 1e-5


class Fixed(nn.Module):
    """The same mean and log scale of q for every image."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.values.expand(len(x), -1)


def planar(mean: tuple[float, float], log_scale: tuple[float, float]) -> tuple[VAE, Tensor]:
    """The linear fixture as an ordinary VAE, with some q."""
    exact, x = linear()
    model = VAE((1, 1, 5), Gaussian(0.5), latent=2, hidden=(3,)).double()
    model.decoder, model.encoder = exact.decoder, Fixed(*mean, *log_scale)
    return model, x


def test_the_grid_agrees_with_the_closed_form() -> None:
    model, x = planar((0.3, -0.6), (-0.7, -1.1))
    exact, _ = linear()
    exact.encoder.weight.zero_()
    exact.encoder.bias.copy_(torch.tensor([0.3, -0.6], dtype=torch.float64))
    exact.log_scale.copy_(torch.tensor([-0.7, -1.1], dtype=torch.float64))
    wanted, found = linear_terms(exact, x), plane_terms(model, x, 150)
    for name in ("log_p", "elbo", "kl", "reverse"):
        assert getattr(found, name).item() == pytest.approx(getattr(wanted, name).item(), abs=1e-8), name
    assert found.routes.item() < 1e-8


def broken(found: Terms) -> float:
    return (found.log_p - found.elbo - found.kl).abs().max().item()


def test_an_error_in_log_p_does_not_cancel_on_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rule that gives log p(x), and of the one that normalises the posterior: each shows, in the identity and in the routes."""
    model, x = planar((0.3, -0.6), (-0.7, -1.1))
    assert broken(plane_terms(model, x, 150)) < 1e-8
    right = PosteriorGrid.log_p
    with monkeypatch.context() as patch:
        patch.setattr(PosteriorGrid, "log_p", lambda self: right(self) + 0.7)
        found = plane_terms(model, x, 150)
        assert broken(found) == pytest.approx(0.7) and found.routes.item() == pytest.approx(0.7)
    with monkeypatch.context() as patch:
        patch.setattr("bench.claims.elbo_gap.midpoint_log_p", lambda *a: midpoint_log_p(*a) + 0.7)
        found = plane_terms(model, x, 150)
        assert broken(found) == pytest.approx(0.7) and found.routes.item() == pytest.approx(0.7)


def test_an_error_in_log_p_does_not_cancel_in_the_sum_over_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = CategoricalVAE((1, 2, 3), Bernoulli(), categories=4, hidden=(5,)).double()
    y = (torch.rand(7, 6) < 0.5).double()
    assert broken(categorical_terms(model, y)) < 1e-12
    right = CategoricalVAE.enumerate

    def raised(self: CategoricalVAE, x: Tensor) -> tuple[Tensor, Tensor]:
        log_q, joint = right(self, x)
        return log_q, joint + 0.7

    with monkeypatch.context() as patch:
        patch.setattr(CategoricalVAE, "enumerate", raised)
        found = categorical_terms(model, y)
        assert broken(found) == pytest.approx(0.7) and found.routes.max().item() == pytest.approx(0.7)
    with monkeypatch.context() as patch:
        patch.setattr(CategoricalVAE, "log_prob", lambda self, x: right(self, x)[1].logsumexp(-1) + 0.7)
        assert categorical_terms(model, y).routes.min().item() == pytest.approx(0.7)


def test_an_error_in_log_p_of_the_linear_model_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = linear()
    assert linear_terms(model, x).routes.item() < 1e-11
    right = LinearVAE.log_prob
    monkeypatch.setattr(LinearVAE, "log_prob", lambda self, x: right(self, x) + 0.7)
    assert linear_terms(model, x).routes.item() == pytest.approx(0.7)


def test_models_come_to_the_cpu_from_wherever_they_were_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("digits", "smoke", None, Store(tmp_path), torch.device("cuda"))
    model, moved = linear()[0], []
    monkeypatch.setattr(lab, "models", lambda configuration, seeds: dict.fromkeys(seeds, model))
    monkeypatch.setattr(LinearVAE, "cpu", lambda self: moved.append(self) or self)
    (configuration,) = lab.configurations("vae-linear")
    found = list(lab.evaluations(configuration, (3, 4)))
    assert moved == [model, model]
    assert [e.seed for e in found] == [3, 4]
    assert all(e.device.type == "cpu" and e.test.device.type == "cpu" for e in found)


def test_bounds_have_draws_of_their_own_and_go_up() -> None:
    model, x = planar((0.3, -0.6), (-0.7, -1.1))
    found = bounds(model, x.expand(40, -1), BLOCKS)
    means = [values.mean().item() for values, _ in found.values()]
    assert means == sorted(means)
    for k, (values, variance) in found.items():
        assert values.var().item() == pytest.approx(variance.mean().item(), rel=0.8), k  # between images that are the same
    wanted = plane_terms(model, x)
    error = math.sqrt(found[1][1].sum().item()) / 40
    assert abs(means[0] - wanted.elbo.item()) < 4 * error
    assert means[-1] == pytest.approx(wanted.log_p.item(), abs=0.05)


def test_a_step_has_the_error_of_the_mean_over_images() -> None:
    one, four = torch.ones(2), torch.full((2,), 4.0)
    (row,) = steps(["a", "b"], [(torch.tensor([1.0, 2.0]), one), (torch.tensor([2.0, 5.0]), four)])
    assert row["difference (nats)"] == pytest.approx(2.0)
    assert row["standard error"] == pytest.approx(math.sqrt(10) / 2)


MODELS = {"vae-linear": "closed form", "vae-categorical": "sum over codes", "vae-latent-2": "grid"}


def down(*steps: tuple[float, float]) -> list[bool]:
    """Of (difference, standard error)."""
    return wrong_way(pd.DataFrame(steps, columns=["difference (nats)", "standard error"])).tolist()


def test_a_step_in_a_hundred_is_not_taken_for_a_violation() -> None:
    up, exact = (0.5, 1.0), (-1e-6, 0.0)
    assert down((-3.1, 1.0), *[up] * 99) == [False] * 100  # of 100, one at -3.1 is no surprise: 100 Phi(-3.1) = 0.097
    assert down((-4.0, 1.0), *[up] * 99) == [True, *[False] * 99]
    assert down((-3.1, 1.0)) == [True]
    assert down(*[exact] * 50, (-1.9, 1.0)) == [True] * 51  # steps without chance do not enter the correction: Phi(-1.9) = 0.029
    assert down((-1e-10, 0.0), (0.0, 0.0)) == [False, False]
    assert down() == []


def test_false_alarms_of_steps_that_are_level() -> None:
    """Of 200 studies with 100 steps of no difference, 5 % may have a violation; 13 % have a step below -3 standard errors."""
    z = torch.randn(200, 100, generator=torch.Generator().manual_seed(0)).tolist()
    alarms = sum(any(down(*((d, 1.0) for d in row))) for row in z)
    assert alarms <= 20


def planted(
    seeds: int = 3,
    sign: float = 1.0,
    reverse: bool = False,
    difference: float = 0.5,
    error: float = 0.1,
    same: tuple[str, ...] = (),
    routes: float = 1e-10,
) -> dict[str, pd.DataFrame]:
    """Tables as if measured: a KL of 2 nats, which the wrong identity replaces by its negative or by the other KL."""
    identity, order, closed = [], [], []
    for model, how in (*MODELS.items(), ("vae-bernoulli", "")):
        for seed in range(seeds):
            step = {"lower": "L_1", "upper": "L_10", "difference (nats)": difference, "standard error": error}
            order.append({"model": model, "images": "10 test", "seed": seed, **step})
            closed.append({"model": model, "images": "10 test", "seed": seed, "gap (nats)": 2.0, "L_10": 0.7, "L_1000": 0.99})
            if not how:
                continue
            kl, other = 2.0, 2.0 if model in same else 3.0
            used = sign * (other if reverse else kl)
            identity.append(
                {
                    "model": model,
                    "log p(x) by": how,
                    "seed": seed,
                    "images": 10,
                    "log p(x)": -98.0,
                    "ELBO": -100.0,
                    "KL": used,
                    "KL reversed": other,
                    "largest error": 1e-12,
                    "error with KL reversed": abs(other - kl),
                    ROUTES: routes,
                }
            )
    return {"identity": pd.DataFrame(identity), "order": pd.DataFrame(order), "closed": pd.DataFrame(closed)}


def test_verdicts() -> None:
    judge = ElboGap().judge
    assert judge(planted()).verdict is Verdict.SUPPORTED
    assert judge(planted(sign=-1.0)).verdict is Verdict.REFUTED
    assert judge(planted(reverse=True)).verdict is Verdict.REFUTED
    assert judge(planted(difference=-0.5)).verdict is Verdict.REFUTED
    assert judge(planted(difference=-0.2)).verdict is Verdict.SUPPORTED  # 2 standard errors, of which there are twelve
    assert judge(planted(difference=-1e-6, error=0.0)).verdict is Verdict.REFUTED
    assert judge(planted(routes=0.7)).verdict is Verdict.REFUTED  # the integration is off
    assert judge(planted(same=tuple(MODELS))).verdict is Verdict.INCONCLUSIVE  # the control passes: the check has no power
    for model in MODELS:
        assert judge(planted(same=(model,))).verdict is Verdict.INCONCLUSIVE, model
    assert judge(planted(seeds=2)).verdict is Verdict.INCONCLUSIVE
    assert judge(planted(seeds=2, sign=-1.0)).verdict is Verdict.INCONCLUSIVE
    assert "0 of 12 steps" in judge(planted()).reason


def test_parts_that_are_missing_are_not_supported() -> None:
    judge, tables = ElboGap().judge, planted()
    empty = pd.DataFrame()
    assert judge({}).verdict is Verdict.INCONCLUSIVE
    assert judge(dict.fromkeys(tables, empty)).verdict is Verdict.INCONCLUSIVE
    for name in ("identity", "order"):
        assert judge({**tables, name: empty}).verdict is Verdict.INCONCLUSIVE, name
    assert judge({**tables, "closed": empty}).verdict is Verdict.SUPPORTED  # for reading only
    for name, model in (("identity", "vae-categorical"), ("order", "vae-bernoulli"), ("order", "vae-linear")):
        fewer = tables[name][tables[name]["model"] != model]
        assert judge({**tables, name: fewer}).verdict is Verdict.INCONCLUSIVE, (name, model)


def test_the_largest_error_of_an_image_counts() -> None:
    tables = planted()
    effects = ElboGap().judge({**tables, "identity": tables["identity"].assign(**{"largest error": 1e-5})}).effects
    verdicts = {e.where["model"]: e.verdict for e in effects if e.where["what"] == IDENTITY}
    refuted = Verdict.REFUTED
    assert verdicts == {"vae-linear": refuted, "vae-categorical": refuted, "vae-latent-2": Verdict.SUPPORTED}  # the grid's limit is larger


def test_on_digits(tmp_path: Path) -> None:
    lab = Lab("digits", "smoke", (0, 1, 2), Store(tmp_path), torch.device("cpu"))
    study = ElboGap()
    found = study.measure(lab)
    judgement = study.judge(found.tables)
    assert judgement.verdict is Verdict.SUPPORTED, judgement.reason
    assert set(found.tables["order"]["model"]) == {"vae-linear", "vae-categorical", "vae-latent-2", "vae-bernoulli"}
    assert (found.tables["closed"]["gap (nats)"] > 0).all() and len(found.tables["closed"]) == 12
    identity = found.tables["identity"]
    assert study.judge({**found.tables, "identity": identity.assign(KL=identity["KL reversed"])}).verdict is Verdict.REFUTED
    (picture,) = study.draw(Findings(found.tables))
    assert len(picture.figure.axes) == 3
