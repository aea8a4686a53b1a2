"""README.md of a report: tables that GitHub renders."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vae_variants.evaluation import METRICS
from vae_variants.evaluation.metrics import data_name
from vae_variants.evaluation.sharpness import NOISE, SHARPEST, is_noise
from vae_variants.harness.statistics import Interval, holm
from vae_variants.report.entries import SUPPORTS, Entry, best, distinct, ranks

__all__ = ["number", "readme"]

CAPTIONS = {
    "samples": "Samples of every variant from the first seed; noise-free (decoder means) where the model has such, draws otherwise.",
    "reconstructions": "The same test images (first row) after encoding and decoding, first seed.",
    "curves": "Validation log-likelihood, or its one-sample bound, while training: mean over seeds and 95 % interval.",
    "losses": "Losses while training of the models that have no likelihood: mean over seeds and 95 % interval.",
    "bounds": "How much the importance-weighted bound gains from more draws over a single one; what still rises is not log p(x) yet.",
    "latent_units": "KL of each latent unit, largest first, mean over seeds: units at the dark end are inactive.",
    "labels": "Accuracy of the linear probe by how many labels it was given, best on top: mean over seeds and 95 % interval.",
    "latent_plane": "The plane of two latent units: posterior means of test images by class, and decoder means over the prior's quantiles.",
    "latent_size": "What the number of latent units buys: bound on the log-likelihood, and linear-probe accuracy of the codes.",
    "rate_distortion": "Rate against distortion; on a dotted line the ELBO is constant, and better is to the lower left.",
    "cost": "Quality against throughput, up and right is better. Throughput is of the machine named above.",
}


def number(found: Interval | None, *, scale: float = 1.0, sign: bool = False) -> str:
    """`mean ± half-width`, as many digits as the interval has meaning for; a dash for nothing."""
    if found is None:
        return "–"
    mean, half = found.mean * scale, None if found.half is None else found.half * scale
    if not half or half <= abs(mean) * 1e-7:
        size = abs(mean)
        decimals = 0 if size >= 1000 or float(mean).is_integer() else max(0, 3 - math.floor(math.log10(size))) if size > 0 else 0
    else:
        digits = 1 - math.floor(math.log10(half))
        decimals = min(8, max(0, digits))
        if digits < 0:  # no digit that the interval makes meaningless
            mean, half = round(mean, digits), round(half, digits)
    text = f"{mean:+,.{decimals}f}" if sign else f"{mean:,.{decimals}f}"
    text = text.replace("-", "−").replace(",", " ")
    return text if not half or half <= abs(mean) * 1e-7 else f"{text} ± {half:,.{decimals}f}".replace(",", " ")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown, the first column to the left and the others to the right; columns that are empty throughout are left out."""
    keep = [i for i in range(len(header)) if i == 0 or any(row[i] != "–" for row in rows)]
    lines = ["| " + " | ".join(header[i] for i in keep) + " |"]
    lines.append("|" + "|".join("---" if i == 0 else "--:" for i in keep) + "|")
    return [*lines, *("| " + " | ".join(row[i] for i in keep) + " |" for row in rows), ""]


def seeds(entry: Entry) -> str:
    status = list(entry.record.status.values())
    ok = status.count("ok")
    return str(ok) if ok == len(status) else f"{ok} of {len(status)}"


