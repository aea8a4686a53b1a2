"""The named configurations, and the selectors by which a command line spells any other."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vae_variants import models as _models  # noqa: F401  (importing registers)
from vae_variants.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.model import MODELS, Model
from vae_variants.networks import ACTIVATIONS, NETWORKS
from vae_variants.objectives import OBJECTIVES
from vae_variants.precision import PRECISIONS
from vae_variants.registry import Registry, UserError, closest
from vae_variants.training import DECAYS, Recipe

if TYPE_CHECKING:
    from vae_variants.datasets import Dataset

__all__ = ["VARIANTS", "Configuration", "Variant", "build", "configure", "convert", "split_selector"]

PROVIDED = ("shape", "levels")  # constructor arguments that come from the data set, not from a configuration


@dataclass(frozen=True)
class Variant:
    """A name for a choice of arguments: `config` holds what differs from the defaults of its model."""

    name: str
    description: str
    reference: str
    config: Mapping[str, Any]


VARIANTS: Registry[Variant] = Registry("variant")


@dataclass(frozen=True)
class Configuration:
    """Everything that decides a number, after defaults: flat, plain values; `label` is only what it is called."""

    label: str
    values: Mapping[str, Any]
    description: str = ""
    reference: str = ""

    @property
    def recipe(self) -> Recipe:
        return Recipe(**{f.name: self.values[f.name] for f in fields(Recipe) if f.name in self.values})

    @property
    def support(self) -> Support:
        likelihood = self.values.get("likelihood")
        return LIKELIHOODS[likelihood].support if likelihood else MODELS[self.values["model"]].support

    def with_defaults(self, **overrides: Any) -> Configuration:
        """The same with other values where this model knows the key; the rest of `overrides` does not concern it."""
        known = {k: convert(k, v, self.values[k]) for k, v in overrides.items() if k in self.values}
        return replace(self, values=complete({**self.values, **known}))


CHOICES: dict[str, Registry[Any]] = {"likelihood": LIKELIHOODS, "objective": OBJECTIVES}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of what a configuration may set on a constructor or objective."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.kind is not p.VAR_KEYWORD and p.default is not p.empty and p.name not in PROVIDED}


def takes(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with every default of its recipe, model, likelihood and objective written out.

    Raises `UserError` for a key that none of them knows, naming those that they do.
    """
    model = MODELS[given["model"]]
    values: dict[str, Any] = {"model": given["model"]}
    if model.players:
        values |= {f.name: f.default for f in fields(Recipe)}
    arguments = parameters(model)
    arguments.pop("objective", None)
    if takes(model, "likelihood"):
        values["likelihood"] = given.get("likelihood", "bernoulli")
        arguments |= parameters(LIKELIHOODS[values["likelihood"]])
    if takes(model, "objective"):
        values["objective"] = given.get("objective", "elbo")
        arguments |= parameters(OBJECTIVES[values["objective"]])
    values |= arguments
    for key, value in given.items():
        if key not in values:
            homes = [
                f"{kind}={name}"
                for kind, registry in CHOICES.items()
                if kind in values
                for name in registry
                if key in parameters(registry[name])
            ]
            hint = f"; {key!r} is an option of {' or '.join(homes)}" if homes else ""
            raise UserError(f"{closest('option', key, values)} (of model {given['model']!r}){hint}")
        if key not in ("model", "likelihood", "objective"):
            value = convert(key, value, values[key])
        values[key] = value
    if "network" in values:
        NETWORKS[values["network"]]
    if values.get("activation", "tanh") not in ACTIVATIONS:
        raise UserError(closest("activation", values["activation"], ACTIVATIONS))
    if values.get("decay", "constant") not in DECAYS:
        raise UserError(closest("decay", values["decay"], DECAYS))
    if values.get("precision", "fp32") not in PRECISIONS:
        raise UserError(closest("precision", values["precision"], PRECISIONS))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def convert(key: str, value: Any, like: Any) -> Any:
    """`value`, as given on a command line or in a suite, in the type of the default `like`."""
    try:
        if isinstance(like, (list, tuple)):
            parts = value.split("-") if isinstance(value, str) else [value] if isinstance(value, int) else value
            result: Any = [int(part) for part in parts]
            ok = len(result) > 0 and all(part > 0 for part in result)
        elif isinstance(like, bool):
            result = {"true": True, "false": False}[str(value).lower()]
            ok = True
        elif isinstance(like, int):
            result = int(value)
            ok = float(value) == result and (result > 0 or (key == "epochs" and result == 0))
        elif isinstance(like, float):
            result = float(value)
            ok = math.isfinite(result) and result >= 0 and not (result == 0 and key in ("lr", "sigma", "warm_up"))
        else:
            result, ok = str(value), True
    except (TypeError, ValueError, KeyError, OverflowError):
        ok = False
    if not ok:
        kinds = {list: "widths such as 200-200", tuple: "widths such as 200-200", bool: "true or false"}
        kinds |= {int: "a positive whole number", float: "a positive number"}
        raise UserError(f"option {key}={value!r} is not valid; it takes {kinds.get(type(like), 'a name')}")
    return result


