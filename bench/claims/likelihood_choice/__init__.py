"""What a decoder's likelihood minimises, and what it does not."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.analysis.verdicts import all_of, checked, compared
from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.calibration import optimal_sigma, pixel_sigma
from vae_variants.evaluation.distance import fd_cnn
from vae_variants.evaluation.latent import active_units
from vae_variants.evaluation.likelihood import elbo, rate
from vae_variants.evaluation.metrics import Skip
from vae_variants.evaluation.reconstruction import reconstruction_mse
from vae_variants.evaluation.sharpness import blur_sigma, reconstruction_sharpness_ratio
from vae_variants.models.base import Coder
from vae_variants.models.likelihoods import Bernoulli, Gaussian, Likelihood, Support
from vae_variants.models.vae import VAE
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict
from vae_variants.variants import build

from .pictures import AVERAGED, BERNOULLI, LEARNT, inversion, mean, reconstructions, sweep

__all__ = ["LikelihoodChoice", "cross_entropy", "equivalence_error", "minimiser", "squares"]

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0)
MARGIN = 0.1  # of the least error: what is within it counts as least
EXACT = 1e-6
CLAMP = 1e-3  # what a pixel of a Gaussian decoder, which may step out of [0, 1], is clamped to for its cross-entropy
COLLAPSED = 0.1  # nats of rate
SHOWN = 8  # test images in the figure
NOTHING = Table("", (), ())


def squares(distortion: Tensor, sigma: float, dim: int) -> Tensor:
    """E_q |x - decoder(z)|^2 (B,) from the distortion of a Gaussian decoder: SSE = 2 sigma^2 (distortion - D log(sigma sqrt(2 pi)))."""
    return 2 * sigma**2 * (distortion - dim * (math.log(sigma) + 0.5 * math.log(2 * math.pi)))


def cross_entropy(x: Tensor, mean: Tensor) -> Tensor:
    """-x log m - (1 - x) log(1 - m) summed over pixels, less its least value, that of m = x: (B, D), (B, D) -> (B,) nats.

    The Kullback-Leibler divergence between Bernoulli laws with the grey levels as means; m is clamped to [0.001, 0.999].
    """
    m = mean.double().clamp(CLAMP, 1 - CLAMP)
    x = x.double()
    floor = F.binary_cross_entropy(x, x, reduction="none")
    return (F.binary_cross_entropy(m, x, reduction="none") - floor).sum(-1)


def minimiser(likelihood: Likelihood, x: Tensor, steps: int = 50) -> Tensor:
    """The mean (D,) of the law of which -log p(x), summed over images x (N, D), is least, with the same outputs for all of them.

    Newton's method on each output, from 0, by automatic differentiation: float64.
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
    """Largest relative difference of the gradients of 2 sigma^2 (-ELBO) and of SSE + 2 sigma^2 KL, with the same draws: a law.

    `model` is in float64 with a Gaussian decoder of that sigma, and its parameters have gradients.
    """
    draws = model.infer(x, 1, torch.ones(()))
    sse = (x - model.likelihood.mean(model.decoder(draws.z))).square().sum(-1).mean(0)
    losses = (2 * sigma**2 * (draws.kl - draws.log_px.mean(0)).mean(), (sse + 2 * sigma**2 * draws.kl).mean())
    one, other = (torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for loss in losses)
    largest = max(g.abs().max().item() for g in one)
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True)) / largest


