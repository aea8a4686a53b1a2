"""`vae-variants export`: a trained model, or its codes, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vae_variants.cli.options import Plugin, Runs, guarded
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError, closest

__all__ = ["TARGETS", "export"]

DATASET = "of runs of one name that which was made with this data set; for codes: that whose codes are written"
TARGETS = ("safetensors", "onnx", "codes")


@guarded
def export(
    run: Annotated[str, typer.Argument(help="a run's folder, its label, or the beginning of its key")],
    to: Annotated[str, typer.Option(help="safetensors, the model; onnx, its encoder and decoder; codes, of a data set")] = "safetensors",
    seed: Annotated[int | None, typer.Option(help="which of the run's models; the first that was trained")] = None,
    output: Annotated[Path | None, typer.Option(help="a file, of codes .npz or .csv; for onnx a folder")] = None,
    dataset: Annotated[str | None, typer.Option(help=DATASET)] = None,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write a trained model for other programs: safetensors, ONNX, or the codes of a data set.

    vae_variants.load("FILE.safetensors") gives the model back. The ONNX files take and give images as rows of C x H x W pixels in [0, 1],
    as many as one likes, and are compared with the model where onnxruntime is installed. Codes come with labels, and with the names
    that your images have.
    """
    from vae_variants.api import load
    from vae_variants.datasets import load_dataset
    from vae_variants.harness import Store
    from vae_variants.harness.files import make_folder
    from vae_variants.harness.store import slug
    from vae_variants.integrations.export import find_run, write_codes, write_model, write_onnx

    load_plugins(plugin or [])
    if to not in TARGETS:
        raise UserError(closest("target", to, TARGETS))
    folder, record = find_run(run, Store(runs), dataset, seed)
    if dataset not in (None, made := record.dataset["name"]) and to != "codes":
        raise UserError(f"{run!r} was made with --dataset {made}, not {dataset}; codes alone can be of another data set")
    if seed is None:
        seed = next((s for s in record.seeds if record.status[str(s)] == "ok"), record.seeds[0])
    model = load(folder, seed)
    stem = f"{slug(record.label)}-seed-{seed}"
    if to == "onnx":
        place = output or Path(stem)
        for name, error in write_onnx(model, record.label, place).items():
            checked = "not compared: onnxruntime is not installed" if error is None else f"within {error:.0e} of the model"
            print(f"wrote {place / name} ({checked})")
        return
    path = output or Path(f"{stem}-codes.npz" if to == "codes" else f"{stem}.safetensors")
    make_folder(path.parent)
    if to == "codes":
        write_codes(model, record.label, load_dataset(dataset or record.dataset["name"]), path)
    else:
        write_model(model, record, seed, path)
    print(f"wrote {path}")
