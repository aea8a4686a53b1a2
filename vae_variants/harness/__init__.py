"""Plans, makes and stores runs."""

from vae_variants.harness.plan import run_all
from vae_variants.harness.protocols import Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, parse_seeds, unique
from vae_variants.harness.store import Store
from vae_variants.harness.suites import Suite, load_suite, suite_files

__all__ = ["Record", "RunSpec", "Store", "Suite", "Watcher", "load_suite", "parse_seeds", "run_all", "suite_files", "unique"]