def likelihoods(entries: Sequence[Entry]) -> list[str]:
    lines = ["## Likelihood", ""]
    lines += ["Nats per test image, higher is better; compared within one kind of pixels only. `≥` marks a lower bound:"]
    lines += ["log p(x) is exact, or bounded by the importance-weighted bound of K draws whose effective number is in the next column."]
    lines += [
        "Bold: cannot be told from the best (paired t-tests over seeds, Holm-adjusted, 5 %; rows of one seed are left out), where",
        "bounds stand beside exact values: a bound that is best is the best all the more, one that is not may be so for want of draws.",
        "Rank: 95 % interval of the rank among those rows, from a joint bootstrap of the seeds that all have, if there are five.",
        "Δ is over the seeds that both have. Gap: log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)), where log p(x) is a bound at least that.",
        "",
    ]
    for support, title in SUPPORTS.items():
        group = [e for e in entries if e.record.support == support and e.interval("log_likelihood")]
        if not group:
            continue
        baseline = group[0]
        top = best(distinct(group), "log_likelihood")
        leaders = {e.record.key for e in group if e.label in top} if len(distinct(group)) > 1 else set()
        compared = {e.record.key: c for e in group if e.record.key != baseline.record.key and (c := e.compared("log_likelihood", baseline))}
        adjusted = dict(zip(compared, holm([c.p for c in compared.values()]), strict=True))
        least = min((c.smallest_p for c in compared.values()), default=1.0) * len(compared)
        tested = bool(compared) and least <= SIGNIFICANT
        places = ranks(distinct(group), "log_likelihood")
        place = {e.record.key: places[e.label] for e in distinct(group) if e.label in places and len(places) > 1}
        header = ["variant", "log p(x) ↑", "rank", f"Δ to {baseline.label}", "p"]
        header += ["ELBO ↑", "gap", "rate", "distortion", "K", "effective draws ↑"]
        rows = []
        for e in group:
            mark = "≥ " if e.kind("log_likelihood") == "lower-bound" else ""
            change, elbo = compared.get(e.record.key), e.interval("elbo")
            value = mark + number(e.interval("log_likelihood"))
            cells = [f"`{e.label}`", f"**{value}**" if e.record.key in leaders else value]
            cells += ["–".join(map(str, dict.fromkeys(place[e.record.key]))) if e.record.key in place else "–"]
            cells += [number(change.difference, sign=True) if change else "–"]
            cells += [f"{adjusted[e.record.key]:.3f}" if change and tested else "–"]
            cells += ["≥ " + number(elbo) if elbo else "–", mark + number(e.interval("gap")) if elbo else "–"]
            cells += [number(e.interval("rate")), number(e.interval("distortion"))]
            cells += [number(e.interval("bound_samples")), number(e.interval("ess"))]
            rows.append(
                [*cells, sign(e, "bits_per_dim") + number(e.interval("bits_per_dim")), number(e.interval("active_units")), seeds(e)]
            )
        lines += [f"### {title[0].upper()}{title[1:]}", "", *table([*header, "bits/dim ↓", "active units", "n"], rows)]
        if tested:
            lines += [f"p: exact sign-flip test of Δ over seeds, Holm-adjusted; it cannot be under {least:.2g} here.", ""]
        elif compared:
            alone = min(c.smallest_p for c in compared.values())
            lines += [f"No p is shown: over so few seeds an exact sign-flip test of Δ cannot give less than {alone:.2g}, "]
            lines[-1] += f"and {min(1.0, least):.2g} when Holm-adjusted."
            lines += [""]
    return lines


def section(title: str, text: str, entries: Sequence[Entry], columns: Sequence[tuple[str, str, float]]) -> list[str]:
    """A table with a column for each (header, metric, scale), of the entries that have any of them; `{data}` is the data set."""
    data = data_name(entries[0].record.dataset["name"])
    columns = [(header.format(data=data), metric.format(data=data), scale) for header, metric, scale in columns]
    group = [e for e in entries if any(e.interval(metric) for _, metric, _ in columns)]
    if not group:
        return []
    rows = []
    for e in group:
        marks = {m: "noise: " for m in SHARP if e.interval(m)} if noisy(e) else {}
        cells = [marks.get(m, sign(e, m)) + number(e.interval(m), scale=scale) for _, m, scale in columns]
        rows.append([f"`{e.label}`", *cells, seeds(e)])
    return [f"## {title}", "", text, "", *table(["variant", *(header for header, _, _ in columns), "n"], rows)]


