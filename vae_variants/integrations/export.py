"""Export of a trained model as safetensors or ONNX, and of the latents of a data set."""

import io
import json
import logging
import math
import warnings
from collections.abc import Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vae_variants.components import chosen
from vae_variants.datasets import Dataset
from vae_variants.harness import Record, Store
from vae_variants.harness.files import DAMAGE, make_folder, replace_file, save_tensors, unpacked
from vae_variants.harness.store import RECORD
from vae_variants.integrations.graphs import written_out
from vae_variants.models.base import Coder, Encoder, Model
from vae_variants.registry import UserError, user_path
from vae_variants.variants import Configuration, build

FORMAT = "vae-variants 1"  # in the metadata of a model's file
TOLERANCE = 1e-5  # between PyTorch and ONNX: absolute, and relative above 1
OPSET = 20
SHORTEST = 4  # characters of a key
AT_ONCE = 1000  # images
ROUNDINGS = 4  # the limit grows by that many times the rounding error of the model itself
TRIED = (1, 3)  # batch sizes that an ONNX file is tested with: its batch axis must be dynamic


def find_run(name: str, store: Store, dataset: str | None = None, seed: int | None = None) -> tuple[Path, Record]:
    """Find a run and its folder.

    Args:
        name: the run's folder, its label, or the beginning of its key.
        dataset, seed: preferred if several runs have the name. Of repetitions of one run the newest is taken.

    Raises:
        UserError: there is no such run, or several different ones.
    """
    folder = user_path(name).parent if Path(name).name == RECORD else user_path(name)
    if (folder / RECORD).is_file():
        record = store.read(folder / RECORD)
        if record is None:
            raise UserError(f"{name!r} has no readable {RECORD}")
        return folder, record
    records = list(store.records())
    found = [(path, r) for path, r in records if r.label == name or (len(name) >= SHORTEST and r.key.startswith(name))]
    if not found:
        labels = ", ".join(dict.fromkeys(r.label for _, r in records)) or "none"
        raise UserError(f"there is no run {name!r} in {str(store.root)!r}; give its folder, its key or one of the labels: {labels}")
    found = [(path, r) for path, r in found if r.dataset["name"] == dataset] or found
    found = [(path, r) for path, r in found if seed in r.seeds] or found
    runs = [r for _, r in found]
    if len({r.identity for r in runs}) > 1:
        how = "choose by --dataset, or name one" if len({r.dataset["name"] for r in runs}) > 1 else "name one"
        raise UserError(f"{len(runs)} runs are called {name!r}; {how} by its key: {'; '.join(told_apart(runs))}")
    return max(found, key=lambda item: item[1].age)


def told_apart(records: Sequence[Record]) -> list[str]:
    """Key of each run with its data set, time, and the options in which the runs differ."""
    values = [{key: json.dumps(value).strip('"') for key, value in r.values.items()} for r in records]
    differing = [key for key in {key: None for each in values for key in each} if len({each.get(key) for each in values}) > 1]
    found = []
    for r, each in zip(records, values, strict=True):
        options = [f"{key}={each[key]}" for key in differing if key in each]
        seeds = f"{len(r.seeds)} seed{'s' * (len(r.seeds) > 1)}"
        found.append(f"{r.key[:12]} ({', '.join([r.dataset['name'], r.fidelity, seeds, *options, r.started[:16].replace('T', ' ')])})")
    return found


def write_model(model: Model, record: Record, seed: int, path: Path) -> None:
    """Write the state of one seed's model, with what `read_model` needs as JSON in the metadata."""
    dataset = {key: record.dataset[key] for key in ("name", "digest", "shape", "levels", "sizes", "classes") if key in record.dataset}
    configuration = {"label": record.label, "values": record.values, "dataset": dataset, "seed": seed}
    origin = {"support": record.support, "fidelity": record.fidelity, "run": record.key, "code": record.code}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}  # tied weights share memory
    save_tensors(path, state, format=FORMAT, configuration=json.dumps(configuration | origin))


