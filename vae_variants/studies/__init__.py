"""One file per claim; every module here is imported, and importing registers."""

from importlib import import_module
from pkgutil import iter_modules

from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Effect, Findings, Judgement, Picture, Study, Table, Verdict

__all__ = ["STUDIES", "Effect", "Findings", "Judgement", "Lab", "Picture", "Study", "Table", "Verdict"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