SELECTOR = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<options>[^\[\]]*)\])?")


def matched(selector: str) -> tuple[str, str]:
    match = SELECTOR.fullmatch(selector.strip())
    if match is None or not selector.isprintable() or "`" in selector:
        raise UserError(f"selector {selector!r} is not of the form name or name[key=value,key=a|b]")
    return match["name"].strip(), match["options"] or ""


def split_selector(selector: str) -> tuple[str, dict[str, str]]:
    """`name[key=value,...]` -> name, options as text, for things that are chosen one at a time. Raises `UserError`."""
    name, options = matched(selector)
    choices = list(grid(selector, options))
    if len(choices) > 1:
        raise UserError(f"{selector!r} spans {len(choices)} choices where one is wanted")
    return name, choices[0]


def configure(selector: str, overrides: Mapping[str, Any] | None = None) -> list[Configuration]:
    """The configurations that a selector names: `vae-bernoulli`, `vae[likelihood=gaussian,sigma=0.1,latent=2|10]`.

    The name is a variant's or a model's; `a|b` spans a grid; widths are joined by hyphens (`hidden=200-200`).
    `overrides` replace the defaults of a model that knows the key, not what the variant or the selector chose.
    Raises `UserError` with the valid choices.
    """
    name, options = matched(selector)
    if name in VARIANTS:
        variant = VARIANTS[name]
    elif name in MODELS:
        variant = Variant(name, MODELS.describe(name), "", {"model": name})
    else:
        raise UserError(closest("variant or model", name, [*VARIANTS, *MODELS]))
    found = []
    for choice in grid(selector, options):
        label = name + (f"[{','.join(f'{k}={v}' for k, v in choice.items())}]" if choice else "")
        chosen = {**variant.config, **choice}
        known = complete(chosen)
        values = complete({**{k: v for k, v in (overrides or {}).items() if k in known}, **chosen})
        found.append(Configuration(label, values, variant.description, variant.reference))
    return found


def grid(selector: str, options: str) -> Iterator[dict[str, str]]:
    pairs = [part.partition("=") for part in options.split(",") if part.strip()]
    if any(not (key.strip() and equals and value.strip()) for key, equals, value in pairs):
        raise UserError(f"selector {selector!r}: each option is key=value, for example latent=10 or latent=2|10")
    keys = [key.strip() for key, _, _ in pairs]
    if "model" in keys:
        raise UserError(f"selector {selector!r}: the model comes before the bracket, as in vae[latent=10]")
    if len(set(keys)) < len(keys):
        raise UserError(f"selector {selector!r} sets an option twice")
    for values in itertools.product(*(value.split("|") for _, _, value in pairs)):
        yield dict(zip(keys, (v.strip() for v in values), strict=True))


def build(selector: str | Configuration, dataset: Dataset) -> Model:
    """An untrained model of one configuration, for images of the data set's shape and levels."""
    if isinstance(selector, str):
        configurations = configure(selector)
        if len(configurations) > 1:
            raise UserError(f"selector {selector!r} spans {len(configurations)} configurations; build takes one")
        selector = configurations[0]
    values = selector.values

    def arguments(function: Callable[..., Any]) -> dict[str, Any]:
        chosen = {k: v for k, v in values.items() if k in parameters(function) and k not in ("likelihood", "objective")}
        return chosen | ({"levels": dataset.levels} if takes(function, "levels") else {})

    model = MODELS[values["model"]]
    extra: dict[str, Any] = {}
    if "likelihood" in values:
        likelihood: type[Likelihood] = LIKELIHOODS[values["likelihood"]]
        extra["likelihood"] = likelihood(**arguments(likelihood))
    if "objective" in values:
        objective = OBJECTIVES[values["objective"]]
        extra["objective"] = partial(objective, **arguments(objective))
    return model(dataset.shape, **extra, **arguments(model))


