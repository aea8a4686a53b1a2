"""What a registered thing has to look like, seen without running it: the first look at what others write."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from vae_variants.datasets import DATASETS
from vae_variants.evaluation import METRICS, Metric
from vae_variants.models.base import MODELS, Density, Model, Player
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.networks import NETWORKS, Network
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.registry import Registry
from vae_variants.variants import VARIANTS, Variant, parameters, takes

__all__ = ["FORMS", "watch"]

SUPPORTS = ", ".join(f"Support.{support.name}" for support in Support)
PLAIN = (bool, int, float, str, list, tuple)  # what a selector can set


def derived(obj: Any, base: type, name: str) -> str:
    """What is wrong with a class that has to be a finished one of `base`."""
    if not (isinstance(obj, type) and issubclass(obj, base)):
        return f"is not a class derived from {base.__name__}; write class {name}({base.__name__})"
    if missing := sorted(getattr(obj, "__abstractmethods__", ())):
        return f"is abstract still; write {' and '.join(f'{method}()' for method in missing)} in class {name}"
    return ""


def options(obj: Callable[..., Any], given: tuple[str, ...]) -> str:
    """What is wrong with the options of a constructor or function whose other arguments are `given`."""
    try:
        found = inspect.signature(obj).parameters
    except (TypeError, ValueError):
        return "has no signature that can be read; write it as a plain function"
    bare = [p.name for p in found.values() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing := [name for name in given if name not in found]:
        return f"does not take {missing[0]!r}, which it is given; write it among the arguments"
    if wrong := [name for name in bare if name not in given]:
        return f"has an option {wrong[0]!r} without a default; write {wrong[0]}=..., since a selector may leave it out"
    unset = {name: value for name, value in parameters(obj).items() if not isinstance(value, PLAIN)}
    if unset := {name: value for name, value in unset.items() if name not in (*given, "likelihood", "objective")}:
        name, value = next(iter(unset.items()))
        return f"has an option {name}={value!r}, which no selector can set; give it a number, a text or true or false for a default"
    return ""


def likelihood(obj: Any) -> str:
    name = getattr(obj, "__name__", "")
    if fault := derived(obj, Likelihood, name):
        return fault
    if not isinstance(getattr(obj, "support", None), Support):
        return f"has no support; write support = one of {SUPPORTS} in class {name}: where its pixels lie"
    if obj.support is Support.BYTE and not takes(obj, "levels"):
        return f"lives on the stored grey levels; write levels: int = 256 among the arguments of {name}.__init__, whose number it is given"
    if not (isinstance(k := getattr(obj, "k", 1), int) and k > 0):
        return f"has k = {k!r}; k is the number of the decoder's outputs per pixel, such as 1"
    return options(obj, ())


def objective(obj: Any) -> str:
    if not callable(obj):
        return "is not a function; write def name(d): ... of Draws"
    found = list(inspect.signature(obj).parameters.values())
    if not found or found[0].default is not inspect.Parameter.empty:
        return "takes no Draws; write def name(d, option=1.0): ..."
    return options(obj, (found[0].name,))


def model(obj: Any) -> str:
    name = getattr(obj, "__name__", "")
    if fault := derived(obj, Model, name):
        return fault
    if not takes(obj, "likelihood") and not isinstance(getattr(obj, "support", None), Support):
        return f"has no support; write support = one of {SUPPORTS} in class {name}, or take a likelihood, whose support it has then"
    if issubclass(obj, Density) and not isinstance(getattr(obj, "exact", None), bool):
        return f"does not say whether its log_prob is exact; write exact = True, or False for a bound, in class {name}"
    if not isinstance(obj.players, tuple) or not all(isinstance(player, Player) for player in obj.players):
        return f"has players that are none; write players = (Player(), ...) in class {name}"
    if absent := [player.loss for player in obj.players if not callable(getattr(obj, player.loss, None))]:
        return f"has no method {absent[0]!r}, which a player minimises; write def {absent[0]}(self, x, t) in class {name}"
    return options(obj, ("shape", *(each for each in ("likelihood", "objective") if takes(obj, each))))


def network(obj: Any) -> str:
    if not isinstance(obj, Network) or not (callable(obj.encoder) and callable(obj.decoder)):
        return "is not a network; write Network(encoder, decoder, description)"
    return ""


def variant(obj: Any) -> str:
    if not isinstance(obj, Variant):
        return 'is not a variant; write Variant(name, description, reference, {"model": "vae", ...})'
    if "model" not in obj.config:
        return 'names no model; write {"model": "vae", ...} for its configuration'
    return ""


def dataset(obj: Any) -> str:
    if not callable(obj):
        return "is not a function; write def name(): ... that returns split(...)"
    return options(obj, ("path",) if takes(obj, "path") else ())


def metric(obj: Any) -> str:
    if not isinstance(obj, Metric):
        return "is not a metric; decorate a function with @metric(unit=..., better=...) in place of METRICS.add"
    if not isinstance(obj.unit, str) or not obj.unit.strip():
        return 'has no unit; write unit="nats", "fraction", "ratio" or what its figure counts'
    return ""


def study(obj: Any) -> str:
    from vae_variants.studies import Study  # brings matplotlib; whoever adds one has it

    name = getattr(obj, "__name__", "")
    if fault := derived(obj, Study, name):
        return fault
    if missing := [part for part in ("claim", "source", "criterion") if not isinstance(getattr(obj, part, None), str)]:
        return f"has no {missing[0]}; write {missing[0]} = a sentence in class {name}"
    return ""


FORMS: dict[str, Callable[[Any], str]] = {
    LIKELIHOODS.kind: likelihood,
    OBJECTIVES.kind: objective,
    MODELS.kind: model,
    NETWORKS.kind: network,
    VARIANTS.kind: variant,
    DATASETS.kind: dataset,
    METRICS.kind: metric,
    "study": study,
}


def watch(*registries: Registry[Any]) -> None:
    """From now on these take nothing that is not of the form of their kind."""
    for registry in registries:
        registry.form = FORMS[registry.kind]


watch(LIKELIHOODS, OBJECTIVES, MODELS, NETWORKS, VARIANTS, DATASETS, METRICS)
