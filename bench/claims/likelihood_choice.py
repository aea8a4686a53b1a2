"""What a decoder's likelihood minimises, and what it does not."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import Tensor

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.verdicts import all_of, checked, compared
from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.calibration import optimal_sigma, pixel_sigma
from vae_variants.evaluation.likelihood import elbo, rate
from vae_variants.evaluation.reconstruction import reconstruction_mse
from vae_variants.models.likelihoods import Bernoulli, Gaussian, Likelihood, Support
from vae_variants.models.vae import VAE
from vae_variants.report.drawing import axes
from vae_variants.studies import STUDIES, Effect, Findings, Judgement, Lab, Picture, Study, Tables, Verdict, by_seed, rows, select, table
from vae_variants.variants import build

BERNOULLI, LEARNT, AVERAGED = "Bernoulli", "Gaussian, σ learnt", "Gaussian, mean over pixels"
SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0)
SCORES = ("−SSE − KL", "−SSE / 2σ² − KL")  # often put in place of the ELBO
MARGIN = 0.1  # of the least error: what is within it counts as least
EXACT = 1e-6
COLLAPSED = 0.1  # nats of rate


def minimiser(likelihood: Likelihood, x: Tensor, steps: int = 50) -> Tensor:
    """The mean (D,) of the distribution with the least -log p(x), summed over images x (N, D), if all have the same decoder output.

    Newton's method on each output, from 0, by automatic differentiation in float64.
    """
    h = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(steps):
        at = h.requires_grad_()
        loss = -likelihood.log_prob(at, x.double()).mean()
        (slope,) = torch.autograd.grad(loss, at, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), at)  # pixels do not depend on one another
        h = (h - (slope / curvature).clamp(-2, 2)).detach()
    return likelihood.mean(h)


def equivalence_error(model: VAE, x: Tensor, sigma: float) -> float:
    """Largest relative difference of the gradients of 2 sigma^2 (-ELBO) and of SSE + 2 sigma^2 KL, with the same samples of z.

    `model` is in float64, with a Gaussian decoder of that sigma; x (B, D).
    """
    draws = model.infer(x, 1, torch.ones(()))
    sse = (x - model.likelihood.mean(model.decoder(draws.z))).square().sum(-1).mean(0)
    losses = (2 * sigma**2 * (draws.kl - draws.log_px.mean(0)).mean(), (sse + 2 * sigma**2 * draws.kl).mean())
    one, other = (torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for loss in losses)
    largest = max(g.abs().max().item() for g in one)
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True)) / largest


@STUDIES.add(name="likelihood-choice")
class LikelihoodChoice(Study):
    """VAEs that differ only in the likelihood of their decoder: what each reconstructs, and what each is worth as a model.

    The loss of a VAE is -log p(x|z) plus a KL. For a given latent, -log p(x|z) of Bernoulli and of Gaussian pixels alike is least if the
    decoder puts out the mean of the images that share this latent; that is checked on test images. But how much the first term counts
    beside the KL depends on the likelihood: with Gaussian pixels of standard deviation σ the loss is, up to a constant,
    (squared error + β KL) / (2σ²) with β = 2σ². That too is checked, on the gradients. So the sum may be minimised while the
    reconstruction error is not.

    Trained are Gaussian decoders with σ of 0.05, 0.1, 0.2, 0.5 and 1 and with σ learnt, one with σ = sqrt(D / 2), which is the same as
    averaging the squared error over the D pixels, and the Bernoulli decoder. The Bernoulli decoder learns from binarised images, the
    Gaussian ones from grey ones: a Bernoulli distribution has no density for grey pixels. All reconstruct the grey test images;
    the Bernoulli one also encodes binarised images, as in training.

    Last, the Gaussian models are ranked by the ELBO and by two scores often put in its place: -SSE - KL, which is the ELBO up to a
    constant if every σ is sqrt(1/2), and -SSE / 2σ² - KL, which leaves out the constant that depends on σ.

    Limits: the error is that of the decoder's output at the posterior's mean, without noise in the latent; networks are small and
    training is short. A model that reconstructs better is not a better model: the log-likelihood measures that.
    """

    claim = "Minimising the Bernoulli or the Gaussian loss minimises the reconstruction error."
    source = "textbooks that call -log p(x|z) the reconstruction error; Rybkin et al. 2021, sigma-VAE, on the part of sigma"
    criterion = (
        "Supported if every decoder (Bernoulli, Gaussian with each σ and with σ learnt) has a mean squared error on grey test images under "
        "1.1 times that of the best of them, by the 95 % interval of the paired ratio over at least 3 seeds. If one is over that, but the "
        "data term for a given code is least at the mean of the images (within 1e-6), the gradients of the loss are those of squared error "
        "+ 2σ² KL (relative error 1e-6), and the error is lower at the least σ than at the largest by the same interval: supported under "
        "conditions, as it then holds for a given code, or where σ is small, and not for the whole loss. Not supported if one of these "
        "fails; inconclusive if an interval leaves it open. The average over pixels and the rankings are shown, but not judged."
    )

    def measure(self, lab: Lab) -> Findings:
        averaged = f"{math.sqrt(lab.dataset.dim / 2):.6g}"
        chosen = {f"Gaussian, σ = {sigma:g}": f"vae-gaussian[sigma={sigma:g}]" for sigma in SIGMAS}
        chosen = {BERNOULLI: "vae-bernoulli", **chosen, LEARNT: "vae-gaussian-learnt", AVERAGED: f"vae-gaussian[sigma={averaged}]"}
        decoders = []
        for name, selector in chosen.items():
            (configuration,) = lab.configurations(selector)
            for seed, model in lab.models(configuration, lab.seeds(int(lab.suite.seeds))).items():
                decoders.append({"decoder": name, "seed": seed, **row_of(lab.evaluation(model, seed, elbo_samples=4))})
        minimum = table("Where the data term is least, for a given latent: error of the identities", identities(lab))
        return Findings({"minimum": minimum, "decoders": table("Every decoder and seed, nats per image", decoders)})

    def judge(self, tables: Tables) -> Judgement:
        found = tables.get("decoders", pd.DataFrame())
        errors = {name: by_seed(found, "MSE per pixel", decoder=name) for name in found.get("decoder", pd.Series()).unique()}
        names = [name for name, values in errors.items() if len(values) and name != AVERAGED]
        if not names:
            return Judgement(Verdict.INCONCLUSIVE, "No decoder was measured.")

        def excess(name: str, of: str, below: float) -> list[Effect]:
            ratios = (errors[name] / errors[of] - 1).dropna().tolist()
            return [compared({"decoder": name, "what": f"MSE above that of {of}"}, ratios, below=below, unit="of it")] if ratios else []

        best = min(names, key=lambda name: errors[name].mean())
        effects = [effect for name in names if name != best for effect in excess(name, best, MARGIN)]
        sigma = found.groupby("decoder")["σ"].first()[[name for name in names if name != LEARNT]].dropna().sort_values().index
        trend = excess(sigma[0], sigma[-1], 0.0) if len(sigma) > 1 else []
        exact = [
            checked({"decoder": row["likelihood"], "what": row["what"]}, row["error"], below=EXACT, n=row["n"], of=row["of"])
            for row in rows(tables.get("minimum", pd.DataFrame()))
        ]
        verdict = all_of(effects)
        if any(effect.verdict is Verdict.REFUTED for effect in exact):
            verdict = Verdict.REFUTED
        elif not (exact and trend and {BERNOULLI, LEARNT} <= {*names}):  # something was not measured
            verdict = Verdict.INCONCLUSIVE
        elif verdict is Verdict.REFUTED:
            verdict = {Verdict.SUPPORTED: Verdict.CONDITIONAL}.get(all_of(trend), all_of(trend))
        near = sum(effect.verdict is Verdict.SUPPORTED for effect in effects)
        text = f"{best} has the least mean squared error, and {near} of {len(effects)} other decoders are within {MARGIN:.0%} of it."
        for effect in trend:
            text += f" From the largest σ to the least the error changes by {effect.value:+.0%}."
        means = found.dropna(subset=[SCORES[0]]).groupby("decoder")[["ELBO", SCORES[0]]].mean()
        if len(means):
            first, naive = means.idxmax()
            text += f" Of the Gaussian decoders the ELBO ranks {first!r} first, and {SCORES[0]} ranks {naive!r} first."
        return Judgement(verdict, text, (*effects, *trend, *exact, *without_vote(found)))

    def draw(self, found: Findings) -> list[Picture]:
        decoders = found.tables["decoders"]
        fixed = decoders[decoders["σ"].notna() & ~decoders["decoder"].isin([LEARNT, AVERAGED])]
        learnt, bernoulli = select(decoders, decoder=LEARNT), select(decoders, decoder=BERNOULLI)
        columns = {"MSE per pixel": "grey²; black to white is 1", "rate": "nats per image", "ELBO": "nats per image"}
        figure, panels = axes(1, 3, 8.8, 3.2)
        for ax, (column, unit) in zip(panels, columns.items(), strict=True):
            ax.plot(fixed["σ"], fixed[column], "o", color=COLOURS[0], markersize=4, label="Gaussian, σ fixed")
            means = fixed.groupby("σ")[column].mean()
            ax.plot(means.index, means, color=COLOURS[0], linewidth=1)
            ax.plot(learnt["σ"], learnt[column], "D", color=COLOURS[1], markersize=5, label="σ learnt")
            if column != "ELBO":  # nats of another pixel type
                ax.axhline(bernoulli[column].mean(), color=COLOURS[2], linestyle="--", linewidth=1.2, label="Bernoulli")
            ax.set(xscale="log", yscale="log" if column == "MSE per pixel" else "linear", xlabel="σ of the decoder (grey)")
            ax.set_title(f"{column} ({unit})", fontsize=8)
            ax.grid(alpha=0.3)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        caption = "What σ does to a Gaussian decoder; each dot is a seed. The ELBO of the Bernoulli decoder is of another pixel type."
        return [Picture("sweep", caption, figure)]


def identities(lab: Lab) -> list[dict[str, Any]]:
    """The two identities, which are checked and not estimated."""
    found = []
    cases = (("Bernoulli", Bernoulli(), Support.BINARY), ("Gaussian, σ = 0.1", Gaussian(0.1), Support.REAL))
    for name, likelihood, support in cases:
        x = lab.dataset.as_(support).test[:500]
        moving = (x.mean(0) > 0) & (x.mean(0) < 1)  # the best logit of a pixel that is always black is infinite
        error = (minimiser(likelihood, x[:, moving]) - x[:, moving].double().mean(0)).abs().max().item()
        what = "|argmin of the data term − mean of the images|, largest of any pixel"
        found.append({"likelihood": name, "what": what, "error": error, "n": int(moving.sum()), "of": "pixels"})
    for sigma in (0.1, 1.0):
        (configuration,) = lab.configurations(f"vae-gaussian[sigma={sigma:g}]")
        with lab.noise(f"equivalence {sigma}"):
            model = build(configuration, lab.dataset).double()
            assert isinstance(model, VAE)
            error = equivalence_error(model, lab.dataset.grey()[:50].double(), sigma)
        what = "gradients of 2σ²(−ELBO) and of squared error + 2σ² KL, relative"
        n = sum(p.numel() for p in model.parameters())
        found.append({"likelihood": f"Gaussian, σ = {sigma:g}", "what": what, "error": error, "n": n, "of": "parameters"})
    return found


@torch.no_grad()
def row_of(e: Evaluation) -> dict[str, Any]:
    """Everything that is measured of one trained decoder."""
    model = e.model
    assert isinstance(model, VAE)
    row: dict[str, Any] = {"σ": None, "β = 2σ²": None, "ELBO": elbo(e), "rate": rate(e), "MSE per pixel": reconstruction_mse(e)}
    row |= dict.fromkeys(("MSE, binarised images encoded", "squared error", *SCORES, "σ that would suit"))
    if isinstance(model.likelihood, Bernoulli):
        decoded = model.decode(e.encoded(e.test).to(e.test[:1])).cpu()
        row["MSE, binarised images encoded"] = (decoded.double() - e.dataset.grey()).square().mean().item()
    else:
        sigma, suits = pixel_sigma(e), optimal_sigma(e)
        sse = e.dataset.dim * suits**2  # E_q |x - decoder(z)|^2
        row |= {"σ": sigma, "β = 2σ²": 2 * sigma**2, "squared error": sse, "σ that would suit": suits}
        row |= dict(zip(SCORES, (-sse - rate(e), -sse / (2 * sigma**2) - rate(e)), strict=True))
    return row


def inversions(decoders: pd.DataFrame, score: str) -> list[float]:
    """Of each seed the share of pairs of Gaussian decoders that `score` orders otherwise than the ELBO, (1 - Kendall's tau) / 2."""
    groups = decoders.dropna(subset=[score]).groupby("seed")
    return [float(1 - kendalltau(part["ELBO"], part[score]).statistic) / 2 for _, part in groups if len(part) > 1]


def without_vote(decoders: pd.DataFrame) -> list[Effect]:
    """Effects that are no part of the verdict: the collapse, and the ranking by seed."""
    effects = []
    if values := by_seed(decoders, "rate", decoder=AVERAGED).tolist():
        effects.append(compared({"decoder": AVERAGED, "what": "rate: has it collapsed?"}, values, below=COLLAPSED, unit="nats"))
    for score in SCORES:
        if values := inversions(decoders, score):
            where = {"decoder": "all Gaussian", "what": f"pairs that {score} puts in another order than the ELBO"}
            effects.append(compared(where, values, above=0.0, unit="of pairs"))
    return effects
