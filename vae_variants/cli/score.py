"""`vae-variants score`: a model that was trained elsewhere."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from vae_variants.cli.options import Dataset, Device, Fidelity, Runs, argument, guarded
from vae_variants.plugins import function_of, load_plugins
from vae_variants.registry import Refused, UserError, kebab

if TYPE_CHECKING:
    from torch import Tensor

    from vae_variants.models.externals import External

IMAGES = 8  # whose latents, reconstructions and densities tell one version of a model from another
MODEL = "Function without arguments that returns the model, as FILE.py:FUNCTION"


@guarded
def score(
    model: Annotated[str, argument(MODEL, metavar="FILE.py:FUNCTION")],
    *,
    dataset: Dataset = "digits",
    fidelity: Fidelity = "full",
    device: Device = "auto",
    runs: Runs = Path("runs"),
) -> None:
    """Score a model that was trained elsewhere, without training it.

    It is measured by its methods encode, decode, sample and log_prob, as far as it has them: see docs/elsewhere.md. A suite takes it
    beside other variants if the function has the decorator `vae_variants.external`.
    """
    from vae_variants.cli.launch import Launch
    from vae_variants.cli.run import finish
    from vae_variants.datasets import load_dataset
    from vae_variants.harness import RunSpec
    from vae_variants.harness.progress import out, results_table
    from vae_variants.models.externals import External
    from vae_variants.variants import build, configure

    name = registered(model)
    (found,) = configure(name)
    scored = build(found, load_dataset(dataset))
    assert isinstance(scored, External)
    values = {**found.values, "version": version_of(scored, load_dataset(dataset).as_(scored.support).test[:IMAGES])}
    spec = RunSpec(replace(found, values=values), dataset, (0,), fidelity)
    records = Launch(runs, device, jobs="0").execute([spec])
    out.print(results_table(records))
    finish(records)


def registered(model: str) -> str:
    """The name of the variant that a function in a file makes. Raises `UserError` without such a file or function."""
    from vae_variants.variants import VARIANTS, external

    given = re.fullmatch(r"(.+\.py):(\w+)", model)
    if given is None:
        raise UserError(f"{model!r} names no function; write FILE.py:FUNCTION")
    file, name = given.groups()
    load_plugins()
    function = function_of(file, name)
    known = [key for key, place in VARIANTS.places.items() if place.source is function]  # by the decorator
    if known:
        return known[0]
    try:
        external(function)
        return kebab(name)
    except Refused as error:
        raise UserError(f"{model!r} cannot be registered: {error}") from error


def version_of(model: External, x: Tensor) -> str:
    """Eight digits that change with what the model gives for images x (B, D)."""
    import torch

    from vae_variants.models.base import Coder, Density, Encoder, Sampler
    from vae_variants.training.batches import fork_rng

    found = hashlib.sha256()
    if isinstance(model, Encoder):
        found.update(model.encode(x).numpy().tobytes())
    if isinstance(model, Coder):
        found.update(model.decode(model.encode(x)).numpy().tobytes())
    if isinstance(model, Density):
        found.update(model.log_prob(x).numpy().tobytes())
    if isinstance(model, Sampler):
        with fork_rng(torch.device("cpu")):
            torch.manual_seed(0)
            found.update(model.sample(len(x)).numpy().tobytes())
    return found.hexdigest()[:8]
