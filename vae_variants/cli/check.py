"""`vae-variants check`: the laws on what a plug-in registers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vae_variants.cli.options import guarded
from vae_variants.plugins import load_plugin, load_plugins
from vae_variants.registry import UserError

__all__ = ["check"]

STATES = {"passed": "holds", "broken": "BROKEN", "untried": "-"}


@guarded
def check(
    file: Annotated[list[Path], typer.Argument(help="Python files that register something of yours")],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Try the laws on what a plug-in registers, and say in plain words what is wrong.

    A likelihood is normalised and samples what it scores, an objective is a bound, a model keeps its promises, a test set is apart from
    its training set, and so on: one line for each law, with the mend of one that is broken. The exit code is 1 if one is, 2 where a file
    cannot be imported.
    """
    load_plugins()
    added = [(path, load_plugin(path)) for path in file]
    for path, things in added:
        if not things:
            raise UserError(f"plug-in {str(path)!r} registers nothing; put a decorator such as @LIKELIHOODS.add before what it defines")
    from vae_variants.checks import checks_of, outcomes

    width = max(len(each.name) for _, things in added for registry, _ in things for each in checks_of(registry.kind))
    broken, found = 0, []
    for path, things in added:
        states: list[str] = []
        for registry, name in things:
            place = registry.places[name]
            if not as_json:
                print(f"{place} {registry.kind} {name!r}")
            for each, state, what, fix in outcomes(registry.kind, name):
                states.append(state)
                told = {"passed": f"{each.says}.", "broken": f"{place}: {name}: {what}; {fix}", "untried": f"not tried: {what}"}[state]
                entry = {"kind": registry.kind, "name": name, "file": place.file, "line": place.line, "law": each.name, "state": state}
                found.append(entry | {"found": what, "mend": fix})
                if not as_json:
                    print(f"  {STATES[state]:6}  {each.name:{width}}  {told}", flush=True)
        broken += states.count("broken")
        if not as_json:
            ends = f"; {states.count('broken')} broken" if "broken" in states else ""
            holding = states.count("passed")
            print(f"{path}: {holding} law{' holds' if holding == 1 else 's hold'}{ends}")
    if as_json:
        print(json.dumps(found, indent=1))
    if broken:
        raise typer.Exit(1)
