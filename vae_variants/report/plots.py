"""The plots of the page, a pure function of the entries: SVG and pictures in the page itself, each thing marked by its variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vae_variants.analysis.entries import LOOKS, Entry, prominent
from vae_variants.report.dots import dots
from vae_variants.report.grids import grids
from vae_variants.report.latent import latent
from vae_variants.report.lines import lines
from vae_variants.report.matrix import differences
from vae_variants.report.plot import Plot
from vae_variants.report.tradeoffs import tradeoffs

__all__ = ["SECTIONS", "drawn", "plots"]

SECTIONS = ("summary", "quality", "trade-offs", "training", "pictures", "latent")


def drawn(entries: Sequence[Entry]) -> list[Entry]:
    """Those that are shown, the `prominent` ones, each with a look of its own."""
    shown = prominent(entries, LOOKS)
    return [replace(entry, index=index) for index, entry in enumerate(shown)] if len(shown) < len(entries) else shown


def plots(entries: Sequence[Entry]) -> list[Plot]:
    """Those for which there is something to show, section by section. Of too many variants they show the `drawn` ones."""
    shown = drawn(entries)
    if not shown:
        return []
    found = [*dots(entries, shown), *differences(shown), *tradeoffs(shown), *lines(entries, shown), *grids(shown), *latent(shown)]
    if len(shown) < len(entries):
        few = f" Shown: {len(shown)} of {len(entries)} variants."
        found = [plot if plot.name == "latent-size" else replace(plot, caption=plot.caption + few) for plot in found]
    return sorted(found, key=lambda plot: SECTIONS.index(plot.section))
