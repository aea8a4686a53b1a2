"""The shelf of a folder of runs: what is kept, what is computed again, and that no figure depends on it."""

import threading
from pathlib import Path

import pytest
import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation.features import Classifier, classifier
from vae_variants.evaluation.shelf import keeping, kept
from vae_variants.harness import Store, shelves
from vae_variants.harness.shelves import FOLDER, shelf_in

STEPS = 10


def fresh(dataset: Dataset, store: Store | None) -> tuple[Classifier, float]:
    """The classifier as a new process gets it."""
    classifier.cache_clear()
    try:
        if store is None:
            return classifier(dataset, STEPS)
        with keeping(shelf_in(store)):
            return classifier(dataset, STEPS)
    finally:
        classifier.cache_clear()


def files(store: Store) -> list[Path]:
    return sorted((store.root / FOLDER).glob("*.safetensors"))


def test_a_kept_classifier_is_the_trained_one_and_draws_no_random_numbers(digits: Dataset, tmp_path: Path):
    store, (expected, accuracy) = Store(tmp_path), fresh(digits, None)
    for _ in range(2):
        torch.manual_seed(0)
        model, found = fresh(digits, store)
        assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(0))
        assert (model.digest, found) == (expected.digest, accuracy)
        assert torch.equal(model.embed(digits.grey()), expected.embed(digits.grey()))
        assert not any(p.requires_grad for p in model.parameters())
        assert len(files(store)) == 1


def test_a_second_process_computes_nothing(tmp_path: Path):
    counts, store = [], Store(tmp_path)

    def compute() -> dict[str, torch.Tensor]:
        counts.append(1)
        return {"x": torch.arange(3.0)}

    def ask() -> None:
        with keeping(shelf_in(store)):
            assert kept("x of some data", compute)["x"].tolist() == [0, 1, 2]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    ask()
    assert len(counts) == 1
    assert kept("x of some data", compute)["x"].tolist() == [0, 1, 2]  # outside the context nothing is kept
    assert len(counts) == 2


@pytest.mark.parametrize("damage", [b"", b"nothing", None], ids=["empty", "foreign", "one byte"])
def test_a_damaged_file_is_computed_again(damage: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = Store(tmp_path)
    with keeping(shelf_in(store)):
        kept("x", lambda: {"x": torch.ones(2)})
        (path,) = files(store)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content) if damage is None else damage)
        assert kept("x", lambda: {"x": torch.zeros(2)})["x"].tolist() == [0, 0]
        assert kept("x", lambda: {"x": torch.ones(2)})["x"].tolist() == [0, 0]
    assert "is damaged" in capsys.readouterr().err


def test_data_code_and_machine_have_files_of_their_own(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store(tmp_path)
    fresh(digits, store)
    fresh(digits.subset(500, 100), store)
    monkeypatch.setattr(shelves, "digest", lambda *_, **__: "other code")
    fresh(digits, store)
    monkeypatch.setattr(shelves, "cpu_name", lambda: "another machine")
    fresh(digits, store)
    assert len(files(store)) == 4
