"""What a registered model, likelihood, objective or network must look like, seen without running it."""

import inspect
from typing import Any

from vae_variants.components import class_fault, options_fault, parts, takes
from vae_variants.models.base import MODELS, Density, Model, Player
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.networks import NETWORKS, Network
from vae_variants.models.objectives import OBJECTIVES

SUPPORTS = ", ".join(f"Support.{support.name}" for support in Support)


@LIKELIHOODS.validator
def likelihood(obj: Any) -> str:
    if fault := class_fault(obj, Likelihood):
        return fault
    name = obj.__name__
    if not isinstance(getattr(obj, "support", None), Support):
        return f"has no support; write support = one of {SUPPORTS} in class {name}: where its pixels lie"
    if obj.support is Support.BYTE and not takes(obj, "levels"):
        return f"lives on the stored grey levels; write levels: int = 256 among the arguments of {name}.__init__, whose number it is given"
    if not (isinstance(k := getattr(obj, "k", 1), int) and k > 0):
        return f"has k = {k!r}; k is the number of the decoder's outputs per pixel, such as 1"
    return options_fault(obj, ())


@OBJECTIVES.validator
def objective(obj: Any) -> str:
    if not callable(obj):
        return "is not a function; write def name(d): ... of Draws"
    found = list(inspect.signature(obj).parameters.values())
    if not found or found[0].default is not inspect.Parameter.empty:
        return "takes no Draws; write def name(d, option=1.0): ..."
    return options_fault(obj, (found[0].name,))


@MODELS.validator
def model(obj: Any) -> str:
    if fault := class_fault(obj, Model):
        return fault
    name = obj.__name__
    if not takes(obj, "likelihood") and not isinstance(getattr(obj, "support", None), Support):
        return f"has no support; write support = one of {SUPPORTS} in class {name}, or take a likelihood, whose support it has then"
    if issubclass(obj, Density) and not isinstance(getattr(obj, "exact", None), bool):
        return f"does not say whether its log_prob is exact; write exact = True, or False for a bound, in class {name}"
    if not isinstance(obj.players, tuple) or not all(isinstance(player, Player) for player in obj.players):
        return f"has players that are none; write players = (Player(), ...) in class {name}"
    if wrong := [player.prefix for player in obj.players if not isinstance(player.prefix, str)]:
        return f"has a player with the prefix {wrong[0]!r}; give one text that begins the names of its parameters, such as 'generator.'"
    if absent := [player.loss for player in obj.players if not callable(getattr(obj, player.loss, None))]:
        return f"has no method {absent[0]!r}, which a player minimises; write def {absent[0]}(self, x, t) in class {name}"
    return options_fault(obj, ("shape", *(part.key for part in parts() if part.build and takes(obj, part.key))))


@NETWORKS.validator
def network(obj: Any) -> str:
    if not isinstance(obj, Network) or not (callable(obj.encoder) and callable(obj.decoder)):
        return "is not a network; write Network(encoder, decoder, description)"
    return ""
