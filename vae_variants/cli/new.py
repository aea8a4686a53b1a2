"""`vae-variants new`: a plug-in from a template."""

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated

from vae_variants.cli.options import argument, guarded
from vae_variants.cli.registries import registry_of
from vae_variants.components import KINDS, Kind
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError, closest


def kinds() -> dict[str, Kind]:
    """The kinds that have a template, by the name that `new` gives them."""
    return {kind.key: kind for kind in KINDS.values() if kind.template}


@guarded
def new(
    kind: Annotated[str, argument(f"Kind: {', '.join(kinds())}", tuple(kinds()))],
    name: Annotated[str | None, argument("Name of the component and its file, e.g. skew_normal", show_default="my_KIND")] = None,
) -> None:
    """Write a working plug-in as a template.

    What it registers can be run at once. If NAME is not my_KIND, its check fails until the worked example is replaced. No file is
    overwritten.
    """
    if kind not in kinds():
        raise UserError(closest("kind", kind, kinds()))
    load_plugins()
    chosen = kinds()[kind]
    registry = registry_of(chosen.name)
    snake = re.sub(r"[-.\s]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name or f"my_{kind}")).lower().removesuffix("_py")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", snake) or keyword.iskeyword(snake) or snake.endswith("_"):
        raise UserError(f"name {name!r} is not valid: letters, digits and _ in between, such as my_{kind}")
    kebab, path = snake.replace("_", "-"), Path(f"{snake}.py")
    if path.exists() or path.is_symlink():
        raise UserError(f"{str(path)!r} exists, and no file is overwritten; choose another name: vae-variants new {kind} NAME")
    taken = snake if kind == "metric" else kebab
    if taken in registry:
        raise UserError(f"{kind} {taken!r} exists, at {registry.places[taken]}; choose another name, such as my_{snake}")
    if importlib.util.find_spec(snake) is not None:
        raise UserError(f"a file {path} would hide the module {snake!r} from Python; choose another name, such as my_{snake}")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(chosen.filled(snake))
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    print(f"wrote {path}, with {chosen.example} as a worked example: put your own in its place. It runs as it is:")
    print(f"  vae-variants check {path}\n  vae-variants {chosen.trial.format(name=kebab, file=path)}")
