"""Models that are told labels: their bounds, and what reaches them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vae_variants.checks.fixtures import digits, tiny
from vae_variants.evaluation import METRICS, Evaluation, fidelity
from vae_variants.models.labelled import LabelledVAE
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.priors import kl_units
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError
from vae_variants.training.batches import batches, told
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

T = torch.ones((), dtype=torch.float64)
SHAPE = (1, 2, 3)


class Beside(nn.Module):
    """Appends a one to each row."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([h, torch.ones_like(h[..., :1])], -1)


def model(classes: int, latent: int = 1, **options) -> LabelledVAE:
    torch.manual_seed(0)
    return LabelledVAE(SHAPE, Bernoulli(), classes, latent=latent, hidden=[5], **options).double()


def images(n: int) -> Tensor:
    return torch.randint(0, 2, (n, 6), generator=torch.Generator().manual_seed(1)).double()


def one_hot(*classes: int, of: int = 3) -> Tensor:
    return torch.eye(of, dtype=torch.float64)[list(classes)]


def test_with_one_class_the_conditional_vae_is_the_vae() -> None:
    ours, x = model(1, latent=3), images(7)
    vae = VAE(SHAPE, Bernoulli(), latent=3, hidden=[5]).double()
    vae.encoder = nn.Sequential(ours.encoder, ours.activation, Beside(), ours.head)  # type: ignore[assignment]
    first, *rest = copy.deepcopy(ours.decoder)  # type: ignore[arg-type]
    with torch.no_grad():  # the class comes first, and is always 1
        first.bias += first.weight[:, 0]
        first.weight = nn.Parameter(first.weight[:, 1:])
    vae.decoder = nn.Sequential(first, *rest)
    losses = []
    for each, given in ((vae, x), (ours, torch.cat([x, torch.ones(7, 1, dtype=x.dtype)], -1)), (ours, x)):
        torch.manual_seed(3)
        losses.append(each.loss(given, T))
    assert torch.allclose(losses[0], losses[1]) and torch.allclose(losses[0], losses[2])


def exact(m: LabelledVAE, x: Tensor) -> Tensor:
    """log p(x) (B,) with one latent unit, by quadrature over v and a sum over the classes."""
    v = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    found = []
    for c, log_y in enumerate(m.prior.log_y):
        y = one_hot(c, of=m.classes).expand(len(v), 1, -1)
        z = torch.cat([y, v[:, None, None]], -1)
        log_p = m.log_px(x, z.expand(-1, len(x), -1)) + (-0.5 * v.square() - 0.5 * math.log(2 * math.pi))[:, None] + log_y
        found.append(log_p.logsumexp(0) + (v[1] - v[0]).log())
    return torch.stack(found).logsumexp(0)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_weights_of_samples_have_the_mean_that_the_sum_over_classes_gives(share: float) -> None:
    m, x = model(3, share=share), images(4)
    m.prior.log_y.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    with torch.no_grad():
        log_w, truth = m.infer(x, 20_000, T).log_w, exact(m, x)
        weights = (log_w - truth).exp()
        assert ((weights.mean(0) - 1).abs() < 5 * weights.std(0) / math.sqrt(20_000) + 1e-9).all()
        assert (log_w.mean(0) < truth).all()
        d = m.infer(x, 20_000, T)
        spread = (d.log_qz - d.log_pz).std(0) / math.sqrt(20_000)
        assert ((d.kl - (d.log_qz - d.log_pz).mean(0)).abs() < 5 * spread).all()


@torch.no_grad()
def test_m2_minimises_the_sum_of_the_two_bounds_and_the_cross_entropy() -> None:
    m, x, y = model(3, share=0.5, weight=0.7), images(4), one_hot(0, 2, 1, 1)
    y[2:] = 0  # no label
    torch.manual_seed(5)
    found = m.loss(torch.cat([x, y], -1), T)
    torch.manual_seed(5)
    eps = torch.randn(1, 3, 4, 1, dtype=torch.float64)[0]
    log_q, total = m.classifier(x).log_softmax(-1), 0.0  # type: ignore[misc]
    for i in range(4):
        bounds = []
        for c in range(3):
            q = m.code(x[i : i + 1], one_hot(c))
            z = torch.cat([one_hot(c), q.mean + q.scale * eps[c, i]], -1)
            bounds.append((m.prior.log_y[c] + m.log_px(x[i : i + 1], z) - kl_units(m.prior.code, q).sum(-1)).squeeze())
        if y[i].any():
            c = int(y[i].argmax())
            total += -bounds[c] - 0.7 / 0.5 * log_q[i, c]
        else:
            total += -sum(log_q[i, c].exp() * (bounds[c] - log_q[i, c]) for c in range(3))
    assert torch.allclose(found, torch.as_tensor(total / 4))


