"""The ELBO against log p(x), where log p(x) and the posterior are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import LEAST_SEEDS, holm
from vae_variants.analysis.verdicts import all_of, checked
from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.ais import adapt, anneal, anneal_back, log_normal, schedule
from vae_variants.evaluation.gap import LEAPFROG, PILOTS, densities, draw
from vae_variants.evaluation.pieces import spread
from vae_variants.evaluation.posterior_grid import evaluated, midpoint_log_p, posterior_grids
from vae_variants.evaluation.weights import log_mean_exp, variance
from vae_variants.models.base import GaussianPosterior, LatentVariable, Model
from vae_variants.models.categorical import CategoricalVAE
from vae_variants.models.linear import LinearVAE
from vae_variants.models.vae import VAE
from vae_variants.report.drawing import axes
from vae_variants.studies import STUDIES, Effect, Findings, Judgement, Lab, Picture, Study, Tables, Verdict, select, table

FAMILY, ROUNDING = 0.05, 1e-9  # family-wise error rate of all steps; nats
BLOCKS = {1: 1000, 10: 100, 100: 20, 1000: 4}  # k -> estimates of L_k for each image, each from k samples of its own
LEAST_BLOCKS = 4
AROUND, FINE = 8.0, 65  # standard deviations of q, points along each side: the grid for E_q log p(x | z)
IDENTITY, ROUTES = "|log p(x) − ELBO − KL|", "difference of two routes to log p(x)"
CONTROL, STEPS = "control: the same with KL(p ‖ q), least of any seed", "steps of the bounds that go down"

Estimate = tuple[Tensor, Tensor]  # of B images: values and their Monte-Carlo variances, (B,) each


class Terms(NamedTuple):
    """Of B images, (B,) nats in float64; an error in `log_p`, `elbo` or `kl` is in neither of the two others."""

    log_p: Tensor
    elbo: Tensor
    kl: Tensor  # KL(q(z | x) || p(z | x))
    reverse: Tensor  # KL(p(z | x) || q(z | x)): the control
    routes: Tensor  # |difference| between `log_p` and log p(x) by a second route


@torch.no_grad()
def linear_terms(model: LinearVAE, x: Tensor) -> Terms:
    """log N(x; b, W W^T + sigma^2 I) from the full covariance; the ELBO in closed form; KL between two Gaussians.

    The second route to log p(x) is the model's own, by Woodbury's identity.
    The posterior is N(P^-1 W^T (x - b) / sigma^2, P^-1) with P = I + W^T W / sigma^2.
    """
    w, v = model.decoder.weight, model.likelihood.scale.square()
    centred = x - model.decoder.bias
    precision = torch.eye(w.shape[1], dtype=x.dtype) + w.mT @ w / v
    posterior = MultivariateNormal(torch.linalg.solve(precision, (centred @ w / v).mT).mT, precision_matrix=precision)
    mean, scale = model.moments(x)
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(scale))
    log_p = MultivariateNormal(model.decoder.bias, w @ w.mT + v * torch.eye(len(w), dtype=x.dtype)).log_prob(x)
    routes = (log_p - model.log_prob(x)).abs()
    return Terms(log_p, model.bound(x), kl_divergence(q, posterior), kl_divergence(posterior, q), routes)


@torch.no_grad()
def categorical_terms(model: CategoricalVAE, x: Tensor) -> Terms:
    """Sums over all categories: log p(x) = log sum_c p(x | c) / C, posterior softmax(log p(x, .)).

    The categories of log p(x) are decoded and added one by one, the last first; the second route is the model's own.
    """
    log_q, joint = model.enumerate(x)
    log_post = joint.log_softmax(-1)
    log_p = x.new_full((len(x),), -torch.inf)
    for code in model.codes.flip(0):
        log_p = torch.logaddexp(log_p, model.likelihood.log_prob(model.decoder(code.expand(len(x), -1)), x))
    log_p = log_p - math.log(len(model.codes))
    kl = (log_q.exp() * (log_q - log_post)).sum(-1)
    reverse = (log_post.exp() * (log_post - log_q)).sum(-1)
    return Terms(log_p, model.bound(x), kl, reverse, (log_p - model.log_prob(x)).abs())


@torch.no_grad()
def plane_terms(model: VAE, x: Tensor, points: int = 200) -> Terms:
    """Two latent units, and a rule of integration for each term.

    Both KLs by the trapezoidal rule on a grid of at least points x points; log p(x) by the midpoint rule on as many other points of
    a wider box, with the grid as the second route; E_q log p(x | z) by a grid around q, and KL(q || prior) in closed form.
    """
    rows = []
    for image, mean, scale, grid in zip(x.split(1), *model.moments(x), posterior_grids(model, x, points, points), strict=True):
        around = evaluated(model, image, mean - AROUND * scale, mean + AROUND * scale, FINE)
        z = around.latents()
        weight = log_normal(z, mean, scale).flatten().softmax(0)  # of q over its grid
        log_px = (around.log_joint - model.log_prior(z)).flatten()
        rate = kl_divergence(Normal(mean, scale), Normal(torch.zeros_like(mean), 1.0)).sum()
        log_p = midpoint_log_p(model, image, grid)
        rows.append(torch.stack([log_p, (weight * log_px).sum() - rate, *grid.kl(mean, scale), (log_p - grid.log_p()).abs()]))
    return Terms(*torch.stack(rows, 1))


ROUTE = {"vae-linear": "closed form", "vae-categorical": "sum over codes", "vae-latent-2": "grid"}
TERMS: dict[str, Any] = {"closed form": linear_terms, "sum over codes": categorical_terms, "grid": plane_terms}
TOLERANCES = {"closed form": 1e-6, "sum over codes": 1e-6, "grid": 1e-3}  # nats


@torch.no_grad()
def bounds(model: Model, x: Tensor, blocks: Mapping[int, int]) -> dict[int, Estimate]:
    """k -> L_k for each of x (B, D); no sample is used twice.

    Bounds of the same samples are always in order, by Jensen's inequality. With samples of their own, their order is a finding.
    """
    assert isinstance(model, LatentVariable)
    t, found = torch.ones(()), {}
    for k, count in blocks.items():
        at_once = max(1, 1000 // k)
        parts = []
        for begin in range(0, count, at_once):
            n = min(at_once, count - begin)
            log_w = torch.cat([model.infer(part, n * k, t).log_w for part in x.split(20)], -1)
            parts.append(log_mean_exp(log_w.unflatten(0, (n, k)).movedim(1, 0)))
        values = torch.cat(parts)  # (count, B)
        found[k] = values.mean(0), values.var(0) / count
    return found


def steps(names: list[str], values: list[Estimate]) -> list[dict[str, Any]]:
    """Each bound with the next: mean difference over the images, and its Monte-Carlo standard error."""
    rows = []
    for lower, upper, (a, va), (b, vb) in zip(names, names[1:], values, values[1:], strict=False):
        error = (va + vb).sum().sqrt().item() / len(a)
        rows.append({"lower": lower, "upper": upper, "difference (nats)": (b - a).mean().item(), "standard error": error})
    return rows


def wrong_way(order: pd.DataFrame) -> np.ndarray:
    """Which steps go down, (rows,) bool.

    An estimated step is tested by p = Phi(difference / standard error), with Holm's correction over all such steps. An exact one goes
    down if its difference is below zero by more than rounding.
    """
    difference, error = order["difference (nats)"].to_numpy(float), order["standard error"].to_numpy(float)
    down, estimated = difference < -ROUNDING, error > 0
    down[estimated] = np.array(holm(ndtr(difference[estimated] / error[estimated]).tolist())) < FAMILY
    return down


Parts = dict[str, list[dict[str, Any]]]  # name of a table -> rows


def ladder(lab: Lab, e: Evaluation, kind: str, x: Tensor, elbo: Tensor, name: str, top: Estimate) -> Parts:
    """The bounds of images x (B, D) in order below `top`, and the share of the gap between the ELBO and `top` that each closes."""
    blocks = {k: lab.choose(smoke=max(2, n // 10), quick=max(LEAST_BLOCKS, n // 2), full=n) for k, n in BLOCKS.items()}
    with lab.noise(f"bounds {e.seed}"):
        levels = bounds(e.model, x, blocks)
    head, gap = {"images": f"{len(x)} {kind}"}, (top[0] - elbo).mean().item()
    shares = {f"L_{k}": (values - elbo).mean().item() / gap for k, (values, _) in levels.items() if k > 1}
    order = steps([*(f"L_{k}" for k in levels), name], [*levels.values(), top])
    return {"order": [{**head, **row} for row in order], "closed": [{**head, "gap (nats)": gap, **shares}]}


def known(lab: Lab, e: Evaluation, how: str) -> Parts:
    """A model with exact terms, on test images."""
    model, images = e.model.double(), lab.choose(smoke=6, quick=20, full=30)
    count = images if how == "grid" else lab.choose(smoke=50, quick=200, full=1000)
    options = {"points": lab.choose(smoke=120, quick=120, full=240)} if how == "grid" else {}
    x = e.test.double()[spread(len(e.test), count)]
    found = Terms(*map(torch.cat, zip(*(TERMS[how](model, part, **options) for part in x.split(100)), strict=True)))
    means = {name: term.mean().item() for name, term in zip(("log p(x)", "ELBO", "KL", "KL reversed"), found, strict=False)}
    errors = {
        "largest error": (found.log_p - found.elbo - found.kl).abs().max().item(),
        "error with KL reversed": (found.log_p - found.elbo - found.reverse).abs().max().item(),
        ROUTES: found.routes.max().item(),
    }
    some, none = spread(len(x), images), torch.zeros_like(found.elbo)
    parts = ladder(lab, e, "test", x[some], found.elbo[some], "log p(x)", (found.log_p[some], none[some]))
    (exact,) = steps(["ELBO", "log p(x)"], [(found.elbo, none), (found.log_p, none)])
    parts["order"].append({"images": f"{len(x)} test", **exact})
    return {"identity": [{"log p(x) by": how, "images": len(x), **means, **errors}], **parts}


def simulated(lab: Lab, e: Evaluation) -> Parts:
    """A model without, on images that it simulates, with bounds by annealing from below and from above; the ELBO is L_1."""
    model = e.model
    assert isinstance(model, GaussianPosterior)
    n, chains = lab.choose(smoke=4, quick=10, full=20), lab.choose(smoke=4, quick=8, full=16)
    betas = schedule(lab.choose(smoke=20, quick=100, full=300))
    with lab.noise(f"annealing {e.seed}"), torch.no_grad():
        x, z = model.simulate(n)
        first, joint = densities(model, x, "encoder")
        sizes = adapt(draw(model, x, "encoder", PILOTS), first, joint, betas, LEAPFROG)
        there = anneal(draw(model, x, "encoder", chains), first, joint, betas, sizes, LEAPFROG).log_w
        back = anneal_back(z.expand(chains, *z.shape), first, joint, betas, sizes, LEAPFROG).log_w
    with lab.noise(f"ELBO {e.seed}"):
        elbo, _ = bounds(model, x, {1: lab.choose(smoke=BLOCKS[1] // 10, quick=BLOCKS[1] // 2, full=BLOCKS[1])})[1]
    above = -log_mean_exp(back), variance(back)
    parts = ladder(lab, e, "simulated", x, elbo, "reverse annealing", above)
    (annealing,) = steps(["annealing", "reverse annealing"], [(log_mean_exp(there), variance(there)), above])
    parts["order"].append({"images": f"{n} simulated", **annealing})
    return parts


@STUDIES.add(name="elbo-gap")
class ElboGap(Study):
    """The ELBO, log p(x) and KL(q(z|x) || p(z|x)) of trained models in float64, each computed without the other two.

    Three models are small enough to be exact. The linear-Gaussian VAE has everything in closed form. The VAE with one categorical
    latent is summed over its values. The VAE with two latent units is integrated numerically for each image: both KLs on a grid of at
    least 240 x 240 points (preset `full`), refined until half of its points give the same log p(x) and KL within 0.001 nat; log p(x) by
    the midpoint rule on other points; the ELBO on a grid around q. A second computation of log p(x) must agree with the first. That
    log p(x) - ELBO - KL is 0 is a theorem: this part checks computations and estimates nothing. As a control, KL(p || q) takes the
    place of KL(q || p), since a check that passes with either is no check.

    The bounds of 1, 10, 100 and 1000 samples, each with samples of its own, are then put in order below log p(x). The VAE of the suite
    has no known log p(x): images that it simulates replace the test images, and annealed importance sampling in reverse bounds their
    log p(x) from above.

    Limits: standard errors are those of the samples alone, for these images, and those of L_1000 come from a few samples per image. A
    gap says how far the bound is from log p(x), not how good the model is.

    Changes after a first look at data. On digits: the order of the bounds is one test of all steps and no longer 3 standard errors for
    each step, log p(x) has a second computation, and the control is asked of every model. On MNIST: boxes are wider and grids are
    refined, because a mode beyond 4 standard deviations of the prior was cut off and the computations of log p(x) differed by 0.01 nat.
    """

    claim = "The ELBO is below log p(x), by exactly KL(q(z|x) || p(z|x))."
    source = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 1; every textbook since"
    criterion = (
        "Supported if |log p(x) - ELBO - KL(q || posterior)| and the difference of two computations of log p(x) stay under 1e-6 nat for "
        "every image of the two models that are summed exactly and under 1e-3 nat on the grid; if, with the KL reversed, the first is "
        "over that limit for at least one image in every seed of every model; and if no step of ELBO <= log p(x) and of L_1 <= L_10 <= "
        "L_100 <= L_1000 <= log p(x), or its upper bound, goes down by a one-sided z-test at 5 %, with Holm's correction over all steps "
        "of all models and seeds. Not supported if the identity, the two computations or a step fails. Inconclusive with fewer than 3 "
        "seeds, without one of the models, or if the reversed KL passes as well for one of them."
    )
    version = 3

    def measure(self, lab: Lab) -> Findings:
        captions = {
            "identity": "Each term, mean over images in nats, and the largest error of any image",
            "order": "Each bound with the next one, mean over the images",
            "closed": "Share of the gap between the ELBO and log p(x) that more samples close",
        }
        found: Parts = {name: [] for name in captions}
        for label in (*ROUTE, "vae-bernoulli"):
            (configuration,) = lab.configurations(label)
            for e in lab.evaluations(configuration, lab.seeds(int(lab.suite.seeds))):
                for name, rows in (known(lab, e, ROUTE[label]) if label in ROUTE else simulated(lab, e)).items():
                    found[name] += [{"model": label, "seed": e.seed, **row} for row in rows]
        return Findings({name: table(caption, found[name]) for name, caption in captions.items()})

    def judge(self, tables: Tables) -> Judgement:
        identity, order = tables.get("identity"), tables.get("order")
        if identity is None or order is None or identity.empty or order.empty:
            return Judgement(Verdict.INCONCLUSIVE, "The identity or the order of the bounds was not measured.")
        effects, control = [], []
        for label in identity["model"].unique():
            rows = select(identity, model=label)
            limit, n = TOLERANCES[rows["log p(x) by"].iloc[0]], int(rows["images"].sum())
            worst = max(rows["largest error"].max(), (rows["log p(x)"] - rows["ELBO"] - rows["KL"]).abs().max())
            for what, value in ((IDENTITY, worst), (ROUTES, rows[ROUTES].max())):
                effect = checked({"model": label, "what": what}, float(value), below=limit, n=n, of="images", unit="nats")
                effects.append(enough(effect, rows))
            least = float(rows["error with KL reversed"].min())
            verdict = Verdict.SUPPORTED if least > limit else Verdict.INCONCLUSIVE
            where = {"model": label, "what": CONTROL}
            control.append(enough(Effect(where, least, None, None, None, n, "images", "nats", f"above {limit:g}", verdict), rows))
        order = order.assign(down=wrong_way(order))
        for label in order["model"].unique():
            rows = select(order, model=label)
            effect = checked({"model": label, "what": STEPS}, int(rows["down"].sum()), below=1, n=len(rows), of="steps")
            effects.append(enough(effect._replace(criterion=f"none by Holm's p < {FAMILY:g} over all {len(order)} steps"), rows))
        verdict = all_of(effects)
        complete = set(identity["log p(x) by"]) == set(TOLERANCES) and set(identity["model"]) < set(order["model"])
        if verdict is Verdict.SUPPORTED and not (complete and all(effect.verdict is Verdict.SUPPORTED for effect in control)):
            verdict = Verdict.INCONCLUSIVE
        errors = [effect.value for effect in effects if effect.where["what"] == IDENTITY]
        reason = (
            f"|log p(x) − ELBO − KL| is at most {max(errors):.1e} nat for any image of {len(errors)} models. With the KL reversed it is "
            f"at least {min(effect.value for effect in control):.2g} nat in every seed. "
            f"{order['down'].sum()} of {len(order)} steps to more samples or to log p(x) go down."
        )
        return Judgement(verdict, reason, (*effects, *control))

    def draw(self, found: Findings) -> list[Picture]:
        identity = found.tables["identity"]
        labels = identity["model"].unique()
        figure, panels = axes(1, len(labels), 8.6, 3.4)
        for ax, label in zip(panels, labels, strict=True):
            rows = select(identity, model=label)
            place, elbo, kl, top = np.arange(len(rows)), rows["ELBO"], rows["KL"], rows["log p(x)"]
            floor = elbo.min() - kl.max()
            ax.bar(place, elbo - floor, bottom=floor, color=COLOURS[5], label="ELBO")
            bars = ax.bar(place, kl, bottom=elbo, color=COLOURS[4], label="+ KL(q ‖ posterior)")
            ax.bar_label(bars, [f"KL\n{value:.2g}" for value in kl], padding=2, fontsize=8)
            ax.hlines(top, place - 0.45, place + 0.45, color=COLOURS[6], linewidth=2, label="log p(x)")
            ax.set_xticks(place, rows["seed"].astype(str))
            ax.set_ylim(floor, floor + 1.22 * (top.max() - floor))  # room for the labels
            ax.set_title(f"{label}\n(log p(x) by {rows['log p(x) by'].iloc[0]})", fontsize=9)
            ax.set_xlabel("seed")
        panels[0].set_ylabel("nats per image")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        caption = (
            "The KL between q and the exact posterior, stacked on the ELBO, ends at log p(x), which was computed without either. "
            "Each model has its own axis, which is cut off below: nats of different pixel types do not compare."
        )
        return [Picture("stacked", caption, figure)]


def enough(effect: Effect, rows: pd.DataFrame) -> Effect:
    """Without a verdict if there are too few seeds."""
    return effect if rows["seed"].nunique() >= LEAST_SEEDS else effect._replace(verdict=Verdict.INCONCLUSIVE)
