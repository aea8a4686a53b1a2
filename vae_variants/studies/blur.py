"""Are samples of a VAE blurrier than a GAN's, and where does the blur come from?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.sharpness import is_noise, laplacian_variance, real_images
from vae_variants.harness import Record
from vae_variants.harness.statistics import interval
from vae_variants.model import Coder, LatentVariable
from vae_variants.report.drawing import axes, bar, grid
from vae_variants.report.entries import COLOURS
from vae_variants.studies.judging import all_of, compared, mixed
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict

__all__ = ["COVERS", "Blur", "differences", "relative_sharpness", "steps"]

VAES = ("vae-bernoulli", "vae-gaussian", "vae-gaussian-learnt", "vae-discretized")
OTHERS = ("ae-gmm", "gan", "reference-data")
GAN, REAL = "gan", "reference-data"
BATTERY = {"sharpness_ratio": -1, "high_frequency_ratio": -1, "blur_sigma": 1}  # metric -> the sign of a difference that means blurrier
MEASURED = (*BATTERY, "spectral_distance", "reblur", "noise_ratio", "coverage", "precision", "reconstruction_sharpness_ratio")
UNITS = {"sharpness_ratio": "of real", "high_frequency_ratio": "of real", "blur_sigma": "pixels"}
TITLES = {
    "sharpness_ratio": "sharpness (Laplacian), of real",
    "high_frequency_ratio": "energy over 0.25 cycles/pixel, of real",
    "blur_sigma": "equivalent blur, pixels",
    "reblur": "re-blur effect",
    "noise_ratio": "noise control, of real",
    "coverage": "coverage",
}
COVERS = 0.1  # share of the real images that a GAN's samples have to come near to
SHOWN = 10


@STUDIES.add
class Blur(Study):
    """Sharpness of noise-free samples by three measures, of VAEs against a GAN, with a control for noise, and the causes of the blur.

    Three measures have to agree. Sharpness: the variance of the Laplacian of an image, as a ratio to real test images. Spectrum: the
    share of energy above 0.25 cycles per pixel, as a ratio to real. Equivalent blur: the width, in pixels, of the Gaussian that would make
    real images as unsharp. Samples are decoder means, or the output of the generator: no pixel noise is added, which every such measure
    would take for detail. Decoders and generator are networks of the same kind and widths.

    Noise also looks sharp to all three. So the samples go through a 3x3 median filter: if much less sharpness is left than of real images,
    or if they were far sharper than those, it was noise, and nothing can be said. Nor can it where the samples
    come near to hardly any real image: a sharp picture that is always the same is no sample. Coverage (share of real images with a sample
    nearby, in the features of a classifier) and precision (share of samples near a real image) stand beside the sharpness.

    Two causes are told apart, each on the scale of sharpness. A decoder's mean averages over everything that a code leaves open: that blurs
    reconstructions too, of the mean code and, more, of a code drawn from q(z|x). And codes drawn from the prior may lie where the decoder
    was never trained: that blurs samples beyond the reconstructions at draws of q(z|x). An autoencoder whose codes are drawn from a mixture
    of Gaussians that was fitted to them has the first cause without the second in full.

    What could mislead: the GAN's sharpness is that of this GAN, trained this long. Thickness of strokes and contrast move sharpness as
    well as blur does; re-blur does not depend on contrast. Equivalent blur is given as 0 under 0.4 pixels.
    """

    claim = "Samples of a VAE are blurrier than those of a GAN."
    source = "the textbook's section on VAEs and GANs"
    criterion = (
        "A VAE counts as blurrier where sharpness and the share of high frequencies are lower, and the equivalent blur is higher, than "
        "the GAN's, each by the 95 % interval of paired differences over seeds, and as not blurrier where one of the three is the other "
        "way round. Where samples of the GAN or of the VAE fail the noise control in any seed, or the GAN covers less than a tenth of "
        "the real images, it is inconclusive. The claim is supported if all VAEs are blurrier, under conditions if some are and others not."
    )

    def measure(self, lab: Lab) -> Findings:
        vaes: tuple[str, ...] = lab.choose(smoke=VAES[:2], quick=VAES, full=VAES)
        records = lab.records([*vaes, *OTHERS], seeds=lab.choose(smoke=3, quick=3, full=None))
        tables = {
            "means": Table.of("Means over seeds", means(records)),
            "causes": Table.of(
                "Sharpness, as a ratio to real images, of decoder means at the mean of q(z|x), at one draw from it, and of samples",
                [row for label in vaes for row in causes(lab, label, records[label])],
                folded=True,
            ),
            "seeds": Table.of("Every measure, seed by seed", by_seed(records), folded=True),
        }
        arrays = {f"samples/{label}": pictured(lab, lab.pictures(record)["samples"]) for label, record in records.items()}
        return Findings(tables, arrays)

    def judge(self, tables: Tables) -> Judgement:
        table = tables["seeds"]
        vaes = [label for label in dict.fromkeys(row["variant"] for row in table) if label not in OTHERS]
        suspect, coverage = noisy(table, GAN), list(table.by_seed("coverage", variant=GAN).values())
        covers = not coverage or interval(coverage).mean >= COVERS
        effects: list[Effect] = []
        overall: list[Effect] = []
        for label in vaes:
            found = []
            for metric, sign in BATTERY.items():
                if d := differences(table, metric, label):
                    where, below, above = {"variant": label, "measure": metric}, 0.0 if sign < 0 else None, 0.0 if sign > 0 else None
                    effect = compared(where, d, below=below, above=above, unit=UNITS[metric])
                    doubtful = suspect or noisy(table, label) or not covers
                    found.append(effect._replace(verdict=Verdict.INCONCLUSIVE) if doubtful else effect)
            effects += found
            if len(found) == len(BATTERY):
                overall.append(found[0]._replace(verdict=all_of(found)))
        reason = (
            f"Sharpness of samples, as a ratio to real images: {told(table, vaes)}; the GAN has {shown(table, 'sharpness_ratio', GAN)}. "
        )
        if suspect:
            reason += (
                f"But in {suspect} of {len(table.by_seed('noise_ratio', variant=GAN))} seeds the GAN's is noise: a median filter leaves "
                f"{min(table.by_seed('noise_ratio', variant=GAN).values()):.2f} of the share that it leaves of real images, or more, so "
                "that nothing can be said of blur."
            )
        elif not covers:
            reason += f"But the GAN's samples come near to {interval(coverage).mean:.1%} of the real images only, too few to stand for it."
        else:
            blurrier = [e.where["variant"] for e in overall if e.verdict is Verdict.SUPPORTED]
            reason += (
                f"By all three measures {len(blurrier)} of {len(overall)} VAEs are blurrier{f' ({listed(blurrier)})' if blurrier else ''}. "
            )
            reason += explained(tables["causes"])
        return Judgement(mixed(overall), reason, tuple(effects))

    def draw(self, found: Findings) -> list[Picture]:
        return [samples_figure(found.arrays), measures_figure(found.tables["seeds"])]


def by_seed(records: Mapping[str, Record]) -> list[dict[str, Cell]]:
    return [
        {"variant": label, "seed": seed, **{metric: record.value(metric, seed) for metric in MEASURED}}
        for label, record in records.items()
        for seed in record.seeds
    ]


def means(records: Mapping[str, Record]) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for label, record in records.items():
        row: dict[str, Cell] = {"variant": label}
        for metric in MEASURED:
            found = [value for seed in record.seeds if (value := record.value(metric, seed)) is not None]
            row[metric] = interval(found).mean if found else None
        rows.append(row)
    return rows


def pictured(lab: Lab, images: Tensor) -> Tensor:
    """(n, D) uint8 -> (n, C, H, W), as many as a figure shows."""
    return images[:SHOWN].unflatten(-1, lab.dataset.shape).contiguous()


def relative_sharpness(images: Tensor, real: Tensor, shape: tuple[int, int, int]) -> float:
    """Median over images (N, D) of the variance of the Laplacian, over the same of `real` (M, D); clamped to [0, 1] as samples are."""
    fake, true = (laplacian_variance(x.clamp(0, 1), shape).median().item() for x in (images, real))
    return fake / true


def causes(lab: Lab, label: str, record: Record) -> list[dict[str, Cell]]:
    """One row for each seed: sharpness left at the mean code, at one draw from q(z|x) per image, and at draws from the prior."""
    rows: list[dict[str, Cell]] = []
    for seed, model in lab.models(record.configuration, tuple(record.seeds)).items():
        e = lab.evaluation(model, seed)
        images = (*decoded(e), e.sample_means)
        kept = [relative_sharpness(x, real_images(lab.dataset), lab.dataset.shape) for x in images]
        rows.append({"variant": label, "seed": seed, "at the mean code": kept[0], "at a draw from q": kept[1], "samples": kept[2]})
    return rows


def decoded(e: Evaluation) -> tuple[Tensor, Tensor]:
    """Decoder means of the test images at the mean of q(z | x), and at one draw from it each, the aggregate posterior: (N, D) both."""
    assert isinstance(e.model, LatentVariable) and isinstance(e.model, Coder)
    one, at_mean, at_draw = torch.ones((), device=e.device), [], []
    with e.noise("aggregate posterior"):
        for x in e.test.split(e.rows()):
            at_mean.append(e.model.decode(e.model.encode(x)).cpu())
            at_draw.append(e.model.decode(e.model.infer(x, 1, one).z[0]).cpu())
    return torch.cat(at_mean), torch.cat(at_draw)


def steps(causes: Table, variant: str) -> dict[str, float] | None:
    """How the loss of sharpness from real images to samples is shared out, on the scale of its logarithm: cause -> share.

    log S(samples) = log S(at the mean) + log S(at a draw) / S(at the mean) + log S(samples) / S(at a draw), each S a ratio to real
    images and a mean over seeds. None where samples are not less sharp than real images.
    """
    columns = ("at the mean code", "at a draw from q", "samples")
    seeds = [causes.by_seed(name, variant=variant) for name in columns]
    if not all(seeds) or min(min(s.values()) for s in seeds) <= 0:
        return None
    mean, draw, prior = (math.fsum(map(math.log, s.values())) / len(s) for s in seeds)
    if prior >= 0:
        return None
    return {"decoder mean": mean / prior, "width of q": (draw - mean) / prior, "prior": (prior - draw) / prior}


def differences(table: Table, metric: str, variant: str, against: str = GAN) -> list[float]:
    """`variant` less `against`, seed by seed."""
    ours, theirs = table.by_seed(metric, variant=variant), table.by_seed(metric, variant=against)
    return [ours[seed] - theirs[seed] for seed in sorted(ours) if seed in theirs]


def noisy(table: Table, variant: str) -> int:
    """In how many seeds the sharpness is noise."""
    ratios, sharp = table.by_seed("noise_ratio", variant=variant), table.by_seed("sharpness_ratio", variant=variant)
    return sum(is_noise(ratios[seed], sharp[seed]) for seed in ratios if seed in sharp)


def shown(table: Table, metric: str, variant: str) -> str:
    found = list(table.by_seed(metric, variant=variant).values())
    return f"{interval(found).mean:.2f}" if found else "none"


def told(table: Table, variants: Sequence[str]) -> str:
    return ", ".join(f"{label} {shown(table, 'sharpness_ratio', label)}" for label in variants)


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def explained(causes: Table) -> str:
    """The two causes, in a sentence: the range over the VAEs of what is there in reconstructions already."""
    found = [share for label in dict.fromkeys(row["variant"] for row in causes) if (share := steps(causes, label))]
    if not found:
        return ""
    low, high = (f([share["decoder mean"] + share["width of q"] for share in found]) for f in (min, max))
    span = f"{low:.0%}" if round(100 * low) == round(100 * high) else f"{low:.0%} to {high:.0%}"
    return (
        f"Of the sharpness that their samples lack (on a log scale) {span} is lacking in reconstructions at draws from q(z|x) already, "
        f"which is the averaging of the decoder{'; the rest comes with codes from the prior' if high < 1 else ''}."
    )


def samples_figure(arrays: Mapping[str, Tensor]) -> Picture:
    """One row of images for each variant, real ones on top."""
    labels = sorted((name.removeprefix("samples/") for name in arrays), key=lambda label: (label != REAL, label == GAN))
    figure, panels = axes(len(labels), 1, 8.0, 0.62 * len(labels) + 0.1)
    for ax, label in zip(panels, labels, strict=True):
        images = arrays[f"samples/{label}"]
        picture = grid(images.flatten(1), images.shape[1:], len(images))
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_anchor("E")
        ax.set_ylabel("real images" if label == REAL else label, rotation=0, ha="right", va="center", fontsize=8)
    caption = (
        "Samples of the first seed, not chosen: real images, decoder means of the VAEs at codes from the prior, the output of the GAN."
    )
    return Picture("samples", caption, figure)


def measures_figure(table: Table) -> Picture:
    """One panel for each measure, one line for each variant."""
    labels = sorted(dict.fromkeys(row["variant"] for row in table), key=lambda label: (label != REAL, label == GAN), reverse=True)
    figure, panels = axes(2, 3, 8.2, 1.6 + 0.42 * len(labels))
    for i, (ax, (metric, title)) in enumerate(zip(panels, TITLES.items(), strict=True)):
        ends: list[float] = []
        for y, label in enumerate(labels):
            if found := list(table.by_seed(metric, variant=label).values()):
                mean = interval(found)
                colour = COLOURS[1] if label == GAN else COLOURS[6] if label == REAL else COLOURS[2] if label == "ae-gmm" else COLOURS[0]
                ax.errorbar(mean.mean, y, xerr=bar(mean), color=colour, marker="o", markersize=4, capsize=2)
                ends.append(mean.mean)
        ax.set_yticks(
            range(len(labels)), ["real images" if label == REAL else label for label in labels] if i % 3 == 0 else [""] * len(labels)
        )
        ax.set_ylim(-0.6, len(labels) - 0.4)
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
        if ends:
            margin = 0.15 * (max(ends) - min(ends)) or 0.1
            ax.set_xlim(min(ends) - margin, max(ends) + margin)
        ax.grid(alpha=0.3)
    caption = (
        "Dots are means over seeds, bars 95 % intervals. Blurrier is to the left in the first two panels, to the right in the next two. "
        "A noise control well under 1 says that sharpness is noise."
    )
    return Picture("measures", caption, figure)
