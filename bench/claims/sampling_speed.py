"""How fast images are sampled: one pass through a decoder, or one step for each pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from torch import Tensor, nn

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.verdicts import all_of, compared
from vae_variants.evaluation.speed import median_seconds
from vae_variants.models.fvbn import FVBN
from vae_variants.models.made import MADE
from vae_variants.models.vae import VAE
from vae_variants.report.drawing import axes
from vae_variants.studies import STUDIES, Effect, Findings, Judgement, Lab, Picture, Study, Tables, Verdict, select, table

__all__ = ["SamplingSpeed", "Way", "linear_weights", "multiply_adds_kept", "ratios", "timed", "ways", "whole_passes"]

VAE_NAME, NAIVE, KEPT = "VAE", ("FVBN, whole passes", "MADE, whole passes"), ("FVBN, one row per pixel", "MADE, kept sums")
TIMES_FASTER = 10.0
REPEATS = "repeats of one model, no seeds"  # what n counts
SLOW = 3.0  # seconds of one call, after which larger batches are not tried


class Way(NamedTuple):
    """A way to sample images: the number of sequential passes, and the multiply-adds for one image."""

    name: str
    draw: Callable[[int], Tensor]
    depth: int
    multiply_adds: int


@STUDIES.add
class SamplingSpeed(Study):
    """Images sampled per second by a VAE and by fully visible belief networks, from one image at a time to thousands.

    A fully visible belief network samples pixel after pixel, so that it needs as many sequential steps as pixels (784 for MNIST). A VAE
    samples a latent and passes it through its decoder once.

    Two networks are timed, each in two ways. Whole passes evaluate the network anew for each pixel, which only needs its density. The
    other way keeps what does not change: logistic regression (FVBN) computes only the row of the pixel, and the masked autoencoder (MADE)
    adds to the sums of its hidden layer. The images are the same either way.

    Multiply-adds are counted from the weights, masked ones included. Times are medians over calls, after one call to warm up; all ways take
    turns, and the interval is over turns, of the logarithm of a ratio. A sampler is left out of larger batches once a call takes more
    than 3 seconds. n counts repeats of one model; a timing has no seeds. Weights do not change the time, so the first trained seed stands
    for all.

    Limits: times are those of one machine, of its load, and of networks as small as these. Whole passes also multiply weights and masks
    anew for each pixel.
    """

    claim = "A latent-variable model samples faster than a fully visible belief network."
    source = "the textbook's section on fully visible belief networks and VAEs"
    criterion = (
        "Supported if the VAE samples more than 10 times as many images per second as FVBN and as MADE by whole passes, at every batch "
        "size that both were timed at, by the 95 % interval over repeats of one model (a timing has no seeds); not supported if somewhere "
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
        work = [{"sampler": w.name, "sequential passes": w.depth, "multiply-adds per image": w.multiply_adds} for w in every]
        return Findings({"work": table("Work of each sampler", work), "times": table("Seconds of one call, turn by turn", times)})

    def judge(self, tables: Tables) -> Judgement:
        times = tables.get("times", pd.DataFrame())
        naive = [e for name in NAIVE for e in faster(times, name, TIMES_FASTER)]
        kept = [e for name in KEPT for e in faster(times, name, 1.0)]
        effects, verdict = (*naive, *kept), all_of(naive)
        if verdict is Verdict.SUPPORTED and Verdict.REFUTED in {e.verdict for e in kept}:
            verdict = Verdict.CONDITIONAL
        if verdict is Verdict.SUPPORTED and {e.where["VAE against"] for e in effects} < {*NAIVE, *KEPT}:
            verdict = Verdict.INCONCLUSIVE
        if not naive:
            return Judgement(verdict, "No batch size was timed for the VAE and for a fully visible network by whole passes.", effects)
        least, most = min(naive, key=lambda e: e.value), max(naive, key=lambda e: e.value)
        reason = (
            f"The VAE samples between {spelt(least)} and {spelt(most)} as many images per second as a fully visible network that is "
            "evaluated anew for each pixel."
        )
        return Judgement(verdict, reason, effects)

    def draw(self, found: Findings) -> list[Picture]:
        times = found.tables["times"]
        figure, (ax,) = axes(1, 1, 5.4, 4.2)
        for i, (name, mine) in enumerate(times.groupby("sampler", sort=False)):
            speed = (mine["batch"] / mine["seconds"]).groupby(mine["batch"]).median()
            look: dict[str, Any] = {"marker": "osD^v"[i], "color": COLOURS[i], "linestyle": "--" if name in NAIVE else "-"}
            ax.plot(speed.index, speed, markersize=4, label=name, **look)
        ax.set(xscale="log", yscale="log", xlabel="images at a time", ylabel="images sampled per second")
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False, ncols=2)
        caption = "Images sampled per second; dashed lines are whole passes for each pixel, and end where a call takes more than 3 seconds."
        return [Picture("speed", caption, figure)]


def linear_weights(module: nn.Module) -> int:
    """Multiply-adds of one pass through the dense layers of `module`, for one image."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def multiply_adds_kept(made: MADE) -> int:
    """For one image by `MADE.sample`: each pixel adds a column to the first sums, evaluates the inner layers and one output."""
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
) -> list[dict[str, Any]]:
    """One row for each turn, batch and sampler; `seconds` times a call. A sampler skips batches after a call of more than `SLOW`."""
    rows = list[dict[str, Any]]()
    largest = dict[str, int]()  # batch, of a sampler that is slow
    for repeat in range(repeats):
        for batch in sorted(batches):
            for way in every:
                if batch > largest.get(way.name, batch):
                    continue
                took = seconds(lambda way=way, batch=batch: way.draw(batch))  # type: ignore[misc]
                rows.append({"sampler": way.name, "batch": batch, "repeat": repeat, "seconds": took})
                if repeat == 0 and took > SLOW:
                    largest[way.name] = batch
    return rows


def ratios(times: pd.DataFrame, against: str, batch: int) -> list[float]:
    """How many times as many images per second the VAE samples, turn by turn."""
    ours, theirs = (select(times, sampler=name, batch=batch).set_index("repeat")["seconds"] for name in (VAE_NAME, against))
    return (theirs / ours).dropna().tolist()


def faster(times: pd.DataFrame, against: str, threshold: float) -> list[Effect]:
    """One effect for each batch that both were timed at: the geometric mean over turns, its interval that of the logarithm."""
    effects = []
    for batch in sorted(times["batch"].unique()) if len(times) else ():
        if found := ratios(times, against, batch):
            where = {"VAE against": against, "batch": str(batch)}
            log = compared(where, [math.log(r) for r in found], above=math.log(threshold), unit="times", of=REPEATS)
            low, high = (None if end is None else math.exp(end) for end in (log.low, log.high))
            effects.append(log._replace(value=math.exp(log.value), low=low, high=high, criterion=f"above {threshold:g}"))
    return effects


def spelt(effect: Effect) -> str:
    times = f"{effect.value:.0f}" if effect.value >= 100 else f"{effect.value:.3g}"
    return f"{times} times ({effect.where['VAE against']}, {effect.where['batch']} at a time)"
