"""`vae-variants leaderboard`: one page about the runs of several reports and machines."""

from pathlib import Path
from typing import Annotated

from vae_variants.cli.options import Plugin, argument, guarded, option
from vae_variants.plugins import load_plugins

REPORTS = "Reports' folders with an archive, or folders of records, of any machines, e.g. reports/digits reports/mnist"
OUTPUT = "Folder to write leaderboard.html, leaderboard.csv and matrix.csv in"


@guarded
def leaderboard(
    reports: Annotated[list[Path], argument(REPORTS)],
    output: Annotated[Path, option(OUTPUT, metavar="FOLDER")] = Path("reports/leaderboard"),
    plugin: Plugin = None,
) -> None:
    """Rank variants over several reports, data sets and machines.

    Each variant scores against the default variant on the same data under the same recipe. Scores are aggregated by the interquartile mean,
    with bootstrap intervals. Every record is checked: its digest, its schema, and that no byte was changed. Nothing is ranked across pixel
    types in nats or bits, and a flagged variant has no rank.
    """
    from vae_variants.harness.sources import read_source
    from vae_variants.report.board import PAGE, write_leaderboard

    load_plugins(plugin or ())
    write_leaderboard([read_source(path) for path in dict.fromkeys(reports)], output)
    print(f"wrote {output}; open {output / PAGE}")
