"""Writes reports/speed/README.md and its figures from what `measure.py` left there: `python bench/peers/report.py [FOLDER]`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import interval
from vae_variants.analysis.tables import read_csv
from vae_variants.harness.store import slug
from vae_variants.report import write_index
from vae_variants.report.drawing import axes

NAMES = {
    "pythae": "Pythae 0.1.2",
    "plain": "a plain PyTorch loop",
    "ours fp32": "vae-variants",
    "ours bf16": "vae-variants, bf16",
    "products": "matrix products alone",
}
LOOKS = {name: {"color": COLOURS[i], "marker": "osD^v"[i], "markersize": 4} for i, name in enumerate(NAMES)}
HEAD = """# Speed

One network in three hands: a multi-layer perceptron 784-512-20 with ReLU and Bernoulli pixels, Adam at 1e-3, MNIST binarised once.
Everything that is compared took turns within one run on one machine, each trainer in a process of its own; cells are medians over the
rounds with their range. Another machine or day gives other seconds, and may give other ratios: a section is of one machine. A seed is a
network: images per second of a stack of five count each image five times, as five trainings one after the other would. No GPU was at
hand.
"""


def cell(values: pd.Series, digits: int = 3) -> str:
    """Median and range."""

    def text(value: float) -> str:
        return f"{value:,.0f}".replace(",", " ") if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"

    return f"{text(values.median())} ({text(values.min())}–{text(values.max())})"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def rates(frame: pd.DataFrame, **where: object) -> pd.Series:
    """images per second by round."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.set_index("round")["images_per_second"]


def contestants(frame: pd.DataFrame) -> list[tuple[str, int]]:
    found = frame[["who", "seeds"]].drop_duplicates()
    return sorted(zip(found.who, found.seeds, strict=True), key=lambda one: (list(NAMES).index(one[0]), one[1]))


def called(who: str, seeds: int) -> str:
    return NAMES[who] if who in ("pythae", "plain", "products") else f"{NAMES[who]}, {seeds} seed{'s' if seeds > 1 else ''}"


def training(frame: pd.DataFrame) -> tuple[str, Figure]:
    batches = sorted(frame.batch.unique())
    rows = []
    figure, (ax,) = axes(1, 1, 6.4, 3.8)
    for who, seeds in contestants(frame):
        row = [called(who, seeds)]
        for batch in batches:
            mine, theirs = (rates(frame, who=w, seeds=s, batch=batch) for w, s in ((who, seeds), ("pythae", 1)))
            row.append(f"{cell(mine)}" + ("" if who == "pythae" else f", × {cell(mine / theirs)}"))
        rows.append(row)
        medians = [rates(frame, who=who, seeds=seeds, batch=batch).median() for batch in batches]
        ax.plot(batches, medians, label=called(who, seeds), linestyle="-" if seeds == 1 else "--", **LOOKS[who])
    ax.set(xscale="log", xlabel="images per batch and seed", ylabel="images per second")
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    share = []
    for who, seeds in contestants(frame):
        if who != "products":
            parts = [rates(frame, who=who, seeds=seeds, batch=b) / rates(frame, who="products", batch=b) for b in batches]
            share.append([called(who, seeds), *(cell(part) for part in parts)])
    text = "## Training\n\nImages per second, and how many times Pythae's in the same round, by batch size.\n\n"
    text += table(["", *(f"batch {batch}" for batch in batches)], rows)
    text += (
        "\nThe same as a share of what float32 matrix products alone would allow, by the rate of a product of the first layer's shape:\n\n"
    )
    return text + table(["", *(f"batch {batch}" for batch in batches)], share), figure


def seeds(frame: pd.DataFrame) -> tuple[str, Figure]:
    figure, (left, right) = axes(1, 2, 8.6, 3.6)
    rows = []
    for who in [who for who in NAMES if who.startswith("ours") and who in set(frame.who)]:
        counts = sorted(frame[frame.who == who].seeds.unique())
        speeds = [rates(frame, who=who, seeds=s) for s in counts]
        left.plot(counts, [each.median() for each in speeds], label=NAMES[who], **LOOKS[who])
        right.plot(counts, [s * 50_000 / each.median() for s, each in zip(counts, speeds, strict=True)], label=NAMES[who], **LOOKS[who])
        rows += [[called(who, s), cell(each), cell(each / speeds[0])] for s, each in zip(counts, speeds, strict=True)]
    for who in ("pythae", "plain"):
        rate = rates(frame, who=who).median()
        counts = [1, int(frame.seeds.max())]
        left.plot(counts, [rate, rate], label=NAMES[who], **LOOKS[who])
        right.plot(counts, [s * 50_000 / rate for s in counts], label=NAMES[who], **LOOKS[who])
        rows.insert(0, [called(who, 1), cell(rates(frame, who=who)), "–"])
    left.set(xlabel="seeds in one stack", ylabel="images per second", ylim=(0, None))
    right.set(xlabel="runs (seeds)", ylabel="seconds for 50 000 images each")
    left.legend(fontsize=7, frameon=False)
    text = "## Stacked seeds, and the cost of many runs\n\nBatches of 128. The cost of all grows with the number of runs; ours come in one "
    text += "stack.\n\n"
    return text + table(["", "images/s", "× one seed"], rows), figure


