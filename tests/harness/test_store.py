"""What lies in the folder of runs: whole or set aside, of any age, found by what decided it, and written by one at a time."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.harness.test_runner import CPU, figures, spec
from vae_variants.harness import Record, Store, Watcher, fingerprint, run_all, trainings
from vae_variants.harness.files import load_tensors, load_with_metadata, save_tensors, seal, unseal
from vae_variants.harness.locks import PendingRun, Queue, training_lock
from vae_variants.harness.migrate import microseconds
from vae_variants.harness.record import NewerSchema
from vae_variants.harness.store import CHECKPOINT, MODEL, RECORD
from vae_variants.variants import VARIANTS, Variant

DATA = Path(__file__).parents[1] / "data"
SMALL = "vae[hidden=4,latent=2,epochs=2]"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Record, Store]:
    store = Store(tmp_path_factory.mktemp("runs"))
    return run_all([spec(SMALL)], store, CPU)[0], store


def without_loss(*_):
    pytest.fail("trained again")


# -- damage ------------------------------------------------------------------------------------------------------------


def flipped(content: bytes, place: int) -> bytes:
    return content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]


def test_every_flipped_bit_and_every_cut_of_a_record_is_seen(done):
    content, chance = done[0].to_json().encode(), random.Random(0)
    ends = [8 * len(content) - 1 - i for i in range(8 * 90)]  # the seal itself
    for place in [*ends, *(chance.randrange(8 * len(content)) for _ in range(300))]:
        with pytest.raises(ValueError):  # noqa: PT011  (whatever the reason)
            Record.from_json(flipped(content, place).decode())
    for length in [*range(len(content) - 90, len(content)), *(chance.randrange(len(content)) for _ in range(50))]:
        with pytest.raises(ValueError):  # noqa: PT011
            Record.from_json(content[:length].decode())


def test_every_flipped_bit_and_every_cut_of_tensors_is_seen_and_the_file_set_aside(tmp_path, capsys):
    path, chance = tmp_path / "a.safetensors", random.Random(0)
    tensors = {"x": torch.randn(40), "n": torch.arange(5)}
    save_tensors(path, tensors, key="one")
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    places = [*range(8 * (8 + length)), *(chance.randrange(8 * len(content)) for _ in range(200))]
    for place in places:
        path.write_bytes(flipped(content, place))
        assert load_tensors(path, key="one") is None
        assert not path.exists(), place
        assert path.with_name("a.safetensors.damaged").read_bytes() == flipped(content, place)
    for length in (*range(0, len(content), 7), len(content) - 1):
        path.write_bytes(content[:length])
        assert load_tensors(path) is None
    assert all("is damaged and was set aside" in line for line in capsys.readouterr().err.splitlines())
    path.write_bytes(content)
    found, metadata = load_with_metadata(path, key="one")
    assert metadata == {"key": "one"}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("name", [RECORD, MODEL, CHECKPOINT])
def test_a_flipped_bit_is_one_line_and_the_run_is_made_again(name, done, tmp_path, capsys, monkeypatch):
    record, _ = done
    store = Store(tmp_path / "runs")
    if name == CHECKPOINT:
        monkeypatch.setattr(trainings, "CHECKPOINT_SECONDS", 0.0)

        class Interrupt(Watcher):
            def epoch(self, spec, done, of):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_all([spec(SMALL)], store, CPU, watcher=Interrupt())
    else:
        shutil.copytree(done[1].root, store.root)
    path = store.locate(spec(SMALL), record.key) / name
    path.write_bytes(flipped(path.read_bytes(), 8 * (path.stat().st_size - 200) + 3))
    if name == MODEL:
        (path.parent / RECORD).unlink()
    (again,) = run_all([spec(SMALL)], store, CPU)
    assert figures(again) == figures(record)
    assert path.with_name(f"{name}.damaged").is_file()
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged and was set aside" in line


# -- age ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5])
def test_records_of_every_schema_can_be_read(schema):
    record = Record.from_json((DATA / f"record-{schema}.json").read_text())
    assert (record.schema, record.meaning, record.label) == (5, min(schema, 2), SMALL)
    assert record.ok
    assert math_of(record)
    assert Record.from_json(record.to_json()) == record
    then = spec(SMALL[:-1] + ",activation=tanh,lr=0.001]")  # the defaults when it was written
    assert (record.identity == then.identity) == (schema > 1)
    assert not record.current or schema >= 3
    assert record.order == (microseconds(record.started) if schema < 4 else 1790000000000000)


def math_of(record: Record) -> bool:
    return record.value("elbo", 0) < 0 and len(record.curves["train_loss"]) == 2 and record.epoch_seconds != []


def aged(record: Record, store: Store, change=lambda content: None) -> Path:
    """Puts the record back as schema 2 had it, at its place."""
    path = store.locate(spec(SMALL), record.key) / RECORD
    content = json.loads(unseal(record.to_json()))
    for name in ("meaning", "code", "failure", "order"):
        del content[name]
    content |= {"schema": 2, "trained": {k: v for k, v in content["trained"].items() if k != "code"}}
    change(content)
    path.write_text(json.dumps(content, indent=1))
    return path


def test_a_store_of_before_is_used_flagged_and_made_again_when_asked(done, tmp_path, monkeypatch):
    record, store = done[0], Store(tmp_path / "runs")
    shutil.copytree(done[1].root, store.root)
    old = aged(record, store)
    old.parent.rename(other := old.parent.with_name("vae-0123456789ab"))  # keys were other ones
    state, metadata = load_with_metadata(other / MODEL)
    save_tensors(other / MODEL, state, **{k: v for k, v in metadata.items() if k != "code"})
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "train", without_loss)
        (found,) = run_all([spec(SMALL)], store, CPU)
        assert not found.current
        assert figures(found) == figures(record)
        level = spec(SMALL, level="smoke[bound_samples=20]")
        (further,) = run_all([level], store, CPU)
        assert further.code == level.code
        assert not further.current, "its models are of older code"
    (again,) = run_all([spec(SMALL)], store, CPU, retry="older")
    assert again.current
    assert again.key == record.key
    assert figures(again) == figures(record)
    newest = store.newest([record.identity])[record.identity][1]
    assert newest == again
    assert (other / RECORD).is_file(), "what there was is kept"
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "train", without_loss)
        assert run_all([spec(SMALL)], store, CPU, retry="older") == [again]


def test_a_record_without_its_seal_is_none(done):
    with pytest.raises(ValueError, match="without its digest"):
        Record.from_json(unseal(done[0].to_json()))
    content = json.loads(unseal(done[0].to_json()))
    with pytest.raises(NewerSchema):
        Record.from_json(json.dumps(content | {"schema": 6, "new": 1}))
    with pytest.raises(ValueError, match="not a record"):
        Record.from_json(seal(json.dumps({**content, "schema": True}, indent=1)))


# -- the code ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The package's files in a folder of their own."""
    root = tmp_path_factory.mktemp("copied") / "vae_variants"
    shutil.copytree(fingerprint.PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "added.py").write_text("LIMIT = 3\n")
    return root


