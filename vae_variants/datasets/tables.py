"""Pictures in Parquet files: a column of encoded pictures, as Hugging Face stores them, and a column of labels."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from vae_variants.datasets.walk import Picture, Walk, listed
from vae_variants.registry import UserError

PICTURES, LABELS = ("image", "img", "picture", "photo"), ("label", "labels", "class", "target")  # names of columns


class Table:
    """One Parquet file, read by groups of rows.

    Raises:
        UserError: If pyarrow is not installed, or the file is not readable, or it has no column of pictures.
    """

    def __init__(self, file: Path) -> None:
        try:
            from pyarrow import ArrowException, parquet, types
        except ImportError as error:
            fix = "install it: python -m pip install 'vae-variants[parquet]'"
            raise UserError(f"{str(file)!r} needs the package pyarrow to be read; {fix}") from error
        self.shown, self.broken = str(file), (OSError, ValueError, ArrowException)
        try:
            self.stored = parquet.ParquetFile(file)
        except self.broken as error:
            raise UserError(f"{self.shown!r} is not a readable Parquet file: truncated, or of another format; write it again") from error
        self.features = features_in((self.stored.schema_arrow.metadata or {}).get(b"huggingface", b""))
        bare = {column.name: column.type for column in self.stored.schema_arrow}
        inner = {
            name: kind.field("bytes").type for name, kind in bare.items() if types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        }
        encoded = [name for name, kind in (bare | inner).items() if types.is_binary(kind) or types.is_large_binary(kind)]
        self.column = self.named("Image", PICTURES, encoded) or next(iter(encoded), "")
        if not self.column:
            raise UserError(f"{self.shown!r} has no column of encoded pictures (bytes); it has {listed(list(bare))}")
        self.label = self.named("ClassLabel", LABELS, list(bare))
        self.group = lru_cache(maxsize=1)(self.read)

    def named(self, kind: str, names: Sequence[str], there: Sequence[str]) -> str:
        """The first column of that Hugging Face type or, else, with one of the names."""
        typed = [name for name, feature in self.features.items() if feature.get("_type") == kind]
        return next((name for name in (*typed, *names) if name in there), "")

    def read(self, group: int) -> Any:
        return self.stored.read_row_group(group, columns=[self.column]).column(0)

    def open(self, group: int, row: int) -> IO[bytes]:
        """One encoded picture. Raises `OSError`."""
        try:
            value = self.group(group)[row].as_py()
        except self.broken as error:
            raise OSError(str(error).splitlines()[0]) from error
        value = value.get("bytes") if isinstance(value, dict) else value
        if value is None:
            raise OSError("the table has no bytes for it, at most a path")
        return io.BytesIO(value)

    def places(self) -> list[tuple[int, int]]:
        """Group and row in it of each picture."""
        about = self.stored.metadata
        return [(group, row) for group in range(about.num_row_groups) for row in range(about.row_group(group).num_rows)]

    def labels(self) -> list[Any]:
        """Class of each picture, by name if the file names classes; all empty if there is no column of labels or one has none."""
        rows = self.stored.metadata.num_rows
        if not self.label:
            return [""] * rows
        try:
            values = self.stored.read(columns=[self.label]).column(0).to_pylist()
        except self.broken as error:
            raise UserError(f"{self.shown!r} has a column {self.label!r} that cannot be read; write it again") from error
        if any(not isinstance(value, int | str) or value == -1 for value in values):  # Hugging Face writes -1 for none
            return [""] * rows
        named = self.features.get(self.label, {}).get("names")
        names = dict(enumerate(named if isinstance(named, list) else ()))
        return [names.get(value, value) for value in values]


def features_in(text: bytes) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of the columns; empty if there is none that can be understood."""
    try:
        found = json.loads(text)["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def tabulated(root: Path, files: Sequence[Path]) -> Walk:
    """The pictures in Parquet files, named by their path below `root` and a number: train/0000017. Raises `UserError`."""
    walk, count = Walk(), Counter[str]()
    for file in files:
        words = re.sub(r"-\d+-of-\d+$", "", file.stem)  # of files with a number the rows are counted on
        below = file.relative_to(root).parent.parts if file != root else ()
        folder = "/".join([*below, *([] if words.isdigit() else [words])])
        table = Table(file)
        walk.labels += table.labels()
        for group, row in table.places():
            name = f"{folder}/{count[folder]:07}".lstrip("/")
            walk.files.append(Picture(name, f"{file}, row {count[folder]}", partial(table.open, group, row)))
            count[folder] += 1
    if "" in walk.labels:
        walk.labels = [""] * len(walk.files)
    return walk