def target(frame: pd.DataFrame) -> tuple[str, Figure]:
    figure, (ax,) = axes(1, 1, 6.0, 3.6)
    mean = frame.groupby(["who", "epoch"])[["seconds", "elbo"]].mean().reset_index()
    for who in [who for who in NAMES if who in set(mean.who)]:
        one = mean[mean.who == who]
        ax.plot(one.seconds, one.elbo, label=NAMES[who], **LOOKS[who])
    ax.set(xlabel="seconds of training five networks", ylabel="ELBO of 1000 validation images (nats)")
    ax.legend(fontsize=7, frameon=False)
    last = frame[frame.epoch == frame.epoch.max()]
    goal = math.floor(mean[(mean.who == "pythae") & (mean.epoch == mean.epoch.max())].elbo.iloc[0]) - 1.0
    rows = []
    for who in [who for who in NAMES if who in set(mean.who)]:
        there = mean[(mean.who == who) & (mean.elbo >= goal)].seconds
        rows.append([NAMES[who], f"{there.min():.0f}" if len(there) else "not reached", f"{last[last.who == who].elbo.mean():.2f}"])
    text = (
        "## Time to a target ELBO\n\nBatches of 128; five seeds, which Pythae, of which one was trained, would train one after the other: "
    )
    text += "its seconds are counted five "
    text += f"times.\n\n{table(['', f'seconds to {goal:.0f} nats', f'ELBO after {frame.epoch.max()} epochs'], rows)}"
    if "ours bf16" in set(last.who):
        by_seed = last.pivot_table(index="seed", columns="who", values="elbo").dropna(subset=["ours fp32", "ours bf16"])
        found = interval((by_seed["ours bf16"] - by_seed["ours fp32"]).tolist())
        half = f" ± {found.half:.2f}" if found.half is not None else ""
        text += (
            f"\n`--precision bf16` rounds the factors of products in training. What that does to the ELBO after "
            f"{frame.epoch.max()} epochs: "
            f"{found.mean:+.2f}{half} nats (paired over {found.n} seeds, 95 % interval).\n"
        )
    else:
        text += "\nThis processor gains nothing from bfloat16: `--precision bf16` changes nothing on it.\n"
    return text, figure


def convolutions(frame: pd.DataFrame) -> str:
    theirs = {who: rates(frame, who=who, seeds=1) for who in ("pythae", "plain")}
    rows = []
    for who, count in contestants(frame):
        mine = rates(frame, who=who, seeds=count)
        rows.append([called(who, count), cell(mine), *("–" if who == other else cell(mine / rate) for other, rate in theirs.items())])
    return (
        "## Convolutions\n\nThe network `deep-conv`, of three convolutions and three transposed ones, on 32x32 "
        "pixels of three channels, 128 latent units, batches of 128: images per second, and how many times those of the others in the same "
        "round. Convolutions of stacked members are made one member after another; bf16 rounds their factors, too.\n\n"
        + table(["", "images/s", "× Pythae", "× the plain loop"], rows)
    )


def stacks(frame: pd.DataFrame) -> str:
    by = frame.pivot_table(index="round", columns="way", values="seconds")
    ratio = by["at once"] / by["in turn"]
    why = ": the products are large enough without" if ratio.median() > 1 else ""
    return (
        f"{frame.models.iloc[0]} models of one shape scored in one call take × {cell(ratio)} of the time that they take one after the "
        f"other{why}. Each model is scored on its own.\n"
    )


