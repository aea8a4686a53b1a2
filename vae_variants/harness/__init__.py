"""Specs, the runner, and the store of what runs leave behind."""

from vae_variants.harness.protocols import Quiet, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.runner import run_all
from vae_variants.harness.spec import RunSpec, parse_seeds, unique
from vae_variants.harness.store import Store
from vae_variants.harness.suites import Suite, load_suite, suite_files

__all__ = ["Quiet", "Record", "RunSpec", "Store", "Suite", "Watcher", "load_suite", "parse_seeds", "run_all", "suite_files", "unique"]