def test_a_share_of_each_class_is_told() -> None:
    labels = torch.tensor([0] * 10 + [1] * 25 + [2])
    found = told(labels, 3, 0.2, "key")
    assert found.sum(0).tolist() == [2, 5, 1]
    kept = found.sum(1) > 0
    assert torch.equal(found.argmax(1)[kept], labels[kept])
    assert torch.equal(found, told(labels, 3, 0.2, "key"))
    assert not torch.equal(found, told(labels, 3, 0.2, "another"))
    assert torch.equal(told(labels, 3, 1.0, "key"), nn.functional.one_hot(labels, 3).float())


def test_each_image_of_a_batch_has_its_own_label() -> None:
    grey = torch.rand(50, 6)
    labels = nn.functional.one_hot(torch.arange(50), 50).float()
    for dynamic in (False, True):
        bare = list(batches(grey, dynamic, (3, 5), 10, "key", 1, 2))
        both = list(batches(grey, dynamic, (3, 5), 10, "key", 1, 2, labels))
        for x, xy in zip(bare, both, strict=True):
            assert torch.equal(x, xy[..., :6])
            if not dynamic:
                assert torch.equal(grey[xy[..., 6:].argmax(-1)], x)


def test_labels_reach_the_losses_alone() -> None:
    data = digits()
    (configuration,) = configure("m2", {"hidden": [7], "latent": 3, "batch": 10, "epochs": 1})
    changed = replace(data, labels={name: (y + 1) % 10 for name, y in data.labels.items()})  # type: ignore[union-attr]
    found = []
    for each in (data, changed):
        population = Population(partial(build, configuration, each), (0, 1))
        training = Training(population, each.as_(Support.BINARY), configuration.recipe, "key")
        found.append(next(training.batches()))
        assert training.validation.shape[1] == 64 and math.isfinite(training.run_epoch()["train_loss"][0])
    assert found[0].shape == (2, 10, 64 + 10)
    assert torch.equal(found[0][..., :64], found[1][..., :64]) and not torch.equal(*found)


def test_a_data_set_without_labels_gets_one_line() -> None:
    bare = replace(tiny(), labels=None, classes=None)
    for name in ("conditional-vae", "m2"):
        (configuration,) = configure(name)
        with pytest.raises(UserError, match=r"^this model learns from labels, and the data set has none; [^\n]*$"):
            build(configuration, bare)


def test_the_accuracy_of_labels_is_that_of_the_models_classifier() -> None:
    data = digits()
    assert data.labels is not None
    m = LabelledVAE((1, 8, 8), Bernoulli(), 10, share=0.5, latent=2, hidden=[4])
    *_, last = m.classifier  # type: ignore[misc]
    nn.init.zeros_(last.weight)
    e = Evaluation(m.eval().requires_grad_(False), data, 0, fidelity("smoke"))
    for c in (2, 7):
        last.bias.copy_(nn.functional.one_hot(torch.tensor(c), 10).float())
        assert METRICS["label_accuracy"].fn(e) == pytest.approx((data.labels["test"] == c).float().mean().item())


def test_the_accuracy_of_components_is_that_of_the_best_map() -> None:
    data = digits(60, 100)
    assert data.labels is not None
    y = data.labels["test"]
    (configuration,) = configure("vae[prior=mixture,latent=2,hidden=4,components=3]")
    m = build(configuration, data).eval().requires_grad_(False)
    e = Evaluation(m, data, 0, fidelity("smoke"))
    e.encoded = lambda x: torch.stack([torch.where(y < 4, -5.0, torch.where(y < 7, 0.0, 5.0)), torch.zeros(len(y))], 1)  # type: ignore
    m.prior.means.copy_(torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 0.0]]))
    counts = y.bincount(minlength=10)
    best = counts[:4].max() + counts[4:7].max() + counts[7:].max()
    assert METRICS["component_accuracy"].fn(e) == pytest.approx(best.item() / len(y))
    assert e.data.support is Support.BINARY