def read_model(path: Path, seed: int | None = None) -> Model:
    """Read a file of `write_model`. Raises `UserError` for any other file, and for another seed than the file's."""
    try:
        state, metadata = unpacked(path.read_bytes())
        if metadata.get("format") != FORMAT:
            raise UserError(f"{str(path)!r} is not a model that `vae-variants export` wrote: its metadata have no format {FORMAT!r}")
        found = json.loads(metadata["configuration"])
        if seed not in (None, found["seed"]):
            raise UserError(f"{str(path)!r} is the model of seed {found['seed']}, not of {seed}")
        model = rebuilt(found["label"], found["values"], found["dataset"])
        model.load_state_dict(state)
    except FileNotFoundError:
        raise UserError(f"there is no file {str(path)!r}") from None
    except (*DAMAGE, RuntimeError) as error:
        raise UserError(f"{str(path)!r} is not a model that can be read: {str(error).splitlines()[0][:200]}") from error
    return model.eval().requires_grad_(False)


def rebuilt(label: str, values: dict[str, Any], dataset: dict[str, Any]) -> Model:
    """An untrained model of a record's values and data set. Raises `UserError` if a component is not registered."""
    for kind in chosen():
        if kind.key in values and values[kind.key] not in kind.registry:
            fix = "if it is a plug-in's, give its file: load(..., plugin=FILE), or --plugin FILE of a command"
            raise UserError(f"{label!r} was trained with the {kind.name} {values[kind.key]!r}, which is not registered; {fix}")
    counts = {"sizes": dataset.get("sizes", {"train": 0}), "classes": range(dataset.get("classes") or 0)}  # earlier files have neither
    like = SimpleNamespace(shape=tuple(dataset["shape"]), levels=dataset["levels"], **counts)
    return build(Configuration(label, values), cast(Dataset, like))


class Half(nn.Module):
    """One method of a model as a module, which the ONNX exporter takes."""

    def __init__(self, model: Model, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.method)(x)


def write_onnx(model: Model, label: str, folder: Path) -> dict[str, float | None]:
    """Write encoder.onnx and decoder.onnx, as far as the model has them.

    encoder: `image` (batch, D) in [0, 1] -> `code` (batch, Z). decoder: `code` -> `image`, the mean of p(x | z). The batch has any size.

    Returns:
        For each file the largest difference from the model, None if onnxruntime is not installed.

    Raises:
        UserError: the model has no encoder, a package is missing, or a file differs from the model by more than `TOLERANCE` and a
            few of the model's rounding errors. Then no file is written.
    """
    if not isinstance(model, Encoder):
        raise UserError(f"{label!r} has neither an encoder nor a decoder, so there is nothing to export to ONNX")
    if find_spec("onnxscript") is None or find_spec("onnx") is None:
        raise UserError("export to ONNX needs the packages onnx and onnxscript; install them: python -m pip install 'vae-variants[onnx]'")
    image = torch.rand(max(TRIED), math.prod(model.shape), generator=torch.Generator().manual_seed(0))
    halves = {"encoder.onnx": onnx_half(model, "encode", image, ("image", "code"), label)}
    if isinstance(model, Coder):
        with torch.no_grad():
            code = model.encode(image)
        halves["decoder.onnx"] = onnx_half(model, "decode", code, ("code", "image"), label)
    make_folder(folder)
    for name, (content, _) in halves.items():
        replace_file(folder / name, content)
    return {name: error for name, (_, error) in halves.items()}


def onnx_half(model: Model, method: str, x: Tensor, names: tuple[str, str], label: str) -> tuple[bytes, float | None]:
    """The file of one method, and how far it is from the model."""
    half = Half(deepcopy(model), method).eval()
    program = onnx_program(half, x, names, f"{method} of {label!r}")
    program.model.doc_string = f"{method} of {label}"
    about = {"label": label, "method": method, "shape": json.dumps(model.shape), "support": model.support.value}
    program.model.metadata_props.update(about)
    content: bytes = program.model_proto.SerializeToString()
    error = distance(half, x, content)
    if error is not None and not error <= (limit := TOLERANCE + ROUNDINGS * rounding(half, x)):
        raise UserError(f"{method} of {label!r} as ONNX is {error:.1e} away from the model (limit {limit:.1g}); no file was written")
    return content, error