def sign(entry: Entry, metric: str) -> str:
    """What goes before a value: a bound is shown as one."""
    if entry.interval(metric) is None:
        return ""
    above = metric == "marginal_kl" or (metric == "bits_per_dim" and entry.kind("log_likelihood") == "lower-bound")
    return "≤ " if above else "≥ " if entry.kind(metric) == "lower-bound" else ""


def noisy(entry: Entry) -> bool:
    """Whether the noise control says that the samples of a row are sharp for the wrong reason."""
    kept, ratio = entry.interval("noise_ratio"), entry.interval("sharpness_ratio")
    return kept is not None and ratio is not None and is_noise(kept.mean, ratio.mean)


def others(entries: Sequence[Entry], known: set[str]) -> list[str]:
    """Metrics that no section names: a plug-in's."""
    extra = [m for m in dict.fromkeys(r["metric"] for e in entries for r in e.record.rows) if m not in known]
    arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
    better = {r["metric"]: f"{arrows[r['better']]} ({r['unit']})" for e in entries for r in e.record.rows}
    return section("Further metrics", "Not part of the tables above.", entries, [(m + better[m], m, 1.0) for m in extra])


BESIDE = "Samples beside real images"
SECTIONS = (
    (
        "How tight the bounds are",
        "The importance-weighted bound of 1, 10, 100, 1000 draws, up to that of the table above, whose last step shows what is still "
        "missing; the jackknife takes away the bias of order 1/K, and what is left is no bound; Monte-Carlo error of log p(x) above; "
        "share of images whose weights have a tail so heavy (Pareto shape above 0.7) that no number of draws within reach is enough; "
        "log p(x) by annealed importance sampling, with the error of its gain over log p(x) above that comes from the images annealed, "
        "and with its own gap on simulated images; then the gap of the ELBO in two, on the images annealed: what the best diagonal "
        "Gaussian q for each image leaves open, and what the encoder loses against that. They add up to annealed log p(x) − ELBO.",
        (
            ("L₁ ↑", "bound_1", 1.0),
            ("L₁₀ ↑", "bound_10", 1.0),
            ("L₁₀₀ ↑", "bound_100", 1.0),
            ("L₁₀₀₀ ↑", "bound_1000", 1.0),
            ("jackknife", "jackknife", 1.0),
            ("MC error", "monte_carlo_error", 1.0),
            ("heavy tails", "pareto_bad", 1.0),
            ("annealed ↑", "annealed_log_likelihood", 1.0),
            ("its error", "annealing_error", 1.0),
            ("its gap ↓", "annealing_gap", 1.0),
            ("approximation gap", "approximation_gap", 1.0),
            ("amortisation gap", "amortization_gap", 1.0),
        ),
    ),
    (
        "Spread of Gaussian pixels",
        "The standard deviation that a Gaussian decoder gives to its pixels, fixed or learnt; the one that would suit the model as it is; "
        "what the difference costs in nats of ELBO.",
        (("σ", "pixel_sigma", 1.0), ("best σ", "optimal_sigma", 1.0), ("cost ↓", "sigma_cost", 1.0)),
    ),
    (
        "Reconstruction",
        "Mean squared error per pixel against the grey test image; −log p(x given the mean code) in nats of each model's own "
        "pixels, not comparable between kinds of pixels; sharpness of the reconstructions over that of the originals.",
        (
            ("MSE ↓", "reconstruction_mse", 1.0),
            ("nats ↓", "reconstruction_nats", 1.0),
            ("sharpness ratio", "reconstruction_sharpness_ratio", 1.0),
        ),
    ),
    (
        "Codes",
        "Test accuracy of a logistic regression on the codes, from 10, 100 and 1000 labelled images of each class and from all, and "
        "how many units it saw (units that do not move are left out); what the codes share with the image, I(x; z) in nats, which cannot "
        "exceed its ceiling, the log of the images looked at; KL(q(z) ‖ p(z)), the rest of the rate, too high where I(x; z) is near that "
        "ceiling; how well clusters of codes agree with the classes (adjusted mutual information).",
        (
            ("10 a class ↑", "probe_accuracy_10", 1.0),
            ("100 a class ↑", "probe_accuracy_100", 1.0),
            ("1000 a class ↑", "probe_accuracy_1000", 1.0),
            ("all labels ↑", "probe_accuracy", 1.0),
            ("units seen", "probe_codes", 1.0),
            ("I(x; z)", "mutual_information", 1.0),
            ("its ceiling", "information_ceiling", 1.0),
            ("KL(q(z) ‖ p(z))", "marginal_kl", 1.0),
            ("clusters ↑", "clustering_score", 1.0),
        ),
    ),
    (
        "Samples",
        "Of noise-free images (decoder means; a GAN's output). Sharpness is the variance of the Laplacian; as a ratio to real "
        "test images; as the Gaussian blur in pixels that would make those as unsharp, before or after a median filter, the larger. "
        "Re-blur is how little the images change when they are blurred again, 0 to 1. High frequencies are the share of energy above "
        "0.25 cycles per pixel, as a ratio to real; the spectral distance is the root mean square over all frequencies of the difference "
        f"in dB. The noise ratio is what a median filter leaves of the sharpness, as a ratio to real: where it is under {NOISE}, or the "
        f"sharpness over {SHARPEST} times that of real images, the samples are noisy or binarised and not sharp, and `noise:` says so. The "
        "row of real training images shows what perfect samples have.",
        (
            ("sharpness", "sharpness", 1.0),
            ("ratio to real", "sharpness_ratio", 1.0),
            ("noise ratio", "noise_ratio", 1.0),
            ("blur in pixels ↓", "blur_sigma", 1.0),
            ("re-blur ↓", "reblur", 1.0),
            ("high frequencies", "high_frequency_ratio", 1.0),
            ("spectral distance ↓ (dB)", "spectral_distance", 1.0),
        ),
    ),
    (
        BESIDE,
        "In the features of a classifier trained on this data set: Fréchet distance and kernel distance, which are not the FID and KID of "
        "other papers and compare within this data set only; precision, recall, density and coverage from 5 nearest neighbours; distance "
        "to the nearest training image over that of test images (near 0 they are copies). The row of real training images is the floor.",
        (
            ("FD-{data}cnn ↓", "fd-{data}cnn", 1.0),
            ("KID-{data}cnn ↓", "kid-{data}cnn", 1.0),
            ("precision ↑", "precision", 1.0),
            ("recall ↑", "recall", 1.0),
            ("density", "density", 1.0),
            ("coverage ↑", "coverage", 1.0),
            ("memorisation", "memorisation_ratio", 1.0),
        ),
    ),
    (
        "Cost",
        "Throughputs in images per second, all seeds of a run training together; sampling and encoding of one seed, 100 images "
        "at a time: medians over seeds ± half of their interquartile range. Peak memory is that of the device while training, on a CPU "
        "of the whole process with its libraries. "
        "Of the machine named above: not to be compared with another's.",
        (
            ("parameters", "parameters", 1.0),
            ("training ↑ (images/s)", "train_images_per_second", 1.0),
            ("training ↓ (s)", "train_seconds", 1.0),
            ("encoding ↑ (images/s)", "encode_images_per_second", 1.0),
            ("sampling ↑ (images/s)", "sample_images_per_second", 1.0),
            ("peak memory ↓ (MB)", "peak_memory_bytes", 1e-6),
        ),
    ),
)
SIGNIFICANT = 0.05
SHARP = ("sharpness", "sharpness_ratio", "blur_sigma", "reblur", "high_frequency_ratio")  # what noise or binarising can improve
LIKELIHOOD = {"elbo", "rate", "distortion", "gap", "log_likelihood", "bound_samples", "ess", "bits_per_dim", "active_units"}


