"""The program `vae-variants`. Its help needs no torch, whose import takes seconds: each command imports what it works with."""

import inspect
import os
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from vae_variants.cli.bench import bench
from vae_variants.cli.check import check
from vae_variants.cli.compare import compare
from vae_variants.cli.examples import examples
from vae_variants.cli.export import export
from vae_variants.cli.leaderboard import leaderboard
from vae_variants.cli.list import list_
from vae_variants.cli.new import new
from vae_variants.cli.options import Quiet, Verbose, Verbosity, beginning, flag
from vae_variants.cli.pull import pull
from vae_variants.cli.push import push
from vae_variants.cli.report import report
from vae_variants.cli.run import run
from vae_variants.cli.score import score
from vae_variants.cli.status import status
from vae_variants.cli.streams import make_lenient, report_failure
from vae_variants.cli.study import study

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"vae-variants {version('vae-variants')}")
        raise typer.Exit


@app.callback(epilog=examples(""))
def root(
    _: Annotated[bool, flag("Version of the package", "--version", "-V", panel=None, callback=show_version, is_eager=True)] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train variants of the variational autoencoder, score all of them alike, and report the results."""
    Verbosity.quiet, Verbosity.verbose = quiet, verbose


PANELS = {
    "Benchmark": (list_, run, bench, score, status, report, compare, leaderboard, study),
    "Plug-ins and export": (new, check, export, push, pull),
}
for panel, commands in PANELS.items():
    for command in commands:
        name = command.__name__.rstrip("_")
        paragraphs = (inspect.getdoc(command) or "").split("\n\n")
        text = escape("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))
        app.command(name, help=text, epilog=examples(name), rich_help_panel=panel)(command)


def begin() -> None:
    """Set up the process before a command runs."""
    from vae_variants.harness.process import prepare, stoppable

    stoppable()
    prepare()


def main() -> None:
    """Run `vae-variants`."""
    make_lenient()
    os.environ["MPLBACKEND"] = "agg"  # that of a notebook may not be installed here
    beginning.append(begin)
    try:
        app()
    finally:
        report_failure()
