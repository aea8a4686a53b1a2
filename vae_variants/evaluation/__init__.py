"""One evaluator for every model: metrics are functions of an `Evaluation`; importing this registers those of the project."""

from vae_variants.evaluation import latent as _latent  # noqa: F401

# isort: off  (the order of the imports is the order of the columns in a report)
from vae_variants.evaluation import likelihood as _likelihood  # noqa: F401
from vae_variants.evaluation import probe as _probe  # noqa: F401
from vae_variants.evaluation import reconstruction as _reconstruction  # noqa: F401
from vae_variants.evaluation import sharpness as _sharpness  # noqa: F401
from vae_variants.evaluation import speed as _speed  # noqa: F401
from vae_variants.evaluation.evaluation import FIDELITIES, Evaluation, Fidelity, fidelity
from vae_variants.evaluation.metrics import METRICS, Metric, Skip, Value, evaluate, metric

# isort: on

__all__ = ["FIDELITIES", "METRICS", "Evaluation", "Fidelity", "Metric", "Skip", "Value", "evaluate", "fidelity", "metric"]
