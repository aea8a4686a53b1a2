"""`vae-variants export`: a trained model, or latents of a data set, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from vae_variants.cli.options import Plugin, Runs, argument, guarded, option
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError, closest

__all__ = ["TARGETS", "export"]

TARGETS = ("safetensors", "onnx", "codes")
TO = "Format: safetensors (the model), onnx (encoder and decoder), codes (latents of a data set)"
DATASET = "Data set of the run, if several runs have the name; for codes: the images to encode"
OUTPUT = "File to write; for codes .npz or .csv, for onnx a folder"


@guarded
def export(
    run: Annotated[str, argument("Run: its folder, its label, or the first 4 characters or more of its key")],
    to: Annotated[str, option(TO, metavar="FORMAT", choices=TARGETS)] = "safetensors",
    seed: Annotated[int | None, option("Seed of the model, e.g. 3", metavar="N", show_default="first that is ok")] = None,
    output: Annotated[Path | None, option(OUTPUT, metavar="PATH", show_default="named after run and seed")] = None,
    dataset: Annotated[str | None, option(DATASET, metavar="NAME", show_default="that of the run")] = None,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
) -> None:
    """Export a trained model, or the latents of a data set.

    vae_variants.load("FILE.safetensors") reads a model again. ONNX files take and return rows of C x H x W pixels in [0, 1], in batches
    of any size; if onnxruntime is installed, they are compared with the model. Latents come with labels and with the names of the images.
    """
    from vae_variants.api import load
    from vae_variants.datasets import load_dataset
    from vae_variants.harness import Store
    from vae_variants.harness.files import make_folder
    from vae_variants.harness.store import slug
    from vae_variants.integrations.export import find_run, write_codes, write_model, write_onnx

    load_plugins(plugin or ())
    if to not in TARGETS:
        raise UserError(closest("target", to, TARGETS))
    folder, record = find_run(run, Store(runs), dataset, seed)
    if dataset not in (None, used := record.dataset["name"]) and to != "codes":
        raise UserError(f"{run!r} was made with --dataset {used}, not {dataset}; only --to codes takes another data set")
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
        write_codes(model, record.label, load_dataset(dataset or used), path)
    else:
        write_model(model, record, seed, path)
    print(f"wrote {path}")
