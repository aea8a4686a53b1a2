"""The figures of the study of the gap between the ELBO and log p(x)."""

from __future__ import annotations

from typing import Any

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import interval
from vae_variants.report.drawing import axes, bar
from vae_variants.studies.study import Picture, Table

__all__ = ["curves", "stacked"]


def stacked(identity: Table) -> Picture:
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
        ceiling = floor + 1.22 * (max(top) - floor)  # room for two lines of text
        for place, high, value in zip(places, top, kl, strict=True):
            ax.text(place, high + 0.02 * (ceiling - floor), f"KL\n{value:.2g}", ha="center", va="bottom", fontsize=8)
        ax.set_xticks(places, [str(row["seed"]) for row in rows])
        ax.set_ylim(floor, ceiling)
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


def curves(closed: Table) -> Picture:
    figure, (ax,) = axes(1, 1, 6.4, 3.4)
    ks = [name for name in closed.columns if name.startswith("L_")]
    for i, label in enumerate(dict.fromkeys(row["model"] for row in closed)):
        rows = closed.where(model=label)
        found = [interval([row[k] for row in rows]) for k in ks]
        apart = 1.06 ** (i - 1.5)  # that bars of one k do not hide one another
        x = [apart, *(apart * int(k.removeprefix("L_")) for k in ks)]
        gap = interval([row["gap (nats)"] for row in rows]).mean
        look: dict[str, Any] = {"marker": "os^D"[i % 4], "markersize": 5, "color": COLOURS[i], "capsize": 2, "elinewidth": 1}
        values, bars = [0, *(f.mean for f in found)], [0, *(bar(f) for f in found)]
        ax.errorbar(x, values, yerr=bars, label=f"{label}: {gap:.2g} nats", **look)
    ax.axhline(1, color="0.4", linewidth=0.8, linestyle=":")
    ax.set(xscale="log", xlabel="draws $k$ in the bound $L_k$", ylabel="share of the gap that is closed")
    ax.legend(fontsize=8, title="gap of the ELBO", title_fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    ax.grid(alpha=0.3)
    caption = (
        "How much of the gap between the ELBO and log p(x) the bounds of more draws close: mean over seeds with its 95 % interval. "
        "Noise may take a share over 1. Points of one k are moved apart."
    )
    return Picture("closed", caption, figure)