@pytest.fixture
def changed(copied, monkeypatch):
    """Changes one of these files until the test is over. What has not changed is read once for all tests."""
    package, root, real, before = fingerprint.PACKAGE, copied, fingerprint.sources, dict[Path, str]()

    def move(path: Path) -> Path:
        return root / path.relative_to(package)

    monkeypatch.setattr(fingerprint, "PACKAGE", root)
    monkeypatch.setattr(fingerprint, "sources", lambda part: frozenset(map(move, real(part))))

    def change(file: str, old: str, new: str) -> None:
        before[root / file] = text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))
        monkeypatch.setitem(fingerprint.versions, root / file, new)

    yield change
    for path, text in before.items():
        path.write_text(text)


CHANGES = [  # file, what stands there, what would: whether training, and whether the figures, of a VAE might differ
    ("models/base.py", '"""', '"""Other words. ', False, False),
    ("training/batches.py", "MANY = 2**17  # numbers", "MANY = 2**17  # other numbers", False, False),
    ("report/content.py", "SIGNIFICANT = 0.05", "SIGNIFICANT = 0.01", False, False),
    ("cli/app.py", "no_args_is_help=True", "no_args_is_help=False", False, False),
    ("harness/trainings.py", "CHECKPOINT_SECONDS = 30.0", "CHECKPOINT_SECONDS = 60.0", False, False),
    ("datasets/own.py", "FEWEST = 30", "FEWEST = 40", False, False),
    ("variants/families/adversarial.py", "model=\"gan\", lr=1e-3", "model=\"gan\", lr=2e-3", False, False),
    ("models/gan.py", "return ", "return 2 * ", False, False),
    ("models/vae.py", "return ", "return 2 * ", True, True),
    ("training/batches.py", "MANY = 2**17", "MANY = 2**18", True, True),
    ("models/likelihoods.py", ".sum(-1)", ".mean(-1)", True, True),
    ("variants/recipe.py", "batch: int = 100", "batch: int = 200", True, True),
    ("datasets/dataset.py", "BINARISATION_SEED = 777", "BINARISATION_SEED = 778", True, True),
    ("evaluation/probe.py", "import", "import sys, ", False, True),
    ("harness/measured.py", "images / throughput", "images / throughput / 2", False, True),
    ("harness/measured.py", "def costs(", "def halved(x):\n    return x / 2\n\n\ndef costs(", False, True),
    ("harness/measured.py", "import math\n", "import math\nimport vae_variants.added\n", False, True),
    ("training/setup.py", "import torch\n", "import torch\nfrom vae_variants import added\n", True, True),
    ("components.py", "SMOKE = \"", "SMOKE = \"--quiet ", True, True),  # it also builds models
    ("harness/measured.py", "* 1024\n", "* 1000\n", False, True),
    ("harness/environment.py", "PACKAGES = (", "PACKAGES = (None, ", False, False),
    ("training/throughput.py", "return ", "return 2 * ", False, True),
    ("datasets/downloads.py", "return ", "return 2 * ", False, False),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "training", "figure"), CHANGES)
