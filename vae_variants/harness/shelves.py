"""The shelf of a folder of runs: one file for each thing, which depends on data, code and machine."""

import hashlib
from functools import partial
from pathlib import Path

import torch

from vae_variants.evaluation import features, given_networks
from vae_variants.evaluation.shelf import Compute, Shelf, Tensors
from vae_variants.harness.environment import cpu_name
from vae_variants.harness.files import load_tensors, make_folder, save_tensors
from vae_variants.harness.fingerprint import digest
from vae_variants.harness.limits import release_memory
from vae_variants.harness.locks import training_lock
from vae_variants.harness.store import Store

FOLDER = "shelf"
SOURCES = frozenset(Path(module.__file__ or "") for module in (features, given_networks))


def shelf_in(store: Store) -> Shelf:
    """A shelf that processes share. It changes no figure: another machine or number of threads has files of its own."""
    return partial(find, store)


def find(store: Store, what: str, compute: Compute) -> Tensors:
    """What was kept, or else is computed now by one process while others wait. A damaged file is set aside."""
    machine = (cpu_name(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), torch.__version__)
    key = hashlib.sha256(repr((what, digest(SOURCES, evaluation=False), machine)).encode()).hexdigest()
    path = store.root / FOLDER / f"{key[:32]}.safetensors"
    if (found := load_tensors(path, key=key)) is not None:
        return found
    with training_lock(store, key):
        if (found := load_tensors(path, key=key)) is not None:
            return found
        release_memory()
        computed = compute()
        make_folder(path.parent)
        save_tensors(path, computed, key=key)
    return computed