def notes(entries: Sequence[Entry], missing: Sequence[str]) -> list[str]:
    lines = []
    first = {e.record.key: e.label for e in reversed(entries)}
    same = [f"`{e.label}` is the same run as `{first[e.record.key]}`" for e in entries if first[e.record.key] != e.label]
    lines += [f"{'; '.join(same)}.", ""] if same else []
    lines += [f"Not run yet: {', '.join(f'`{label}`' for label in missing)}.", ""] if missing else []
    failures = [(e, s, status) for e in distinct(entries) for s, status in e.record.status.items() if status != "ok"]
    failed = [f"- `{e.label}`, seed {s}: {status}: {e.record.reason.get(s, '')}" for e, s, status in failures]
    rows = [(e, r) for e in distinct(entries) for r in e.record.rows if r["status"] != "ok"]
    failed += [f"- `{e.label}`, seed {r['seed']}, {r['metric']}: {r['status']}: {r['reason']}" for e, r in rows]
    return [*lines, *(["## Failed or skipped", "", *failed, ""] if failed else [])]


def readme(suite: str, entries: Sequence[Entry], figures: Sequence[str], command: str, missing: Sequence[str]) -> str:
    """The whole page. Intervals are 95 % t-intervals over seeds; n is how many seeds there are."""
    records = [e.record for e in entries]
    data, newest = records[0].dataset, max(records, key=lambda r: r.started)
    sizes = " / ".join(f"{size:,}".replace(",", " ") for size in data["sizes"].values())
    devices = sorted({r.environment.get("device", "?") for r in records})
    versions = newest.environment.get("versions", {})
    packages = ", ".join(f"{k} {versions[k]}" for k in ("torch", "scikit-learn") if versions.get(k))
    shape = "×".join(map(str, data["shape"]))
    lines = [
        f"# {suite}",
        "",
        f"Made by `{command}` on {newest.started[:10]}, {', '.join(devices)}, Python {newest.environment.get('python', '?')}, {packages}.",
        "",
        f"Data: `{data['name']}`, {shape} pixels, {sizes} training, validation and test images, digest `{data['digest'][:12]}`. "
        "Figures are means over n seeds ± the half-width of a 95 % interval (Student's t under 10 seeds, BCa bootstrap "
        "from there on), which is left out where all seeds agree. "
        "Arrows point to better. "
        "Everything is measured on the test images; every value is in [results.csv](results.csv), means in [summary.csv](summary.csv).",
        "",
    ]
    if "samples" in figures:
        lines += [f"![samples](figures/samples.png)\n*{CAPTIONS['samples']}*", ""]
    lines += likelihoods(entries)
    for title, text, columns in SECTIONS:
        lines += section(title, text, entries, columns)
        if title == BESIDE and (found := next((r.classifier for r in records if r.classifier), None)):
            lines += [f"The classifier: digest `{found['digest'][:12]}`, test accuracy {found['test_accuracy']:.4f}.", ""]
    shown = {m.format(data=data_name(data["name"])) for _, _, columns in SECTIONS for _, m, _ in columns}
    lines += others(entries, LIKELIHOOD | shown)
    lines += notes(entries, missing)
    lines += ["## Figures", ""]
    for name in figures:
        if name != "samples":
            lines += [f"![{name.replace('_', ' ')}](figures/{name}.png)\n*{CAPTIONS[name]}*", ""]
    lines += ["## Variants", ""]
    rows = [[f"`{e.label}`", e.record.support, ", ".join(f"{k}={short(v)}" for k, v in e.record.values.items())] for e in entries]
    lines += ["| variant | pixels | configuration |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows), ""]
    lines += ["## What the metrics are", ""]
    recorded = {r["metric"] for record in records for r in record.rows}
    names = {m.published_for(data["name"]): m for m in METRICS.values()}
    lines += [f"- `{name}` ({m.unit}): {m.description}" for name, m in names.items() if name in recorded]
    return "\n".join(lines) + "\n"


def short(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
