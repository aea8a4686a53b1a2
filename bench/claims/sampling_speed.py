"""How fast images are drawn and scored: one pass through a decoder against one step for each pixel."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.verdicts import all_of, compared
from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.speed import median_seconds
from vae_variants.evaluation.weights import log_mean_exp
from vae_variants.models.fvbn import FVBN
from vae_variants.models.made import MADE
from vae_variants.models.vae import VAE
from vae_variants.report.drawing import axes
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict

__all__ = ["SamplingSpeed", "Way", "multiply_adds_kept", "ratios", "timed", "ways", "whole_passes"]

VAE_NAME, NAIVE, KEPT = "VAE", ("FVBN, whole passes", "MADE, whole passes"), ("FVBN, one row per pixel", "MADE, kept sums")
TIMES_FASTER = 10.0
REPEATS = "repeats of one model, no seeds"  # what n counts
SLOW = 3.0  # seconds of one call, after which larger batches are not tried
IMAGES = 100  # that are scored at a time


class Way(NamedTuple):
    """A way to draw images: how many passes have to wait for each other, and the work for one image."""

    name: str
    draw: Callable[[int], Tensor]
    depth: int
    multiply_adds: int


@STUDIES.add
class SamplingSpeed(Study):
    """Images drawn per second by a VAE and by fully visible belief networks, from one image at a time to thousands.

    A fully visible belief network draws pixel after pixel, each given those before it: as many steps as pixels, none of which can begin
    before the last one is done. A VAE draws a code and passes it through its decoder once. So the sequential depth is 1 against 784 for
    MNIST; what that means in seconds depends on how many images are drawn at a time, and on how the network is written.

    Two networks, each in two ways. By whole passes: the network is evaluated anew for each pixel, as one does who has only its density.
    And by keeping what does not change: of logistic regression (FVBN) only the row of the pixel, of the masked autoencoder (MADE)
    with the sums of its hidden layer kept and added to, which is no more arithmetic than a single pass. The images are the same either way.

    Multiply-adds are counted from the weights, masked ones included, which a masked matrix multiplies as well. Times are medians over
    calls, after one to warm up; all ways take turns, and the interval is over such turns, of the logarithm of a ratio. A curve ends
    once a call takes more than 3 seconds.

    For densities it is the other way round: FVBN and MADE give log p(x) exactly in one pass, the VAE a bound that takes K draws. The
    second table says what that costs, and how far the bound has come.

    What n counts is repeats of one model; a timing has no seeds. Weights do not change the time, so the first seed that trained stands for
    all, and the verdict is the same thing with one seed as with many.

    What could mislead: times are those of one machine and its load, and of networks as small as these. Whole passes also multiply weights
    and masks anew for each pixel. A graphics card would widen the gap at one image at a time, where it waits for itself most of the time.
    """

    claim = "A latent-variable model samples faster than a fully visible belief network."
    source = "the textbook's section on fully visible belief networks and VAEs"
    criterion = (
        "Supported if the VAE draws more than 10 times as many images per second as FVBN and as MADE by whole passes, at every size of "
        "batch that both were timed at, by the 95 % interval over repeats of one model (a timing has no seeds); not supported if somewhere "
        "it is fewer. If it is supported so, but somewhere the VAE is slower than one of the samplers that keep what does not change, it "
        "is supported under conditions. Without one of the four samplers it is never supported."
    )

    def measure(self, lab: Lab) -> Findings:
        seeds = lab.seeds(int(lab.suite.seeds))
        found = [lab.models(lab.configurations(name)[0], seeds) for name in ("vae-bernoulli", "fvbn", "made")]
        seed = min(set.intersection(*map(set, found)))
        vae, fvbn, made = (models[seed] for models in found)
        assert isinstance(vae, VAE) and isinstance(fvbn, FVBN) and isinstance(made, MADE)
        batches: tuple[int, ...] = lab.choose(smoke=(1, 16), quick=(1, 16, 256, 1024), full=(1, 4, 16, 64, 256, 1024, 4096))
        repeats, budget = lab.choose(smoke=3, quick=5, full=7), lab.choose(smoke=0.005, quick=0.02, full=0.05)
        every = ways(vae, fvbn, made)
        with lab.noise("sampling speed"), torch.no_grad():
            times = timed(every, batches, repeats, lambda work: median_seconds(work, lab.device, budget))
        draws: tuple[int, ...] = lab.choose(smoke=(1, 10), quick=(1, 10, 100), full=(1, 2, 4, 8, 16, 64, 256, 1000))
        scored = self.scored(lab, lab.evaluation(vae, seed), vae, {"FVBN": fvbn, "MADE": made}, draws, repeats, budget)
        return Findings(
            {
                "speed": Table.of("Images drawn per second, median over repeats", speeds(every, times)),
                "scoring": Table.of(f"Scoring {IMAGES} test images or fewer: exact log p(x) against a bound of K draws", scored),
                "times": Table.of("Seconds of one call, turn by turn", times, folded=True),
            }
        )

    def scored(
        self, lab: Lab, e: Evaluation, vae: VAE, exact: dict[str, FVBN | MADE], draws: Sequence[int], repeats: int, budget: float
    ) -> list[dict[str, Cell]]:
        """One row for each model, K and turn: seconds for these images, and log p(x) or the bound, nats per image."""
        x = e.test[:IMAGES]
        rows: list[dict[str, Cell]] = []
        encoder, decoder = linear_weights(vae.encoder), linear_weights(vae.decoder)
        for repeat in range(repeats):
            for name, model in exact.items():
                with e.noise("scoring"):
                    nats = model.log_prob(x).double().mean().item()
                    seconds = median_seconds(lambda m=model: m.log_prob(x), lab.device, budget)  # type: ignore[misc]
                size = len(model.bias) ** 2 if isinstance(model, FVBN) else linear_weights(model)
                rows.append(row(name, None, repeat, seconds, nats, size))
            for k in draws:
                chunk = max(1, min(k, e.rows(len(x))))
                with e.noise("scoring"):
                    nats = bound(vae, x, k, chunk).mean().item()
                    seconds = median_seconds(lambda k=k, chunk=chunk: bound(vae, x, k, chunk), lab.device, budget)  # type: ignore[misc]
                rows.append(row(VAE_NAME, k, repeat, seconds, nats, encoder + k * decoder))
        return rows

    def judge(self, tables: Tables) -> Judgement:
        times, scoring = (tables.get(name, Table("", (), ())) for name in ("times", "scoring"))
        naive = [e for name in NAIVE for e in faster(times, name, TIMES_FASTER)]
        kept = [e for name in KEPT for e in faster(times, name, 1.0)]
        verdict = all_of(naive)
        if verdict is Verdict.SUPPORTED and Verdict.REFUTED in {e.verdict for e in kept}:
            verdict = Verdict.CONDITIONAL
        timed_too = {e.where["VAE against"] for e in (*naive, *kept)}
        if verdict is Verdict.SUPPORTED and timed_too < {*NAIVE, *KEPT}:
            verdict = Verdict.INCONCLUSIVE
        if not naive:
            return Judgement(
                verdict, "No size of batch was timed for the VAE and for a fully visible network by whole passes.", tuple(kept)
            )
        least, most = min(naive, key=lambda e: e.value), max(naive, key=lambda e: e.value)
        reason = (
            f"The VAE draws between {spelt(least)} and {spelt(most)} as many images per second as a fully visible network that is "
            f"evaluated anew for each pixel. {shrinking(kept)}{crossing(scoring)}"
        )
        return Judgement(verdict, reason, (*naive, *kept))

    def draw(self, found: Findings) -> list[Picture]:
        times, scoring = found.tables["times"], found.tables["scoring"]
        figure, (left, right) = axes(1, 2, 8.2, 3.9)
        for i, name in enumerate(dict.fromkeys(r["sampler"] for r in times)):
            batches = sorted({r["batch"] for r in times.where(sampler=name)})
            speed = [statistics.median(b / r["seconds"] for r in times.where(sampler=name, batch=b)) for b in batches]
            left.plot(
                batches, speed, marker="osD^v"[i], color=COLOURS[i], linestyle="--" if name in NAIVE else "-", markersize=4, label=name
            )
        left.set(xscale="log", yscale="log", xlabel="images at a time", ylabel="images drawn per second")
        draws = sorted({r["draws"] for r in scoring if r["draws"] is not None})
        cost = [statistics.median(r["seconds"] for r in scoring.where(model=VAE_NAME, draws=k)) for k in draws]
        right.plot(draws, [1e3 * c for c in cost], marker="o", color=COLOURS[0], markersize=4, label="VAE, bound of K draws")
        for i, name in enumerate(dict.fromkeys(r["model"] for r in scoring if r["draws"] is None)):
            exact = statistics.median(r["seconds"] for r in scoring.where(model=name))
            right.axhline(1e3 * exact, color=COLOURS[1 + 2 * i], linestyle=("-", "--")[i % 2], label=f"{name}, exact")
        right.set(xscale="log", yscale="log", xlabel="draws K", ylabel="milliseconds to score the images")
        for ax in (left, right):
            ax.grid(alpha=0.3)
            ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, ncols=2)
        caption = (
            "Left: images drawn per second; broken lines are whole passes for each pixel, and end where a call takes too long. "
            "Right: what log p(x) costs, exactly by a fully visible network and as a bound by the VAE."
        )
        return [Picture("speed", caption, figure)]


def linear_weights(module: nn.Module) -> int:
    """Multiply-adds of one pass through the dense layers of `module`, for one image: as many as weights."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def multiply_adds_kept(made: MADE) -> int:
    """For one image by `MADE.sample`: at each pixel a column is added to the first sums, inner layers are evaluated, one output is."""
    first, *inner, last = cast(list[nn.Linear], list(made.layers))
    return last.out_features * (first.out_features + sum(layer.weight.numel() for layer in inner) + last.in_features)


