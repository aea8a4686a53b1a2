"""What a stranger types or sends: one clear line or a result; never a traceback, a hang, or a file outside the folder of runs.

`FUZZ=10000 nox -s faults` tries as many of each.
"""

from __future__ import annotations

import io
import json
import os
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tests.made_up import grid, made_up
from vae_variants.cli.options import seconds
from vae_variants.cli.status import planned_rows
from vae_variants.datasets import load_dataset
from vae_variants.datasets.folder import album
from vae_variants.datasets.walk import SUFFIXES
from vae_variants.evaluation import fidelity
from vae_variants.harness import Record, RunSpec, Store, load_suite, parse_seeds
from vae_variants.harness.files import load_tensors, seal, unseal
from vae_variants.harness.limits import parse_memory
from vae_variants.registry import UserError
from vae_variants.variants import configure

pytestmark = pytest.mark.usefixtures("digits")  # loaded before any case: scikit-learn takes longer than a case may
MANY = int(os.environ.get("FUZZ", "150"))
CALM = settings(
    max_examples=MANY,
    deadline=5000,  # milliseconds: what takes longer hangs
    derandomize=MANY < 1000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
KEYS = ["likelihood", "latent", "hidden", "epochs", "samples", "sigma", "objective", "network", "lr", "decay", "model", "beta", "label"]
WORDS = [*KEYS, "vae", "made", "gan", "ae", "gaussian", "iwae", "cosine", "conv", "200-200", "-1", "0", "1e309", "nan", "inf", "9" * 400]
PIECES = st.sampled_from([*WORDS, *"[]=,|?:&-. ", "\x00", "\n", "`", "../", "٣", "²", "\ud800"])
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map("".join))
SELECTORS = st.one_of(
    TEXTS,
    st.builds(
        lambda name, options: f"{name}[{','.join(f'{k}={v}' for k, v in options)}]",
        st.sampled_from(["vae", "made", "gan", "autoencoder", "vae-bernoulli", "pca"]),
        st.lists(
            st.tuples(st.sampled_from(KEYS), st.one_of(st.sampled_from(WORDS), st.integers().map(str), st.floats().map(str))), max_size=5
        ),
    ),
)


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """Relative names lead to nothing of this machine's."""
    monkeypatch.chdir(tmp_path)


def in_one_line(call, *args):
    """What `call` gives, or None where it has said in one line what is wrong."""
    try:
        return call(*args)
    except UserError as error:
        said = str(error)
    assert said.strip()
    assert len(said.splitlines()) == 1, said
    return None


@CALM
@given(SELECTORS)
def test_selectors(text):
    for chosen in in_one_line(configure, text) or ():
        spec = RunSpec(chosen, "digits", (0,), "smoke")
        assert json.loads(spec.identity)
        folder = Store("runs").locate(spec, "0" * 64)
        assert folder.resolve().is_relative_to(Path("runs").resolve())
        assert chosen.label.isprintable()
        assert "`" not in chosen.label


@CALM
@given(TEXTS)
def test_seeds_times_sizes_and_fidelities(text):
    for parse in (parse_seeds, seconds, parse_memory, fidelity):
        in_one_line(parse, text)


@CALM
@given(st.one_of(TEXTS, st.builds("npz:{}".format, TEXTS), st.builds("digits?{}".format, TEXTS), st.builds("images:{}".format, TEXTS)))
def test_names_of_data(text):
    if text.startswith("images:") and (".." in text or "images:/" in text or "~" in text):
        return  # all pictures of this machine
    if text.partition("?")[0].strip() not in ("mnist", "fashion-mnist", "kmnist", "emnist-letters", "cifar10", "svhn"):
        in_one_line(load_dataset, text)


# -- suites ------------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXTS), inner, max_size=4)),
    max_leaves=8,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "0" if value is None else repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else json.dumps(value)


BLOCKS = st.fixed_dictionaries(
    {"variants": st.one_of(st.lists(SELECTORS, max_size=3), VALUES)}, optional={"seeds": VALUES, "defaults": VALUES}
)
SUITES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda members: "\n".join(f"{k} = {toml(v)}" for k, v in members.items()).encode(errors="surrogatepass"),
        st.fixed_dictionaries(
            {},
            optional={
                "dataset": st.one_of(st.just("digits"), VALUES),
                "seeds": st.one_of(st.just(2), VALUES),
                "fidelity": st.one_of(st.just("smoke"), VALUES),
                "description": VALUES,
                "defaults": st.one_of(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), VALUES),
                "runs": st.one_of(VALUES, st.lists(BLOCKS, max_size=2)),
                "more": VALUES,
            },
        ),
    ),
)  # fmt: skip