def test_the_fingerprint_sees_what_can_change_a_number_and_nothing_else(file, old, new, training, figure, changed):
    values = spec(SMALL).configuration.values
    before = [fingerprint.fingerprint(values, evaluation) for evaluation in (False, True)]
    changed(file, old, new)
    after = [fingerprint.fingerprint(values, evaluation) for evaluation in (False, True)]
    assert [a != b for a, b in zip(after, before, strict=True)] == [training, figure]


def test_a_variant_or_a_path_more_changes_no_key(tmp_path, monkeypatch):
    key = spec(SMALL).key()
    monkeypatch.setitem(VARIANTS, "newcomer", Variant("newcomer", "", "", {"model": "vae"}))
    monkeypatch.chdir(tmp_path)
    assert spec(SMALL).key() == key
    monkeypatch.setattr("vae_variants.harness.spec.fingerprint", lambda values, evaluation=True: "other")
    assert spec(SMALL).key() != key
    assert spec(SMALL).identity == spec(SMALL).identity


# -- several at a time -------------------------------------------------------------------------------------------------


def test_the_plan_is_there_before_the_first_run(tmp_path):
    store, plan = Store(tmp_path), [spec(SMALL), spec("reference-pca-2")]
    keys = [one.key() for one in plan]

    class First(Watcher):
        def begin(self, spec):
            assert list(store.planned()) == keys
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_all(plan, store, CPU, watcher=First())
    (file,) = (tmp_path / "plans").iterdir()
    kept = store.planned()[keys[0]]
    assert kept["values"] == plan[0].configuration.values
    assert kept["digest"] == json.loads(unseal(file.read_text()))["runs"][1]["digest"]
    file.write_text(file.read_text().replace("vae", "vax", 1))
    assert store.planned() == {}
    run_all(plan[1:], store, CPU)
    assert list(store.planned()) == keys[1:]


def test_what_another_invocation_is_at_waits_and_its_record_is_taken(done, tmp_path):
    record, store = done[0], Store(tmp_path)
    first, second = (Queue([PendingRun(spec(SMALL), record.key)], store) for _ in range(2))
    assert first.take() == PendingRun(spec(SMALL), record.key)
    assert second.take() is None
    assert second
    store.put(store.folder(spec(SMALL), record.key), record)
    first.done(record.key)
    assert second.take() == record
    assert not second
    again = Queue([PendingRun(spec(SMALL), record.key, replaces=record.started)], store)
    assert isinstance(again.take(), PendingRun), "that record is the one that does not do"
    again.close()
    with training_lock(store, spec(SMALL).training_key()):
        assert Queue([PendingRun(spec(SMALL), record.key)], store).take() is None


def one_of_two(root: Path, barrier, turn: int) -> tuple[list[str], list[str]]:
    """Labels of the runs that it makes, and the keys of all."""
    made = []

    class Begun(Watcher):
        def begin(self, spec):
            made.append(spec.label)

    plan = [spec(f"vae[hidden=4,latent={latent},epochs=2]") for latent in (2, 3, 4, 5)]
    barrier.wait(120)
    records = run_all(plan if turn else plan[::-1], Store(root), CPU, watcher=Begun())
    return made, [record.key for record in (records if turn else records[::-1])]


def the_other(root: Path, barrier, out) -> None:
    torch.set_num_threads(1)
    out.put(one_of_two(root, barrier, 1))


def test_two_invocations_on_one_store_share_the_work(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(2), context.Queue()
    process = context.Process(target=the_other, args=(tmp_path, barrier, out))
    process.start()
    made, keys = one_of_two(tmp_path, barrier, 0)
    others, same = out.get(timeout=120)
    process.join()
    assert keys == same
    assert len(keys) == len(set(keys)) == len([*made, *others]) == 4
    assert set(made).isdisjoint(others)
    assert sorted(record.key for _, record in Store(tmp_path).records()) == sorted(keys)


def test_what_a_dead_process_left_half_written_is_removed(tmp_path):
    store = Store(tmp_path)
    left = store.folder(spec(SMALL), spec(SMALL).key()) / f"{RECORD}.4711.tmp"
    left.write_text("{")
    run_all([spec(SMALL)], store, CPU)
    assert not left.exists()


def test_hostile_labels_and_records_stay_in_the_folder(done, tmp_path):
    record, store = done[0], Store(tmp_path / "runs")
    for label in ("../../outside", "/etc/passwd", "..", "a/../../b", "\x00", "x" * 5000):
        chosen = spec(SMALL)
        chosen = replace(chosen, configuration=replace(chosen.configuration, label=label), dataset=label)
        folder = store.locate(chosen, record.key)
        assert folder.resolve().is_relative_to(store.root.resolve())
        assert re.fullmatch(r"[A-Za-z0-9.=-]+", folder.name)
        assert ".." not in folder.parts
