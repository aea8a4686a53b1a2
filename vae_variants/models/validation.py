"""What a registered model, likelihood, objective or network must look like, seen without running it."""

import inspect
from typing import Any

from vae_variants.components import class_fault, options_fault, parts, takes
from vae_variants.models.base import MODELS, Density, Model, Player
from vae_variants.models.code_priors import CODE_PRIORS, CodePrior
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.networks import NETWORKS, Network
from vae_variants.models.objectives import OBJECTIVES, Term
from vae_variants.models.posteriors import POSTERIORS, Conditional, Posterior
from vae_variants.models.priors import PRIORS, Prior
from vae_variants.models.quantizers import QUANTIZERS, Quantizer
from vae_variants.models.regularizers import REGULARIZERS
from vae_variants.models.samplers import SAMPLERS, LatentSampler

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
@REGULARIZERS.validator
def term(obj: Any) -> str:
    if isinstance(obj, type):
        return class_fault(obj, Term) or options_fault(obj, ("latent",) if takes(obj, "latent") else ())
    if not callable(obj):
        return "is not a function; write def name(d): ... of Draws"
    found = list(inspect.signature(obj).parameters.values())
    if not found or found[0].default is not inspect.Parameter.empty:
        return "takes no Draws; write def name(d, option=1.0): ..."
    return options_fault(obj, (found[0].name,))


@PRIORS.validator
def prior(obj: Any) -> str:
    return class_fault(obj, Prior) or options_fault(obj, ("latent",))


@POSTERIORS.validator
def posterior(obj: Any) -> str:
    if fault := class_fault(obj, Posterior):
        return fault
    gives = getattr(obj, "gives", None)
    if not (isinstance(gives, type) and issubclass(gives, Conditional)):
        return f"does not say what it gives; write gives = Diagonal, or another class derived from Conditional, in class {obj.__name__}"
    return options_fault(obj, ("latent",))


@SAMPLERS.validator
def sampler(obj: Any) -> str:
    return class_fault(obj, LatentSampler) or options_fault(obj, ("latent",))


@QUANTIZERS.validator
def quantizer(obj: Any) -> str:
    return class_fault(obj, Quantizer) or options_fault(obj, ())


@CODE_PRIORS.validator
def code_prior(obj: Any) -> str:
    return class_fault(obj, CodePrior) or options_fault(obj, ("size", "codes"))


def owns_texts(owns: Any) -> bool:
    return isinstance(owns, tuple) and len(owns) > 0 and all(isinstance(start, str) for start in owns)


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
    if wrong := [player.owns for player in obj.players if not owns_texts(player.owns)]:
        return f"has a player that owns {wrong[0]!r}; give a tuple of texts that begin the names of its parameters, such as ('generator.',)"
    if absent := [player.loss for player in obj.players if not callable(getattr(obj, player.loss, None))]:
        return f"has no method {absent[0]!r}, which a player minimises; write def {absent[0]}(self, x, t) in class {name}"
    return options_fault(obj, ("shape", *(part.key for part in parts() if takes(obj, part.key))))


@NETWORKS.validator
def network(obj: Any) -> str:
    if isinstance(obj, Network):
        return "" if callable(obj.encoder) and callable(obj.decoder) else "has no encoder or decoder that can be called"
    if not callable(obj):
        return "is not a network; write Network(encoder, decoder, description), or a function of options that returns one"
    return options_fault(obj, ())