def whole_passes(model: FVBN, n: int) -> Tensor:
    """The images of `FVBN.sample` from the same noise, with every logit evaluated anew for each pixel: (n, D)."""
    x = model.bias.new_zeros(n, len(model.bias))
    u = torch.rand_like(x)
    for i in range(x.shape[1]):
        x[:, i] = (u[:, i] < model.logits(x)[:, i].sigmoid()).to(x.dtype)
    return x


def ways(vae: VAE, fvbn: FVBN, made: MADE) -> list[Way]:
    """Every sampler that is timed."""
    pixels = len(fvbn.bias)
    return [
        Way(VAE_NAME, vae.sample, 1, linear_weights(vae.decoder)),
        Way(NAIVE[0], lambda n: whole_passes(fvbn, n), pixels, pixels**3),
        Way(KEPT[0], fvbn.sample, pixels, pixels**2),
        Way(NAIVE[1], made.sample_naively, pixels, pixels * linear_weights(made)),
        Way(KEPT[1], made.sample, pixels, multiply_adds_kept(made)),
    ]


def timed(
    every: Sequence[Way], batches: Sequence[int], repeats: int, seconds: Callable[[Callable[[], object]], float]
) -> list[dict[str, Cell]]:
    """One row for each turn, sampler and batch; `seconds` times a call. A sampler leaves out what follows a call of more than `SLOW`."""
    rows: list[dict[str, Cell]] = []
    done: set[str] = set()
    largest: dict[str, int] = {}
    for repeat in range(repeats):
        for batch in sorted(batches):
            for way in every:
                if (repeat == 0 and way.name in done) or batch > largest.get(way.name, batch):
                    continue
                took = seconds(lambda way=way, batch=batch: way.draw(batch))  # type: ignore[misc]
                rows.append({"sampler": way.name, "batch": batch, "repeat": repeat, "seconds": took})
                if repeat == 0 and took > SLOW:
                    done.add(way.name)
                    largest[way.name] = batch
    return rows