@CALM
@given(SUITES)
def test_suites(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    suite = in_one_line(load_suite, str(path))
    if suite is not None:
        for spec in in_one_line(suite.plan) or ():
            assert json.loads(spec.identity)


def test_a_suite_that_is_fuzzed_can_be_right(tmp_path):
    content = {"dataset": "digits", "seeds": 2, "defaults": {"latent": 3}, "runs": [{"variants": ["vae"], "defaults": {"hidden": [3, 4]}}]}
    (tmp_path / "mine.toml").write_text("\n".join(f"{k} = {toml(v)}" for k, v in content.items()))
    assert tomllib.loads((tmp_path / "mine.toml").read_text()) == content
    assert load_suite(str(tmp_path / "mine.toml")).plan()[0].configuration.values["hidden"] == [3, 4]


# -- records and tensors -----------------------------------------------------------------------------------------------

RECORD = made_up(grid(1, (0,))[0])


@CALM
@given(
    st.sampled_from([*json.loads(unseal(RECORD.to_json())), "new"]),
    VALUES,
    st.booleans(),
    st.sampled_from(["digest", "values", "dataset", ""]),
)
def test_records_with_a_part_of_another_kind(tmp_path, part, value, sealed, inner):
    content = json.loads(unseal(RECORD.to_json()))
    if inner and isinstance(content.get(part), dict):
        content[part] = {**content[part], inner: value}
    else:
        content[part] = value
    text = json.dumps(content, indent=1)
    read_back(tmp_path, (seal(text) if sealed else text).encode())


@CALM
@given(
    st.one_of(st.binary(max_size=300), VALUES.map(lambda value: json.dumps(value).encode()), st.integers(1, 10**5).map(lambda n: b"[" * n))
)
def test_records_that_are_none(tmp_path, content):
    read_back(tmp_path, content)


def read_back(root: Path, content: bytes) -> None:
    """It is a record, or it is set aside; whatever it says, nothing is written but beside it."""
    store, before = Store(root), {path for path in root.rglob("*") if "damaged" not in path.name}
    folder = root / "data" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_bytes(content)
    for _, record in store.records():
        assert isinstance(record, Record)
        assert Record.from_json(record.to_json()) == record or record != record
        assert record.ok in (True, False)
        assert isinstance(record.current, bool)
    for name in ("record.json", "record.json.damaged"):  # as it is found where nothing has looked at it before
        if (folder / name).is_file():
            (folder / name).rename(folder / "record.json")
            in_one_line(lambda: store.newest([RECORD.identity]))
    after = {path for path in root.rglob("*") if "damaged" not in path.name}
    assert after - before <= {root / "data", folder, folder / "record.json"}


RUN = {"key": "0" * 64, "label": "vae", "dataset": "digits", "seeds": [0], "fidelity": "smoke"}
MEMBERS = st.fixed_dictionaries({}, optional={name: st.one_of(st.just(value), VALUES) for name, value in RUN.items()})


@CALM
@given(
    st.one_of(
        st.binary(max_size=300),
        VALUES.map(lambda value: json.dumps(value).encode()),
        st.integers(1, 10**5).map(lambda n: b"[" * n),
        st.builds(
            lambda runs, sealed: (seal if sealed else str)(json.dumps({"schema": 1, "runs": runs}, indent=1)).encode(),
            st.one_of(VALUES, st.lists(st.one_of(MEMBERS, st.just(RUN), VALUES), max_size=3)),
            st.booleans(),
        ),
    )
)
def test_plans(tmp_path, content):
    """One is shown, or it is set aside, and a new one can be written in its place."""
    store = Store(tmp_path)
    path = store.plan([RUN])
    path.write_bytes(content)
    in_one_line(planned_rows, store)
    assert path.is_file() or path.with_name(f"{path.name}.damaged").read_bytes() == content
    path.write_bytes(content)
    assert store.plan([RUN]) == path
    assert store.planned() == {RUN["key"]: RUN}


@CALM
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda n, rest: n.to_bytes(8, "little") + rest, st.integers(0, 2**64 - 1), st.binary(max_size=200)),
    )
)
def test_tensors(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert load_tensors(path) is None or path.is_file()


# -- data --------------------------------------------------------------------------------------------------------------

DTYPES = st.sampled_from(
    [np.uint8, np.int64, np.float32, np.float64, np.bool_, np.complex64, np.dtype("U3"), np.dtype("S2"), np.dtype("M8[s]")]
)
ARRAYS = DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)))


def archive(members: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **members)
    return file.getvalue()


def enormous(shape: tuple[int, ...]) -> bytes:
    """An archive that says of an array that it has this shape, and holds next to nothing."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        packed.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 10)
    return file.getvalue()


@CALM
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(archive, st.fixed_dictionaries({}, optional={"x": ARRAYS, "y": ARRAYS, "z": ARRAYS})),
        st.builds(lambda y: archive({"x": np.zeros((40, 3, 3), np.uint8), "y": y}), ARRAYS),
        st.builds(enormous, st.lists(st.integers(-(2**40), 2**62), max_size=4).map(tuple)),
        st.builds(lambda at, value: cut(at, value), st.integers(0, 2000), st.integers(0, 255)),
    )
)
def test_npz_files(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    in_one_line(load_dataset, f"npz:{path}")
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def cut(at: int, value: int) -> bytes:
    """A sound archive of which one byte is another."""
    content = bytearray(archive({"x": np.arange(40 * 9, dtype=np.uint8).reshape(40, 3, 3), "y": np.arange(40) % 2}))
    content[at % len(content)] = value
    return bytes(content)


def drawn(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(file, format=kind)
    return file.getvalue()


DRAWN = {kind: drawn(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")}


def spoilt(kind: str, changes: list[tuple[int, int]], length: int) -> bytes:
    content = bytearray(DRAWN[kind])
    for at, value in changes:
        content[at % len(content)] = value
    return bytes(content[: length or None])


@CALM
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(bytes.__add__, st.sampled_from([b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P6 ", b"II*\0", b"\xff\xd8"]), st.binary()),
        st.builds(
            spoilt,
            st.sampled_from(sorted(DRAWN)),
            st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
            st.integers(0, 400),
        ),
    ),
    st.sampled_from(sorted(SUFFIXES)),
)
def test_pictures(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    found = in_one_line(album, str(tmp_path), 8, "auto", True, "refuse")
    assert found is None or found.stored.shape in ((1, 1, 8, 8), (1, 3, 8, 8))
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()


@pytest.mark.parametrize("shape", [(2**62, 1, 1), (2**40, 28, 28), (-1, 3, 3), (10**9,)])
def test_an_array_that_says_it_is_enormous_takes_no_memory(tmp_path, shape):
    (tmp_path / "a.npz").write_bytes(enormous(shape))
    with pytest.raises(UserError, match=r"not a readable|than there is memory for"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")
