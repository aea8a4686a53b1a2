"""One file per claim; every module here is imported, and importing registers."""

from importlib import import_module
from pkgutil import iter_modules

from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Effect, Findings, Judgement, Picture, Study, Table, Verdict

__all__ = ["STUDIES", "Effect", "Findings", "Judgement", "Lab", "Picture", "Study", "Table", "Verdict"]

TEXTBOOK = (  # the order of its claims, and so that of the page
    "one_sample", "posterior_shape", "elbo_gap", "features", "sampling_speed", "blur", "likelihood_choice", "better_elbo",
)  # fmt: skip

for _name in dict.fromkeys([*TEXTBOOK, *(module.name for module in iter_modules(__path__))]):
    import_module(f"{__name__}.{_name}")
