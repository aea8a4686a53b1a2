"""`vae-variants new`: a file that registers something, to begin with."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from vae_variants.cli.options import guarded
from vae_variants.registry import UserError, closest, load_plugins, registry_of

__all__ = ["KINDS", "new"]

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLE = {  # what a template has, to be replaced
    "likelihood": "a logistic density",
    "objective": "Renyi's bound",
    "model": "a mixture of Bernoullis",
    "metric": "the largest error of a pixel",
    "dataset": "random rectangles",
    "study": "a claim about larger codes",
}
KINDS = {  # -> how it is tried, once it is checked
    "likelihood": 'run "vae[likelihood={kebab}]" vae-gaussian --plugin {file} --seeds 2 --fidelity smoke',
    "objective": 'run "vae[objective={kebab},samples=8]" vae-bernoulli --plugin {file} --seeds 2 --fidelity smoke',
    "model": "run {kebab} vae-bernoulli --plugin {file} --seeds 2 --fidelity smoke",
    "metric": "bench digits --plugin {file} --fidelity smoke --retry scores",
    "dataset": "run vae-bernoulli --dataset {kebab} --plugin {file} --seeds 2 --fidelity smoke",
    "study": "study {kebab} --plugin {file} --seeds 2 --fidelity smoke",
}


@guarded
def new(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    name: Annotated[str | None, typer.Argument(help="of the thing and its file; my_KIND unless named")] = None,
) -> None:
    """Write a plug-in to begin with: a short example that works, with comments where to change it.

    Nothing is overwritten. The file passes `check` as it is, and what it registers can be run at once.
    """
    if kind not in KINDS:
        raise UserError(closest("kind", kind, KINDS))
    load_plugins()
    snake = re.sub(r"[-.\s]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name or f"my_{kind}")).lower().removesuffix("_py")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", snake) or keyword.iskeyword(snake) or snake.endswith("_"):
        raise UserError(f"name {name!r} is not valid: letters, digits and _ in between, such as my_{kind}")
    kebab, path = snake.replace("_", "-"), Path(f"{snake}.py")
    if path.exists() or path.is_symlink():
        raise UserError(f"{str(path)!r} is there already, and nothing is overwritten; choose another name: vae-variants new {kind} NAME")
    taken = snake if kind == "metric" else kebab
    if taken in registry_of(kind):
        raise UserError(f"{kind} {taken!r} is there already, at {registry_of(kind).places[taken]}; choose another name, such as my_{snake}")
    if importlib.util.find_spec(snake) is not None:
        raise UserError(f"a file {path} would hide the module {snake!r} from Python; choose another name, such as my_{snake}")
    text = (TEMPLATES / f"{kind}.py").read_text(encoding="utf-8")
    for old, now in (("Template", "".join(part.capitalize() for part in snake.split("_"))), ("template", snake)):
        text = text.replace(old, now)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    print(f"wrote {path}, with {EXAMPLE[kind]} as a worked example: put your own in its place. It runs as it is:")
    print(f"  vae-variants check {path}\n  vae-variants {KINDS[kind].format(kebab=kebab, file=path)}")