def canonical(values: Mapping[str, Any]) -> str:
    """One spelling for equal values: sorted JSON without spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _add(name: str, description: str, reference: str, **config: Any) -> None:
    VARIANTS.add(Variant(name, description, reference, config), name=name)


KINGMA = "Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114"
BURDA = "Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders, arXiv:1509.00519"
RYBKIN = "Rybkin, Daniilidis & Levine 2021, sigma-VAE, arXiv:2006.13202"
M2 = "Kingma et al. 2014, Semi-supervised learning with deep generative models, arXiv:1406.5298 (sums over a discrete code)"
LUCAS = "Lucas et al. 2019, Don't Blame the ELBO!, NeurIPS"
SALIMANS = "Salimans et al. 2017, PixelCNN++, arXiv:1701.05517"
LOAIZA = "Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, arXiv:1907.06845"
SONDERBY = "Sonderby et al. 2016, Ladder VAE, arXiv:1602.02282"
IAF = "Kingma et al. 2016, Inverse autoregressive flow, arXiv:1606.04934"
ROEDER = "Roeder, Wu & Duvenaud 2017, Sticking the landing, arXiv:1703.09194"
TUCKER = "Tucker et al. 2019, Doubly reparameterized gradient estimators, arXiv:1810.04152"
MADE = "Germain et al. 2015, MADE, arXiv:1502.03509"

# fmt: off
_add("ae", "autoencoder with 20 codes, squared error", "Hinton & Salakhutdinov 2006, Science 313:504",
     model="autoencoder", likelihood="gaussian", latent=20)
_add("ae-gmm", "the same, and a mixture of 10 Gaussians on its codes to draw from", "Ghosh et al. 2020, RAE, arXiv:1903.12436",
     model="autoencoder-mixture", likelihood="gaussian", latent=20)
_add("vae-bernoulli", "VAE, sigmoid decoder on binarised pixels: the baseline", KINGMA, model="vae")
_add("vae-gaussian", "VAE, Gaussian decoder of constant standard deviation 1 (squared error)", KINGMA,
     model="vae", likelihood="gaussian", sigma=1.0)
_add("vae-gaussian-0.1", "VAE, Gaussian decoder with standard deviation 0.1", KINGMA, model="vae", likelihood="gaussian", sigma=0.1)
_add("vae-gaussian-learnt", "VAE, Gaussian decoder with one learnt standard deviation", RYBKIN, model="vae", likelihood="gaussian-learnt")
_add("vae-discretized", "VAE, discretized logistic over the stored grey levels", SALIMANS, model="vae", likelihood="discretized-logistic")
_add("vae-continuous-bernoulli", "VAE, continuous Bernoulli on grey pixels", LOAIZA, model="vae", likelihood="continuous-bernoulli")
for _latent in (2, 5, 10, 20, 50):
    _add(f"vae-latent-{_latent}", f"the baseline with {_latent} latent units", KINGMA, model="vae", latent=_latent)
for _samples in (8, 64):
    _add(f"vae-samples-{_samples}", f"the ELBO estimated from {_samples} draws of z per image", KINGMA, model="vae", samples=_samples)
for _samples in (8, 64):
    _add(f"iwae-{_samples}", f"importance-weighted bound with {_samples} draws", BURDA, model="vae", objective="iwae", samples=_samples)
_add("vae-stl", "the ELBO by its path gradient, without the score of q", ROEDER, model="vae", objective="stl")
_add("iwae-dreg-8", "importance-weighted bound with 8 draws, doubly reparameterised gradient", TUCKER,
     model="vae", objective="dreg", samples=8)
_add("beta-vae-4", "KL weighted by 4", "Higgins et al. 2017, beta-VAE, ICLR", model="vae", objective="beta", beta=4.0)
_add("vae-warm-up", "KL weight rising from 0 to 1 over the first 30 % of training", SONDERBY, model="vae", objective="warm-up")
_add("vae-free-bits", "at least 0.25 nats allowed to each latent unit", IAF, model="vae", objective="free-bits")
_add("vae-categorical", "VAE with one categorical code of 32 values, summed over: exact log p(x), ELBO and gap", M2,
     model="categorical-vae")
_add("vae-linear", "linear-Gaussian VAE with 20 latent units (probabilistic PCA): exact log p(x) beside its bounds", LUCAS,
     model="linear-vae", latent=20)
_add("vae-conv", "the baseline with a small convolutional network", KINGMA, model="vae", network="conv")
_add("gan", "non-saturating GAN on grey pixels, gradient penalty on real images",
     "Goodfellow et al. 2014, arXiv:1406.2661; Mescheder et al. 2018, arXiv:1801.04406", model="gan", lr=1e-3)
_add("fvbn", "logistic autoregression over pixels: exact likelihood", "Frey, Hinton & Dayan 1996, NIPS", model="fvbn")
_add("made", "masked autoregressive network, one order of the pixels", MADE, model="made")
_add("made-orders-8", "the same over 8 orders, mixed as joints", MADE, model="made", orders=8)
_add("reference-data", "real training images, as if sampled", "", model="real-data")
for _latent in (2, 5, 10, 20, 50):
    _add(f"reference-pca-{_latent}", f"{_latent} principal components", "Pearson 1901", model="pca", latent=_latent)
_add("reference-pixels", "raw pixels as the code", "", model="pixels")
_add("reference-random-projection", "Gaussian random projection to 20 codes", "", model="random-projection", latent=20)
_add("reference-random-encoder", "untrained encoder with 20 codes", "", model="random-encoder", latent=20)