def onnx_program(half: nn.Module, x: Tensor, names: tuple[str, str], what: str) -> torch.onnx.ONNXProgram:
    """The program of a module; one that takes gradients is traced with its gradients written out. Raises `UserError` if neither works."""
    shapes, reason = ({0: torch.export.Dim("batch")},), ""
    options: dict[str, Any] = {"dynamo": True, "opset_version": OPSET, "dynamic_shapes": shapes, "verbose": False}
    loggers = {logger: logger.level for logger in map(logging.getLogger, ("torch.onnx", "onnxscript"))}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        for written in (False, True):
            with warnings.catch_warnings(action="ignore"):
                try:
                    module = written_out(half, x) if written else half
                    program = torch.onnx.export(module, (x,), input_names=names[:1], output_names=names[1:], **options)
                except Exception as error:  # by a tracer, of any kind
                    reason = told(error)
                else:
                    assert program is not None
                    return program
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
    raise UserError(f"{what} cannot be written as ONNX: {reason}; export it as safetensors, and load it with vae_variants.load")


def told(error: BaseException) -> str:
    """The first line of what caused an error."""
    while error.__cause__:
        error = error.__cause__
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)


@torch.no_grad()
def distance(half: nn.Module, x: Tensor, content: bytes) -> float | None:
    """Largest difference between model and file over batches of `TRIED`; None without onnxruntime."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    return max(difference(torch.from_numpy(session.run(None, {source: x[:n].numpy()})[0]), half(x[:n])) for n in TRIED)


@torch.no_grad()
def rounding(half: nn.Module, x: Tensor) -> float:
    """Largest difference between the model in float32 and in float64: a file in float32 cannot be nearer than that."""
    try:
        found = difference(half(x).double(), deepcopy(half).double()(x.double()))
    except RuntimeError:  # it makes tensors of float32 itself
        return 0.0
    return found if math.isfinite(found) else 0.0


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, absolute and relative above 1; infinite if a value is not finite in one of them alone."""
    apart = torch.where(found == expected, 0, (found - expected).abs() / expected.abs().clamp(min=1))
    return apart.nan_to_num(nan=math.inf, posinf=math.inf).max().item()


def write_codes(model: Model, label: str, dataset: Dataset, path: Path) -> None:
    """Write the latents of all images of a data set, with labels and with the images' names, as .npz or .csv.

    A latent is `encode` of the grey image; for a VAE that is the posterior mean. For each split (train, validation, test) the archive
    has latents (N, Z) under its name, names under `train_ids` and labels under `train_labels`; `classes` has the names of the labels.
    The table has a row for each image. Raises `UserError` for a model without encoder, images of another shape, or another suffix.
    """
    if not isinstance(model, Encoder):
        raise UserError(f"{label!r} has no encoder, so it has no latents")
    if dataset.shape != model.shape:
        raise UserError(f"{label!r} takes images of {model.shape}, and {dataset.name!r} has images of {dataset.shape}")
    if path.suffix not in (".npz", ".csv"):
        raise UserError(f"latents are written to a .npz or .csv file, not to {path.name!r}")
    with torch.no_grad():
        codes = {part: torch.cat([model.encode(x) for x in dataset.grey(part).split(AT_ONCE)]).numpy() for part in dataset.sizes}
    ids = dataset.ids or {part: tuple(map(str, range(n))) for part, n in dataset.sizes.items()}
    labels, classes = dataset.labels or {}, np.array(dataset.classes)
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {**codes, **{f"{part}_ids": np.array(names) for part, names in ids.items()}}
        arrays |= {f"{part}_labels": y.numpy() for part, y in labels.items()} | ({"classes": classes} if labels else {})
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        replace_file(path, packed.getvalue())
        return
    import pandas as pd

    tables = []
    for part, z in codes.items():
        names = {"split": part, "id": ids[part], **({"label": classes[labels[part].numpy()]} if labels and dataset.classes else {})}
        tables.append(pd.DataFrame(names).join(pd.DataFrame(z.astype(float)).add_prefix("z")))
    replace_file(path, pd.concat(tables).to_csv(index=False, lineterminator="\n").encode())
