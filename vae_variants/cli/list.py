"""`vae-variants list`: what is registered."""

import json
from typing import Annotated, Any

from vae_variants.cli.options import Json, Plugin, Verbosity, argument, flag, guarded
from vae_variants.cli.registries import registry_of
from vae_variants.components import KINDS
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError, closest

PLURALS = tuple(kind.plural for kind in KINDS.values())  # shown in help
WIDE = 140  # columns that a terminal needs for more than name and description
NARROW = 80  # columns where there is no terminal


@guarded
def list_(
    kind: Annotated[str, argument(f"Kind: {', '.join(PLURALS)}", PLURALS)] = "variants",
    as_json: Json = False,
    markdown: Annotated[bool, flag("Metrics or variants as Markdown: the pages METRICS.md and docs/variants.md", "--markdown")] = False,
    plugin: Plugin = None,
) -> None:
    """List variants, data sets, metrics and other components.

    --quiet shows names alone. References, units and directions are shown by --verbose, by --json and on wide terminals.
    """
    from rich.table import Table

    from vae_variants.harness.progress import Terminal, out

    load_plugins(plugin or ())
    plurals = {each.plural: each.name for each in KINDS.values()}  # a plug-in may have added a kind
    if kind not in plurals:
        raise UserError(closest("kind", kind, plurals))
    if markdown:
        print(page(kind), end="")
        return
    found = entries(kind, plurals[kind])
    if as_json:
        print(json.dumps(found, indent=1))
    elif Verbosity.quiet:
        print(*(entry["name"] for entry in found), sep="\n")
    else:
        console = out if out.is_terminal or Verbosity.verbose else Terminal(width=NARROW)
        more = (
            [key for key in found[0] if key not in ("name", "description", "config")] if Verbosity.verbose or console.width >= WIDE else []
        )
        table = Table(box=None, pad_edge=False)
        for column in ("name", "description", *more):
            table.add_column(column, no_wrap=column == "name")
        for entry in found:
            table.add_row(entry["name"], entry["description"], *(entry[key] for key in more))
        console.print(table)


def page(kind: str) -> str:
    """The page of metrics or variants. Raises `UserError` for another kind."""
    if kind == "metrics":
        from vae_variants.evaluation import METRICS
        from vae_variants.report.metrics_page import metrics_page  # imports pandas and matplotlib

        return metrics_page(METRICS.values())
    if kind == "variants":
        from vae_variants.report.variants_page import variants_page

        return variants_page()
    raise UserError("--markdown is for metrics and variants: vae-variants list metrics --markdown")


def entries(kind: str, name: str) -> list[dict[str, Any]]:
    """Name and description of each component of the kind with this plural and name, and what else belongs to it."""
    from vae_variants.harness import load_suite, suite_files

    if kind == "suites":
        return [{"name": name, "description": load_suite(name).description} for name in suite_files()]
    registry = registry_of(name)
    found: list[dict[str, Any]] = [{"name": each, "description": registry.describe(each)} for each in registry]
    for entry in found:
        component = registry[entry["name"]]
        if kind == "variants":
            entry |= {"family": component.family, "reference": component.reference, "config": dict(component.config)}
        elif kind == "metrics":
            entry |= {"unit": component.unit, "better": component.better}
    return found
