"""A trained model on its way out: as safetensors with its configuration, as ONNX, and the codes of a data set."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vae_variants.components import chosen
from vae_variants.datasets import Dataset, parse
from vae_variants.datasets.own import images, npz, source_ids
from vae_variants.harness import Record, Store
from vae_variants.harness.files import DAMAGE, make_folder, replace_file, save_tensors, unpacked
from vae_variants.harness.store import RECORD
from vae_variants.models.base import Coder, Encoder, Model
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, build

__all__ = ["TOLERANCE", "find_run", "read_model", "write_codes", "write_model", "write_onnx"]

FORMAT = "vae-variants 1"  # of the metadata of a model's file
TOLERANCE = 1e-5  # between PyTorch and ONNX: absolute, and relative to what is larger than 1
OPSET = 20
SHORTEST = 4  # characters of a key
AT_ONCE = 1000  # images
TRIED = (1, 3)  # images in a batch, when an ONNX file is checked: the number is not to be fixed in it


def find_run(name: str, store: Store, dataset: str | None = None, seed: int | None = None) -> tuple[Path, Record]:
    """A run by its folder, its label, or the beginning of its key: of several that are the same run the newest.

    Of different runs of a name those that were made with `dataset` and have `seed`, if any are. Raises `UserError`.
    """
    folder = Path(name).parent if Path(name).name == RECORD else Path(name)
    if (folder / RECORD).is_file():
        record = store.read(folder / RECORD)
        if record is None:
            raise UserError(f"{name!r} has no readable {RECORD}")
        return folder, record
    records = list(store.records())
    found = [(path, r) for path, r in records if r.label == name or (len(name) >= SHORTEST and r.key.startswith(name))]
    if not found:
        labels = ", ".join(dict.fromkeys(r.label for _, r in records)) or "none"
        raise UserError(f"there is no run {name!r} in {str(store.root)!r}: give its folder, its label or its key; labels: {labels}")
    found = [(path, r) for path, r in found if r.dataset["name"] == dataset] or found
    found = [(path, r) for path, r in found if seed in r.seeds] or found
    if len({r.identity for _, r in found}) > 1:
        runs = [r for _, r in found]
        how = "choose by --dataset, or name one" if len({r.dataset["name"] for r in runs}) > 1 else "name one"
        raise UserError(f"{len(runs)} runs are called {name!r}; {how} by its key: {'; '.join(told_apart(runs))}")
    return max(found, key=lambda item: item[1].started)


def told_apart(records: Sequence[Record]) -> list[str]:
    """Of each its key, its data set, when it was made, and those of its options that not all have."""
    said = [{key: json.dumps(value).strip('"') for key, value in r.values.items()} for r in records]
    own = [key for key in dict.fromkeys(key for values in said for key in values) if len({values.get(key) for values in said}) > 1]
    return [
        f"{r.key[:12]} ("
        + ", ".join(
            [
                r.dataset["name"],
                r.fidelity,
                f"{len(r.seeds)} seed{'s' * (len(r.seeds) > 1)}",
                *(f"{key}={values[key]}" for key in own if key in values),
                r.started[:16].replace("T", " "),
            ]
        )
        + ")"
        for r, values in zip(records, said, strict=True)
    ]


def write_model(model: Model, record: Record, seed: int, path: Path) -> None:
    """The state of one seed's model, with all that `read_model` needs among the metadata, as JSON."""
    kept = ("name", "digest", "shape", "levels")
    configuration = {"label": record.label, "values": record.values, "dataset": {k: record.dataset[k] for k in kept}, "seed": seed}
    known = {"support": record.support, "fidelity": record.fidelity, "run": record.key, "code": record.code}
    save_tensors(path, model.state_dict(), format=FORMAT, configuration=json.dumps(configuration | known))


def read_model(path: Path, seed: int | None = None) -> Model:
    """The model that `write_model` wrote. Raises `UserError` where it did not, or for another seed than the file's."""
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
    """An untrained model of a configuration and what is recorded of its data. Raises `UserError` where a part of it is a plug-in's."""
    for kind in chosen():
        if kind.key in values and values[kind.key] not in kind.registry:
            mend = "if that is a plug-in's, give its file: load(..., plugin=FILE), or --plugin FILE of a command"
            raise UserError(f"{label!r} was trained with the {kind.name} {values[kind.key]!r}, which is not registered; {mend}")
    like = SimpleNamespace(shape=tuple(dataset["shape"]), levels=dataset["levels"])
    return build(Configuration(label, values), cast(Dataset, like))


class Half(nn.Module):
    """One method of a model, as a module of its own."""

    def __init__(self, model: Model, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.method)(x)


