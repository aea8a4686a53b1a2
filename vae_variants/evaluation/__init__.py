"""One evaluator for every model: metrics are functions of an `Evaluation`; importing this registers those of the project."""
# ruff: noqa: F401, I001  (the order of the imports is the order of the metrics in a report)

from vae_variants.evaluation import likelihood as _likelihood
from vae_variants.evaluation import gap as _gap
from vae_variants.evaluation import calibration as _calibration
from vae_variants.evaluation import reconstruction as _reconstruction
from vae_variants.evaluation import random_features as _random_features
from vae_variants.evaluation import given_networks as _given_networks
from vae_variants.evaluation import probe as _probe
from vae_variants.evaluation import latent as _latent
from vae_variants.evaluation import layers as _layers
from vae_variants.evaluation import classes as _classes
from vae_variants.evaluation import codes as _codes
from vae_variants.evaluation import disentanglement as _disentanglement
from vae_variants.evaluation import sharpness as _sharpness
from vae_variants.evaluation import spectrum as _spectrum
from vae_variants.evaluation import distance as _distance
from vae_variants.evaluation import speed as _speed
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.fidelities import FIDELITIES, Fidelity, fidelity
from vae_variants.evaluation.metrics import METRICS, Metric, Skip, Value, evaluate, metric

__all__ = ["FIDELITIES", "METRICS", "Evaluation", "Fidelity", "Metric", "Skip", "Value", "evaluate", "fidelity", "metric"]