@STUDIES.add(name="likelihood-choice")
class LikelihoodChoice(Study):
    """VAEs that differ in the likelihood of their decoder alone: what each reconstructs, and what each is worth as a model.

    The loss of a VAE is -log p(x|z) plus a KL. For a given code, -log p(x|z) of Bernoulli and of Gaussian pixels alike is least where the
    decoder puts out the mean of the images that share this code; that is checked on the test images of the data set. But how much
    the first term counts beside the KL depends on the likelihood: with Gaussian pixels of standard deviation σ the loss is, up to a
    constant, (squared error + β KL) / (2σ²) with β = 2σ². That too is checked, on the gradients. So the sum may be minimised while
    the reconstruction error is not.

    Trained are: Gaussian decoders with σ of 0.05, 0.1, 0.2, 0.5 and 1 and with σ learnt; one with σ = sqrt(D / 2), which is what averaging
    the squared error over the D pixels, instead of summing it, comes to; and the Bernoulli decoder. The Bernoulli decoder learns from
    binarised images, the Gaussian ones from grey ones: a Bernoulli law has no density for grey pixels. All are given the grey test images
    and compared with them, by squared error and by cross-entropy less its least possible value; the Bernoulli one also as it was
    trained, with binarised images to encode.

    Last, the Gaussian models are ranked by the ELBO and by what is often put in its place, -SSE - KL, which would be the ELBO but for a
    constant if every one of them had σ = sqrt(1/2), and -SSE / 2σ² - KL, from which the constant is left out that depends on σ.

    What could mislead: the error is that of the decoder's output at the posterior's mean, without the noise of the code; networks are small
    and training is short; and a model that reconstructs better is not a better model, for which the log-likelihood is the measure.
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
        seeds = lab.seeds(int(lab.suite.seeds))
        averaged = f"{math.sqrt(lab.dataset.dim / 2):.6g}"
        chosen = {f"Gaussian, σ = {sigma:g}": f"vae-gaussian[sigma={sigma:g}]" for sigma in SIGMAS}
        chosen = {BERNOULLI: "vae-bernoulli", **chosen, LEARNT: "vae-gaussian-learnt", AVERAGED: f"vae-gaussian[sigma={averaged}]"}
        rows: list[dict[str, Cell]] = []
        arrays: dict[str, Tensor] = {}
        for name, selector in chosen.items():
            (configuration,) = lab.configurations(selector)
            for seed, model in lab.models(configuration, seeds).items():
                e = lab.evaluation(model, seed, elbo_samples=4)
                rows.append({"decoder": name, "seed": seed, **row_of(e)})
                if seed == seeds[0]:
                    kept = e.reconstructions[:SHOWN].clamp(0, 1)
                    arrays[f"reconstructions/{name}"] = (kept * 255).round().to(torch.uint8)
        arrays["originals"] = (lab.dataset.grey()[:SHOWN] * 255).round().to(torch.uint8)
        arrays["shape"] = torch.tensor(lab.dataset.shape)
        return Findings(
            {
                "minimum": Table.of("Where the data term is least, for a given code: error of the identities", self.identities(lab)),
                "summary": summary(rows),
                "ranking": ranking(rows),
                "decoders": Table.of("Every decoder and seed", rows, folded=True),
            },
            arrays,
        )

    def identities(self, lab: Lab) -> list[dict[str, Cell]]:
        """The two identities that are checked, not estimated."""
        found: list[dict[str, Cell]] = []
        laws = (("Bernoulli", Bernoulli(), Support.BINARY), ("Gaussian, σ = 0.1", Gaussian(0.1), Support.REAL))
        for name, likelihood, support in laws:
            x = lab.dataset.as_(support).test[:500]
            moving = (x.mean(0) > 0) & (x.mean(0) < 1)  # of a pixel that is always black, the best logit is infinite
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

    def judge(self, tables: Tables) -> Judgement:
        table = tables.get("decoders", NOTHING)
        measured = {row["decoder"] for row in table if row["MSE per pixel"] is not None}
        names = [name for name in dict.fromkeys(row["decoder"] for row in table) if name in measured and name != AVERAGED]
        if not names:
            return Judgement(Verdict.INCONCLUSIVE, "No decoder was measured.")
        errors = {name: table.by_seed("MSE per pixel", decoder=name) for name in names}
        best = min(names, key=lambda name: math.fsum(errors[name].values()) / len(errors[name]))
        identities: list[Effect] = []
        for row in tables.get("minimum", NOTHING):
            where = {"decoder": row["likelihood"], "what": row["what"]}
            identities.append(checked(where, row["error"], below=EXACT, n=row["n"], of=row["of"]))

        def excess(name: str, of: str, below: float, what: str) -> list[Effect]:
            ratios = [errors[name][seed] / errors[of][seed] - 1 for seed in errors[name] if seed in errors[of]]
            return [compared({"decoder": name, "what": what}, ratios, below=below, unit="of it")] if ratios else []

        effects = [effect for name in names if name != best for effect in excess(name, best, MARGIN, f"MSE above that of {best}")]
        fixed = sorted({(row["σ"], row["decoder"]) for row in table if row["σ"] is not None and row["decoder"] in {*names} - {LEARNT}})
        trend = excess(fixed[0][1], fixed[-1][1], 0.0, f"MSE above that of {fixed[-1][1]}") if len(fixed) > 1 else []
        verdict = all_of(effects)
        if any(effect.verdict is Verdict.REFUTED for effect in identities):
            verdict = Verdict.REFUTED
        elif not (identities and trend and {BERNOULLI, LEARNT} <= measured):  # something was not measured
            verdict = Verdict.INCONCLUSIVE
        elif verdict is Verdict.REFUTED:
            verdict = {Verdict.SUPPORTED: Verdict.CONDITIONAL}.get(all_of(trend), all_of(trend))
        return Judgement(verdict, reason(tables, best, effects, identities), (*effects, *trend, *identities, *shown_only(table)))

    def draw(self, found: Findings) -> list[Picture]:
        return [sweep(found.tables["decoders"]), inversion(found.tables["ranking"]), reconstructions(found.arrays)]


def row_of(e: Evaluation) -> dict[str, Cell]:
    """Everything that is compared of one trained decoder."""
    model = e.model
    assert isinstance(model, VAE)
    grey = e.dataset.grey()
    row: dict[str, Cell] = {"σ": None, "β = 2σ²": None, "ELBO": elbo(e), "rate": rate(e), "MSE per pixel": reconstruction_mse(e)}
    row["cross-entropy over its least"] = cross_entropy(grey, e.reconstructions).mean().item()
    row |= dict.fromkeys(("MSE, binarised images encoded", "squared error", "−SSE − KL", "−SSE / 2σ² − KL", "σ that would suit"))
    if isinstance(model.likelihood, Bernoulli):
        row["MSE, binarised images encoded"] = mse_of_binary(e)
    else:
        sigma = pixel_sigma(e)
        sse = squares(e.elbo.distortion, sigma, e.dataset.dim).mean().item()
        row |= {"σ": sigma, "β = 2σ²": 2 * sigma**2, "squared error": sse, "σ that would suit": optimal_sigma(e)}
        row |= {"−SSE − KL": -sse - rate(e), "−SSE / 2σ² − KL": -sse / (2 * sigma**2) - rate(e)}
    row |= {"active units": active_units(e), "sharpness of reconstructions": None, "blur of samples (pixels)": None, "fd-cnn": None}
    measures = {
        "sharpness of reconstructions": reconstruction_sharpness_ratio,
        "blur of samples (pixels)": blur_sigma,
        "fd-cnn": fd_cnn,
    }
    for name, measure in measures.items():
        try:
            row[name] = measure(e)
        except Skip:
            continue
    return row


@torch.no_grad()
def mse_of_binary(e: Evaluation) -> float:
    """Against the grey images, of what the decoder makes of the codes of the binarised ones."""
    assert isinstance(e.model, Coder)
    pairs = zip(e.test.split(e.rows()), e.dataset.grey().split(e.rows()), strict=True)
    parts = [(e.model.decode(e.model.encode(x)).cpu() - grey).double().square().mean(-1) for x, grey in pairs]
    return torch.cat(parts).mean().item()


def summary(rows: list[dict[str, Cell]]) -> Table:
    table = Table.of("", rows)
    columns = [name for name in table.columns if name not in ("decoder", "seed")]
    found: list[dict[str, Cell]] = []
    for name in dict.fromkeys(row["decoder"] for row in table):
        found.append({"decoder": name, "seeds": len(table.where(decoder=name)), **{c: mean(table, c, name) for c in columns}})
    return Table.of("By decoder, mean over seeds; nats per image. ELBOs compare among Gaussian decoders only", found)


def ranking(rows: list[dict[str, Cell]]) -> Table:
    """The Gaussian decoders from best to worst by three scores, mean over seeds."""
    table = Table.of("", rows)
    scores = ("ELBO", "−SSE − KL", "−SSE / 2σ² − KL")
    names = [name for name in dict.fromkeys(row["decoder"] for row in table) if mean(table, scores[1], name) is not None]
    found: list[dict[str, Cell]] = []
    for name in names:
        row: dict[str, Cell] = {"decoder": name}
        for score in scores:
            value = mean(table, score, name)
            row |= {score: value, f"rank by {score}": 1 + sum((mean(table, score, other) or 0.0) > (value or 0.0) for other in names)}
        found.append(row)
    found.sort(key=lambda row: row["rank by ELBO"] or 0)
    return Table.of("The same trained models ranked by the ELBO and by scores that leave out the constant D log(σ sqrt(2π))", found)


def shown_only(table: Table) -> list[Effect]:
    """Effects that are no part of the verdict: the collapse, and the ranking by seed."""
    effects: list[Effect] = []
    if values := table.by_seed("rate", decoder=AVERAGED):
        where = {"decoder": AVERAGED, "what": "rate: has it collapsed?"}
        effects.append(compared(where, list(values.values()), below=COLLAPSED, unit="nats"))
    for score in ("−SSE − KL", "−SSE / 2σ² − KL"):
        if values := inversions(table, score):
            where = {"decoder": "all Gaussian", "what": f"pairs that {score} puts in another order than the ELBO"}
            effects.append(compared(where, list(values.values()), above=0.0, unit="of pairs"))
    return effects


def inversions(table: Table, score: str) -> dict[int, float]:
    """seed -> share of the pairs of decoders that `score` orders otherwise than the ELBO does."""
    found: dict[int, float] = {}
    for seed in dict.fromkeys(row["seed"] for row in table):
        rows = [row for row in table.where(seed=seed) if row[score] is not None]
        pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
        if pairs:
            found[seed] = sum((a["ELBO"] - b["ELBO"]) * (a[score] - b[score]) < 0 for a, b in pairs) / len(pairs)
    return found


def reason(tables: Tables, best: str, effects: list[Effect], identities: list[Effect]) -> str:
    table, ranks = tables["decoders"], list(tables.get("ranking", NOTHING))
    near = [e.where["decoder"] for e in effects if e.verdict is Verdict.SUPPORTED]
    far = [f"{e.where['decoder']} ({e.value:+.0%})" for e in effects if e.verdict is Verdict.REFUTED]
    open_ = [f"{e.where['decoder']} ({e.value:+.0%})" for e in effects if e.verdict is Verdict.INCONCLUSIVE]
    found = ((f"within {MARGIN:.0%} of it", near), (f"over it by more than {MARGIN:.0%}", far), ("not to be told", open_))
    text = f"{best} has the least squared error, {mean(table, 'MSE per pixel', best):.2g} per pixel; of the other decoders "
    text += ", ".join(f"{what}: {'; '.join(which)}" for what, which in found if which) or "none was measured"
    text += "."
    if identities:
        text += " For a given code, though, the data term is least at the mean of the images, and σ weighs the KL by 2σ² "
        text += f"(errors up to {max(e.value for e in identities):.1g})."
    if ranks:
        first, naive = (min(ranks, key=lambda row: row[f"rank by {score}"])["decoder"] for score in ("ELBO", "−SSE − KL"))
        text += f" Of the Gaussian decoders the ELBO ranks first: {first}; and −SSE − KL: {naive}"
        if (nats := mean(table, "rate", AVERAGED)) is not None:
            text += f"; with the squared error averaged over pixels, the code keeps {nats:.2g} nats"
        text += "."
    return text