def speeds(every: Sequence[Way], times: Sequence[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """One row for each sampler: depth, work, and its speed at each batch."""
    table, rows = Table.of("", times), list[dict[str, Cell]]()
    for way in every:
        found: dict[str, Cell] = {"sampler": way.name, "sequential passes": way.depth, "multiply-adds per image": way.multiply_adds}
        for batch in sorted({r["batch"] for r in table}):
            mine = [batch / r["seconds"] for r in table.where(sampler=way.name, batch=batch)]
            found[f"batch {batch}"] = statistics.median(mine) if mine else None
        rows.append(found)
    return rows


def bound(vae: VAE, x: Tensor, k: int, chunk: int) -> Tensor:
    """L_K of x (B, D) from K draws, `chunk` at a time: (B,) nats."""
    t = x.new_ones(())
    return log_mean_exp(torch.cat([vae.infer(x, min(chunk, k - start), t).log_w for start in range(0, k, chunk)]))


def row(model: str, draws: int | None, repeat: int, seconds: float, nats: float, work: int) -> dict[str, Cell]:
    found: dict[str, Cell] = {"model": model, "draws": draws, "repeat": repeat, "seconds": seconds}
    return found | {"log p(x) or bound, nats": nats, "multiply-adds per image": work}


def ratios(times: Table, against: str, batch: int) -> list[float]:
    """How many times as many images per second the VAE draws, turn by turn."""
    ours, theirs = ({r["repeat"]: r["seconds"] for r in times.where(sampler=name, batch=batch)} for name in (VAE_NAME, against))
    return [theirs[repeat] / ours[repeat] for repeat in sorted(ours) if repeat in theirs]


def faster(times: Table, against: str, threshold: float) -> list[Effect]:
    """One effect for each batch that both were timed at: the geometric mean over turns, its interval that of the logarithm."""
    effects = []
    for batch in sorted({r["batch"] for r in times}):
        if found := ratios(times, against, batch):
            where = {"VAE against": against, "batch": str(batch)}
            log = compared(where, [math.log(r) for r in found], above=math.log(threshold), unit="times", of=REPEATS)
            value, low, high = (None if x is None else math.exp(x) for x in (log.value, log.low, log.high))
            assert value is not None
            effects.append(log._replace(value=value, low=low, high=high, criterion=f"above {threshold:g}"))
    return effects


def in_words(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 100 else f"{ratio:.3g} times"


def spelt(effect: Effect) -> str:
    return f"{in_words(effect.value)} ({effect.where['VAE against']}, {effect.where['batch']} at a time)"


def shrinking(kept: Sequence[Effect]) -> str:
    """Against MADE with its sums kept, at the smallest and at the largest batch."""
    found = [e for e in kept if e.where["VAE against"] == KEPT[1]]
    if not found:
        return ""
    first, last = found[0], found[-1]
    return (
        f"Against one that keeps its sums (MADE) it is {in_words(first.value)} at {first.where['batch']} at a time and "
        f"{in_words(last.value)} at {last.where['batch']}. "
    )


def crossing(scoring: Table) -> str:
    """The least number of draws from which on the bound takes longer than the exact density of MADE."""
    exact = [r["seconds"] for r in scoring if r["model"] == "MADE"]
    draws = sorted({r["draws"] for r in scoring if r["model"] == VAE_NAME})
    if not exact or not draws:
        return ""
    price = statistics.median(exact)
    cost = {k: statistics.median(r["seconds"] for r in scoring.where(model=VAE_NAME, draws=k)) for k in draws}
    dearer = next((k for k in draws if cost[k] > price), None)
    last = draws[-1]
    start = "costs less at every K that was tried" if dearer is None else f"costs more from K = {dearer} on"
    return (
        f"MADE gives log p(x) exactly in one pass; the VAE's bound on it {start}, and {in_words(cost[last] / price)} as much at K = {last}."
    )
