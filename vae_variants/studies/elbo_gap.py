"""The ELBO against log p(x), where log p(x) and the posterior are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.ais import adapt, anneal, anneal_back, schedule
from vae_variants.evaluation.evaluation import spread
from vae_variants.evaluation.gap import LEAPFROG, PILOTS, densities, draw
from vae_variants.evaluation.weights import log_mean_exp, variance
from vae_variants.harness.statistics import interval
from vae_variants.model import GaussianPosterior, LatentVariable, Model
from vae_variants.models.categorical import CategoricalVAE
from vae_variants.models.linear import LinearVAE
from vae_variants.models.vae import VAE
from vae_variants.report.drawing import axes
from vae_variants.report.entries import COLOURS
from vae_variants.studies.judging import LEAST_SEEDS, all_of, checked
from vae_variants.studies.lab import Lab
from vae_variants.studies.plane import located, plane
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict

__all__ = ["ElboGap", "Terms", "categorical_terms", "linear_terms", "plane_terms"]

EXACT, GRID = 1e-6, 1e-3  # nats
ERRORS, ROUNDING = 3.0, 1e-9  # standard errors, nats
BLOCKS = {1: 1000, 10: 100, 100: 20, 1000: 4}  # k -> estimates of L_k for each image, each from k draws of its own
AROUND, FINE = 8.0, 65  # standard deviations of q, points along each side: the grid for E_q log p(x | z)


class Terms(NamedTuple):
    """Of B images, (B,) nats in float64, each by a computation that knows nothing of the others."""

    log_p: Tensor
    elbo: Tensor
    kl: Tensor  # KL(q(z | x) || p(z | x))
    reverse: Tensor  # KL(p(z | x) || q(z | x)): the wrong one
    error: Tensor  # of the numerical integration, as far as it shows


@torch.no_grad()
def linear_terms(model: LinearVAE, x: Tensor) -> Terms:
    """log N(x; b, W W^T + sigma^2 I) from the full covariance; the ELBO in closed form; KL between two Gaussians.

    The posterior is N(P^-1 W^T (x - b) / sigma^2, P^-1) with P = I + W^T W / sigma^2.
    """
    w, v = model.decoder.weight, model.likelihood.scale.square()
    centred = x - model.decoder.bias
    identity = torch.eye(len(w), dtype=x.dtype)
    precision = torch.eye(w.shape[1], dtype=x.dtype) + w.mT @ w / v
    posterior = MultivariateNormal(torch.linalg.solve(precision, (centred @ w / v).mT).mT, precision_matrix=precision)
    mean, scale = model.posterior(x)
    q = MultivariateNormal(mean, scale_tril=torch.diag_embed(scale))
    log_p = MultivariateNormal(model.decoder.bias, w @ w.mT + v * identity).log_prob(x)
    return Terms(log_p, model.bound(x), kl_divergence(q, posterior), kl_divergence(posterior, q), torch.zeros(len(x)))


@torch.no_grad()
def categorical_terms(model: CategoricalVAE, x: Tensor) -> Terms:
    """Sums over all categories: log p(x) = log sum_c p(x, c), posterior softmax(log p(x, .))."""
    log_q, joint = model.enumerate(x)
    log_post = joint.log_softmax(-1)
    kl = (log_q.exp() * (log_q - log_post)).sum(-1)
    reverse = (log_post.exp() * (log_post - log_q)).sum(-1)
    return Terms(joint.logsumexp(-1), model.bound(x), kl, reverse, torch.zeros(len(x)))


@torch.no_grad()
def plane_terms(model: VAE, x: Tensor, points: int = 200) -> Terms:
    """Two latent units: log p(x) and both KLs by one grid; E_q log p(x | z) by another around q, and KL(q || prior) in closed form."""
    mean, scale = model.posterior(x)
    grid = plane(model, x, *located(model, x, points), points)
    around = plane(model, x, mean - AROUND * scale, mean + AROUND * scale, FINE)
    codes = around.codes()
    log_px = around.log_joint - model.log_prior(codes)
    eps = (codes - mean[:, None, None]) / scale[:, None, None]
    weight = (-0.5 * eps.square().sum(-1)).flatten(1).softmax(1)  # of q over its grid
    rate = (0.5 * (mean.square() + scale.square() - 1) - scale.log()).sum(-1)
    kl, reverse = grid.kl(mean, scale)
    return Terms(grid.log_p(), (weight * log_px.flatten(1)).sum(1) - rate, kl, reverse, (grid.log_p() - grid.halved().log_p()).abs())


TERMS: Mapping[type[Model], tuple[str, Callable[[Any, Tensor], Terms]]] = {
    LinearVAE: ("closed form", linear_terms),
    CategoricalVAE: ("sum over codes", categorical_terms),
    VAE: ("grid", plane_terms),
}
TOLERANCES = {"closed form": EXACT, "sum over codes": EXACT, "grid": GRID}


@torch.no_grad()
def bounds(model: Model, x: Tensor, blocks: Mapping[int, int]) -> dict[int, tuple[Tensor, Tensor]]:
    """k -> L_k and its Monte-Carlo variance for each of x (B, D), (B,) each; no draw is used twice.

    Bounds of the same draws would be in order whatever the weights are (Jensen's inequality holds within any sample); these are
    not, so that their order is a finding.
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


def steps(names: list[str], values: list[tuple[Tensor, Tensor]]) -> list[dict[str, Cell]]:
    """Each bound with the next: mean difference over the images, and its standard error from the draws."""
    rows: list[dict[str, Cell]] = []
    pairs = zip(names, names[1:], values, values[1:], strict=False)
    for lower, upper, (a, va), (b, vb) in pairs:
        error = (va + vb).sum().sqrt().item() / len(a)
        rows.append({"lower": lower, "upper": upper, "difference (nats)": (b - a).mean().item(), "standard error": error})
    return rows


@STUDIES.add(name="elbo-gap")
class ElboGap(Study):
    """The ELBO, log p(x) and KL(q(z|x) || p(z|x)), each computed without the others, of trained models in float64.

    Three trained models are small enough that nothing has to be estimated. The linear-Gaussian VAE has Gaussian posteriors, and
    everything in closed form. The VAE with one categorical code is summed over its codes. The VAE with two latent units is integrated on a
    grid for each image, of 200 x 200 points; leaving out every second point shows how exact that is. For each test image
    log p(x) - ELBO - KL should be 0.

    As a control the same is computed with the KL the other way round, KL(p(z|x) || q(z|x)), which is another number: a check
    that both would pass would be no check.

    Then the bounds of 1, 10, 100 and 1000 draws, each from draws of its own, are put in order under log p(x). For the VAE of the
    suite, whose log p(x) nobody knows, images simulated by the model itself take the place of test images: there annealed importance
    sampling in reverse bounds log p(x) from above. What could mislead: standard errors are those of the draws alone, for these
    images; and a gap says how far the bound is from log p(x), not how good the model is.
    """

    claim = "The ELBO is below log p(x), by exactly KL(q(z|x) || p(z|x))."
    source = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 1; every textbook since"
    criterion = (
        "Supported if |log p(x) - ELBO - KL(q || posterior)| stays under 1e-6 nat for every image of the two models that are summed up "
        "exactly and under 1e-3 nat on the grid, if it does not with the KL reversed, and if no step of L_1 <= L_10 <= L_100 <= L_1000 <= "
        "log p(x), or its upper bound, is violated by more than 3 standard errors. Not supported if any of these fails. "
        "Inconclusive with fewer than 3 seeds, or if the reversed KL passes as well."
    )

    def measure(self, lab: Lab) -> Findings:
        seeds = lab.seeds(int(lab.suite.seeds))
        blocks = {k: lab.choose(smoke=max(2, n // 10), quick=max(2, n // 2), full=n) for k, n in BLOCKS.items()}
        images = lab.choose(smoke=6, quick=20, full=50)
        identity: list[dict[str, Cell]] = []
        order: list[dict[str, Cell]] = []
        closed: list[dict[str, Cell]] = []

        def levels(label: str, kind: str, seed: int, model: Model, x: Tensor, end: tuple[str, Tensor, Tensor], elbo: Tensor) -> None:
            with lab.noise(f"bounds {seed}"):
                found = bounds(model, x, blocks)
            name, top, spread_of = end
            head: dict[str, Cell] = {"model": label, "images": f"{len(x)} {kind}", "seed": seed}
            order.extend({**head, **row} for row in steps([*(f"L_{k}" for k in found), name], [*found.values(), (top, spread_of)]))
            gap = (top - elbo).mean().item()
            row = {f"L_{k}": (found[k][0] - elbo).mean().item() / gap for k in found if k > 1}
            closed.append({**head, "gap (nats)": gap, **row})

        for label in ("vae-linear", "vae-categorical", "vae-latent-2"):
            (configuration,) = lab.configurations(label)
            for seed, model in lab.models(configuration, seeds).items():
                e = lab.evaluation(model.double(), seed)
                how, terms = TERMS[type(model)]
                x = e.test.double()
                x = x[spread(len(x), images if how == "grid" else lab.choose(smoke=50, quick=200, full=1000))]
                parts = [terms(model, part) for part in x.split(100)]
                found = Terms(*(torch.cat(each) for each in zip(*parts, strict=True)))
                identity.append({"model": label, "log p(x) by": how, "seed": seed, "images": len(x), **row_of(found)})
                some = spread(len(x), images)
                nothing = torch.zeros(len(some), dtype=torch.float64)
                levels(label, "test", seed, model, x[some], ("log p(x)", found.log_p[some], nothing), found.elbo[some])
                exact = steps(["ELBO", "log p(x)"], [(found.elbo, 0 * found.elbo), (found.log_p, 0 * found.elbo)])
                order.extend({"model": label, "images": f"{len(x)} test", "seed": seed, **row} for row in exact)
        (configuration,) = lab.configurations("vae-bernoulli")
        for seed, model in lab.models(configuration, seeds).items():
            x, below, above = self.annealed(lab, lab.evaluation(model, seed))
            head: dict[str, Cell] = {"model": "vae-bernoulli", "images": f"{len(x)} simulated", "seed": seed}
            order.extend({**head, **row} for row in steps(["annealing", "reverse annealing"], [below, above]))
            with lab.noise(f"ELBO {seed}"):
                elbo = bounds(model, x, {1: blocks[1]})[1][0]
            levels("vae-bernoulli", "simulated", seed, model, x, ("reverse annealing", *above), elbo)
        return Findings(
            {
                "identity": Table.of("Each term on its own, mean over images in nats; the errors are the largest of any image", identity),
                "order": Table.of("Each bound with the next one, mean over the images", order, folded=True),
                "closed": Table.of("Share of the gap between the ELBO and log p(x) that more draws close", closed, folded=True),
            }
        )

    def annealed(self, lab: Lab, e: Evaluation) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Simulated images, and bounds on their log p(x) by annealing from below and from above, each with its variance."""
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
        return x, (log_mean_exp(there), variance(there)), (-log_mean_exp(back), variance(back))

    def judge(self, tables: Tables) -> Judgement:
        identity, order = tables["identity"], tables["order"]
        effects: list[Effect] = []
        control: list[Effect] = []
        for label in dict.fromkeys(row["model"] for row in identity):
            rows = identity.where(model=label)
            limit, n = TOLERANCES[rows[0]["log p(x) by"]], sum(row["images"] for row in rows)
            worst = max(max(row["largest error"], abs(row["log p(x)"] - row["ELBO"] - row["KL"])) for row in rows)
            where = {"model": label, "what": "|log p(x) − ELBO − KL|"}
            effects.append(enough(checked(where, worst, below=limit, n=n, of="images", unit="nats"), rows))
            least = min(row["error with KL reversed"] for row in rows)
            verdict = Verdict.SUPPORTED if least > limit else Verdict.INCONCLUSIVE
            where = {"model": label, "what": "control: the same with KL(p ‖ q)"}
            control.append(enough(Effect(where, least, None, None, None, n, "images", "nats", f"above {limit:g}", verdict), rows))
        for label in dict.fromkeys(row["model"] for row in order):
            rows = order.where(model=label)
            broken = sum(row["difference (nats)"] < -ERRORS * row["standard error"] - ROUNDING for row in rows)
            where = {"model": label, "what": "steps of the bounds in the wrong order"}
            effects.append(enough(checked(where, broken, below=1, n=len(rows), of="steps"), rows))
        verdict = all_of(effects)
        if verdict is Verdict.SUPPORTED and not any(c.verdict is Verdict.SUPPORTED for c in control):
            verdict = Verdict.INCONCLUSIVE
        return Judgement(verdict, reason(tables, effects, control), (*effects, *control))

    def draw(self, found: Findings) -> list[Picture]:
        return [self.stacked(found.tables["identity"]), self.curves(found.tables["closed"])]

    def stacked(self, identity: Table) -> Picture:
        labels = list(dict.fromkeys(row["model"] for row in identity))
        figure, panels = axes(1, len(labels), 8.6, 3.4)
        for i, (ax, label) in enumerate(zip(panels, labels, strict=True)):
            rows = identity.where(model=label)
            places = list(range(len(rows)))
            elbo, kl, top = ([row[name] for row in rows] for name in ("ELBO", "KL", "log p(x)"))
            room = max(kl)
            floor = min(elbo) - room
            ax.bar(places, [v - floor for v in elbo], bottom=floor, color=COLOURS[5], label="ELBO")
            ax.bar(places, kl, bottom=elbo, color=COLOURS[4], label="+ KL(q ‖ posterior)")
            ax.hlines(top, [p - 0.45 for p in places], [p + 0.45 for p in places], color=COLOURS[6], linewidth=2, label="log p(x)")
            for place, low, value in zip(places, elbo, kl, strict=True):
                ax.text(place, low - 0.04 * room, f"KL\n{value:.2g}", ha="center", va="top", fontsize=8)
            ax.set_xticks(places, [str(row["seed"]) for row in rows])
            ax.set_ylim(floor, max(top) + 0.4 * room)
            ax.set_title(f"{label}\n(log p(x) by {rows[0]['log p(x) by']})", fontsize=9)
            ax.set_xlabel("seed")
            ax.set_ylabel("nats per image" if i == 0 else "")
        handles, texts = panels[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        caption = (
            "The KL between q and the exact posterior, stacked on the ELBO, ends at log p(x), which was computed without either. "
            "The axes are cut off below, and each model has its own: nats of different kinds of pixels do not compare."
        )
        return Picture("stacked", caption, figure)

    def curves(self, closed: Table) -> Picture:
        figure, (ax,) = axes(1, 1, 6.4, 3.4)
        ks = [name for name in closed.columns if name.startswith("L_")]
        for i, label in enumerate(dict.fromkeys(row["model"] for row in closed)):
            rows = closed.where(model=label)
            means = [interval([row[k] for row in rows]).mean for k in ks]
            x = [1, *(int(k.removeprefix("L_")) for k in ks)]
            gap = interval([row["gap (nats)"] for row in rows]).mean
            ax.plot(x, [0, *means], marker="os^D"[i % 4], color=COLOURS[i], label=f"{label}: {gap:.2g} nats")
        ax.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel="draws $k$ in the bound $L_k$", ylabel="share of the gap that is closed")
        ax.legend(fontsize=8, title="gap of the ELBO", title_fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        ax.grid(alpha=0.3)
        caption = "How much of the gap between the ELBO and log p(x) the bounds of more draws close; mean over seeds. Noise may exceed 1."
        return Picture("closed", caption, figure)


def row_of(found: Terms) -> dict[str, Cell]:
    error = (found.log_p - found.elbo - found.kl).abs()
    wrong = (found.log_p - found.elbo - found.reverse).abs()
    return {
        "log p(x)": found.log_p.mean().item(),
        "ELBO": found.elbo.mean().item(),
        "KL": found.kl.mean().item(),
        "KL reversed": found.reverse.mean().item(),
        "largest error": error.max().item(),
        "error with KL reversed": wrong.max().item(),
        "error of the integration": found.error.max().item(),
    }


def enough(effect: Effect, rows: list[dict[str, Any]]) -> Effect:
    """Without a verdict where there are too few seeds."""
    return effect if len({row["seed"] for row in rows}) >= LEAST_SEEDS else effect._replace(verdict=Verdict.INCONCLUSIVE)


def reason(tables: Tables, effects: list[Effect], control: list[Effect]) -> str:
    errors = {e.where["model"]: e.value for e in effects if e.unit == "nats"}
    steps_wrong = [e for e in effects if e.of == "steps"]
    text = "The largest |log p(x) − ELBO − KL| of any image was " + ", ".join(f"{v:.1e} nat for {m}" for m, v in errors.items())
    text += "; with the KL the other way round it was at least " + ", ".join(f"{e.value:.1e}" for e in control) + ". "
    broken, of = sum(int(e.value) for e in steps_wrong), sum(e.n for e in steps_wrong)
    text += f"{broken} of {of} steps from one bound to the next were in the wrong order. "
    shares = []
    for label in dict.fromkeys(row["model"] for row in tables["closed"]):
        rows = tables["closed"].where(model=label)
        last = tables["closed"].columns[-1]
        gap, share = (interval([row[name] for row in rows]).mean for name in ("gap (nats)", last))
        shares.append(f"{share:.0%} of {gap:.2g} nats for {label}")
    return text + f"Of the gap, {tables['closed'].columns[-1].removeprefix('L_')} draws close " + ", ".join(shares) + "."
