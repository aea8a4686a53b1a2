"""`vae-variants check`: conformance checks of what a plug-in registers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vae_variants.cli.options import Json, Verbosity, argument, guarded
from vae_variants.plugins import load_plugin, load_plugins
from vae_variants.registry import UserError

__all__ = ["check"]

STATES = {"passed": "passed", "broken": "FAILED", "untried": "-"}


@guarded
def check(
    file: Annotated[list[Path], argument("Plug-ins: Python files that register components")],
    as_json: Json = False,
) -> None:
    """Check what a plug-in registers.

    A likelihood is normalised and samples what it scores, an objective is a bound, a test set is apart from its training set, and so on.
    Each check is one line; each failed check reports its location and a suggested fix (--quiet shows those alone). The exit code is 1
    if a check failed and 2 if a file cannot be imported.
    """
    load_plugins()
    added = [(path, load_plugin(path)) for path in file]
    for path, things in added:
        if not things:
            raise UserError(f"plug-in {str(path)!r} registers nothing; put a decorator such as @LIKELIHOODS.add before what it defines")
    from vae_variants.checks import checks_of, outcomes

    width = max(len(each.name) for _, things in added for registry, _ in things for each in checks_of(registry.kind))
    found: list[dict[str, object]] = []
    for path, things in added:
        states: list[str] = []
        for registry, name in things:
            place = registry.places[name]
            if not as_json:
                print(f"{place} {registry.kind} {name!r}")
            for each, state, what, fix in outcomes(registry.kind, name):
                states.append(state)
                text = {"passed": f"{each.says}.", "broken": f"{place}: {name}: {what}; {fix}", "untried": f"not tried: {what}"}[state]
                entry = {"kind": registry.kind, "name": name, "file": place.file, "line": place.line, "law": each.name, "state": state}
                found.append(entry | {"found": what, "mend": fix})
                if not as_json and (state == "broken" or not Verbosity.quiet):
                    print(f"  {STATES[state]:6}  {each.name:{width}}  {text}", flush=True)
        if not as_json:
            passed, failed = states.count("passed"), states.count("broken")
            print(f"{path}: {passed} check{'s' * (passed != 1)} passed" + (f", {failed} failed" if failed else ""))
    if as_json:
        print(json.dumps(found, indent=1))
    if any(entry["state"] == "broken" for entry in found):
        raise typer.Exit(1)