def scoring(frame: pd.DataFrame) -> str:
    frame = frame.set_index("round")
    mine, theirs = frame[frame.who == "ours"], frame[frame.who == "pythae"]
    rows = [[NAMES["pythae"], cell(theirs.seconds / 200 * 1e3), "–", f"{theirs.bound.mean():.3f}"]]
    rows.append([NAMES["ours fp32"], cell(mine.seconds / 200 * 1e3), cell(theirs.seconds / mine.seconds), f"{mine.bound.mean():.3f}"])
    return (
        "## Likelihood evaluation\n\nL_5000, the importance-weighted bound of 5000 draws, of 200 test images, on the same weights. What "
        "Pythae calls `get_nll` is a log-likelihood, not its negative. Ours also gives L_1 to L_1000, the jackknife, the "
        "effective draws and "
        f"the tails of the weights.\n\n{table(['', 'ms per image', 'times as fast', 'L_5000 (nats)'], rows)}"
    )


def sampling(frame: pd.DataFrame) -> str:
    rows = []
    for batch, group in frame.groupby("batch"):
        by = {who: part.set_index("round").seconds for who, part in group.groupby("who")}
        ratio = by["made naive"] / by["made cached"]
        same = "yes" if by["identical"].eq(1).all() else "no"
        rows.append([str(batch), cell(by["made naive"]), cell(by["made cached"]), cell(ratio), same, cell(by["fvbn cached"])])
    header = [
        "images at a time",
        "MADE, whole passes (s)",
        "MADE, each unit once (s)",
        "times as fast",
        "same images",
        "FVBN, each unit once (s)",
    ]
    return f"## Ancestral sampling\n\n784 pixels, 500 hidden units; the same uniforms for both ways.\n\n{table(header, rows)}"


def steps(frame: pd.DataFrame, parts: pd.DataFrame) -> str:
    base = frame[frame.way == "the step as it is"].set_index("round").milliseconds
    rows = []
    for way, group in frame.groupby("way", sort=False):
        mine = group.set_index("round").milliseconds
        rows.append([str(way), cell(mine), cell(mine / base), f"{group['first'].iloc[0]:.0f}"])
    by = parts.pivot_table(index="kind", columns="when", values="milliseconds", sort=False)
    kinds = [[str(kind), f"{row['before']:.2f}", f"{row['after']:.2f}"] for kind, row in by.iterrows()]
    kinds.append(["**total**", f"{by['before'].sum():.2f}", f"{by['after'].sum():.2f}"])
    return (
        "## Where the time goes\n\nA training step of five stacked seeds, batches of 128, milliseconds by kind of operation from torch's "
        "profiler. Before: vmap and autograd anew in each step, as a model is written. After: the step traced once to a "
        "list of operations, which is "
        f"simplified (`vae_variants/training/traced.py`, `graphs.py`).\n\n{table(['', 'before (ms)', 'after (ms)'], kinds)}\n"
        "What each part gives, and what was tried and is not used, because it does not help or takes longer to begin than it saves; "
        "the first 40 steps include tracing or compiling:\n\n"
        + table(["", "ms per step", "× the step as it is", "ms per step, the first 40"], rows)
    )


def sections(frames: dict[str, pd.DataFrame], figures: Path, suffix: str) -> Iterator[str]:
    """What one machine measured."""
    for name, write in {"training": training, "seeds": seeds, "target": target}.items():
        if name in frames:
            words, figure = write(frames[name])
            figure.savefig(figures / f"{name}{suffix}.png", metadata={"Software": None})
            yield f"{words}\n![{name}](figures/{name}{suffix}.png)\n"
    yield from (
        write(frames[name])
        for name, write in {"convolutions": convolutions, "scoring": scoring, "stacks": stacks, "sampling": sampling}.items()
        if name in frames
    )
    if {"steps", "parts"} <= set(frames):
        yield steps(frames["steps"], frames["parts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("reports/speed"))
    folder: Path = parser.parse_args().folder
    frames = {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}
    found = pd.concat(frames.values())
    (folder / "figures").mkdir(exist_ok=True)
    text = [HEAD]
    for device, rows in sorted(found.groupby("device"), key=lambda pair: pair[1].date.max(), reverse=True):
        own = {name: part for name, frame in frames.items() if len(part := frame[frame.device == device])}
        text.append(f"## {device}\n")
        days = " to ".join(sorted({rows.date.min(), rows.date.max()}))
        text.append(f"`nox -s peers -- {' '.join(own)}`, {days}, torch {rows.torch.iloc[0].partition('+')[0]}.\n")
        text += [part.replace("## ", "### ", 1) for part in sections(own, folder / "figures", f"-{slug(str(device))}")]
    text.append(f"Every measurement: {', '.join(f'[{name}.csv]({name}.csv)' for name in frames)}.\n")
    (folder / "README.md").write_text("\n".join(text), encoding="utf-8")
    write_index(folder.parent)


if __name__ == "__main__":
    main()