def write_onnx(model: Model, label: str, folder: Path) -> dict[str, float | None]:
    """encoder.onnx and decoder.onnx, as far as the model has them -> for each how far it is from the model, None if not tried.

    encoder: `image` (batch, D) in [0, 1] -> `code` (batch, Z); decoder: `code` -> `image`, the mean of p(x | z). The batch is of any
    size. Raises `UserError` for a model with neither, without the package `onnxscript`, and where a file does not do what the model does.
    """
    if not isinstance(model, Encoder):
        raise UserError(f"{label!r} has neither an encoder nor a decoder, so that there is nothing to export to ONNX")
    if find_spec("onnxscript") is None or find_spec("onnx") is None:
        raise UserError("export to ONNX takes the packages onnx and onnxscript: python -m pip install 'vae-variants[onnx]'")
    make_folder(folder)
    image = torch.rand(max(TRIED), math.prod(model.shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        code = model.encode(image)
    found = {"encoder.onnx": one_half(model, "encode", image, ("image", "code"), label, folder / "encoder.onnx")}
    if isinstance(model, Coder):
        found["decoder.onnx"] = one_half(model, "decode", code, ("code", "image"), label, folder / "decoder.onnx")
    return found


def one_half(model: Model, method: str, x: Tensor, names: tuple[str, str], label: str, path: Path) -> float | None:
    half = Half(model, method).eval()
    with silent():
        program = torch.onnx.export(
            half,
            (x,),
            dynamo=True,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.model.doc_string = f"{method} of {label}"
    about = {"label": label, "method": method, "shape": json.dumps(model.shape), "support": model.support.value}
    program.model.metadata_props.update(about)
    replace_file(path, program.model_proto.SerializeToString())
    error = distance(half, x, path)
    if error is not None and not error <= TOLERANCE:
        path.unlink()
        raise UserError(
            f"{method} of {label!r} as ONNX is {error:.1e} away from the model, where {TOLERANCE:g} are allowed; nothing is kept"
        )
    return error


@contextmanager
def silent() -> Iterator[None]:
    """Without what the exporter says of itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def distance(half: nn.Module, x: Tensor, path: Path) -> float | None:
    """Largest difference between the model and the file, over what is larger than 1, in batches of `TRIED`; None without onnxruntime."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,), errors = [i.name for i in session.get_inputs()], list[float]()
    for n in TRIED:
        with torch.no_grad():
            expected = half(x[:n])
        (given,) = session.run(None, {name: x[:n].numpy()})
        errors.append(((torch.from_numpy(given) - expected).abs() / expected.abs().clamp(min=1)).max().item())
    return max(errors)


def write_codes(model: Model, label: str, dataset: Dataset, path: Path) -> None:
    """Codes of all images of a data set, with their labels and what each image is called where it comes from, as .npz or .csv.

    A code is `encode` of the grey image, for a VAE the posterior mean. The archive has for each split `train`, `validation` and `test`
    codes (N, Z), `train_ids` ..., and where there are labels `train_labels` ... with `classes`; the table a row for each image.
    """
    if not isinstance(model, Encoder):
        raise UserError(f"{label!r} has no encoder, and so no codes")
    if dataset.shape != model.shape:
        raise UserError(f"{label!r} takes images of {model.shape}, and {dataset.name!r} has images of {dataset.shape}")
    if path.suffix not in (".npz", ".csv"):
        raise UserError(f"codes are written to a file .npz or .csv, not {path.name!r}")
    with torch.no_grad():
        codes = {part: torch.cat([model.encode(x) for x in dataset.grey(part).split(AT_ONCE)]).numpy() for part in dataset.sizes}
    ids = ids_of(dataset)
    if path.suffix == ".npz":
        arrays: dict[str, np.ndarray] = {**codes, **{f"{part}_ids": np.array(names) for part, names in ids.items()}}
        if dataset.labels is not None:
            arrays |= {f"{part}_labels": y.numpy() for part, y in dataset.labels.items()}
            arrays["classes"] = np.array(dataset.classes)
        packed = io.BytesIO()
        np.savez(packed, **arrays)  # type: ignore[arg-type]
        replace_file(path, packed.getvalue())
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    width = next(iter(codes.values())).shape[1]
    table.writerow(["split", "id", *(["label"] if dataset.labels else []), *(f"z{i}" for i in range(width))])
    for part, rows in codes.items():
        for i, row in enumerate(rows):
            name = [dataset.classes[int(dataset.labels[part][i])]] if dataset.labels and dataset.classes else []
            table.writerow([part, ids[part][i], *name, *map(repr, row.tolist())])
    replace_file(path, text.getvalue().encode())


def ids_of(dataset: Dataset) -> dict[str, list[str]]:
    """Of one's own images file names or rows of `x`, of others the place within their split."""
    load, common = parse(dataset.name)
    if load.func in (images, npz):  # type: ignore[attr-defined]
        return source_ids(load, common["train"])  # type: ignore[arg-type]
    return {part: [str(i) for i in range(n)] for part, n in dataset.sizes.items()}
