"""The table of kinds of components. Everything that depends on the kinds reads it; a new kind is one line of `KINDS`.

It imports no torch, because the command line's help reads it. A registry is made beside what it holds and found here by its kind.
Its validator (`Registry.validator`) and its conformance checks (`vae_variants.checks`) are attached to it by that kind as well.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from vae_variants.registry import Registry

TEMPLATES = Path(__file__).parent / "cli" / "templates"
PROVIDED = ("shape", "levels", "n", "classes")  # constructor arguments that come from the data set, not from a configuration
PLAIN = (bool, int, float, str, list, tuple)  # types of options that a selector can set


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Args:
        name: Its singular in messages; also the kind of its registry and its checks.
        plural: Its name for `list`.
        template: File in `cli/templates` that `new` copies; empty if there is none.
        example: What the template implements.
        trial: Command that tries a component `{name}` in a file `{file}`.
    """

    name: str
    plural: str
    template: str = ""
    example: str = ""
    trial: str = ""

    @property
    def key(self) -> str:
        """Its name in a configuration, in `new` and as an argument of a model's constructor."""
        return self.name.replace(" ", "").replace("-", "_")

    def filled(self, snake: str) -> str:
        """The template's text for a component of this name, in snake case."""
        text = (TEMPLATES / self.template).read_text(encoding="utf-8")
        return text.replace("Template", "".join(part.capitalize() for part in snake.split("_"))).replace("template", snake)

    @property
    def registry(self) -> Registry[Any]:
        """Its registry, whose module must have been imported."""
        return next(registry for registry in Registry.every if registry.kind == self.name)


def made(entry: Any, options: Mapping[str, Any]) -> Any:
    """An entry that is ready, or what a function makes of its options."""
    return entry(**options) if callable(entry) else entry


@dataclass(frozen=True)
class Part(Kind):
    """A kind of part of a model: a model takes it if its constructor has an argument of this `key`.

    Args:
        default: Name of the part if none is chosen, unless the model's `usual` says another. None: the default of the model's argument.
        build: (entry, its options) -> the argument.
    """

    default: str | None = None
    build: Callable[[Any, Mapping[str, Any]], Any] = made

    def usual(self, model: Any) -> str | None:
        """Name of the part of `model` if none is chosen."""
        return model.usual.get(self.key, self.default)


def call(entry: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    return entry(**options)


def bind(entry: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """A function with its options bound; an object of a class."""
    return entry(**options) if isinstance(entry, type) else partial(entry, **options)


def later(entry: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """A class with its options bound, for a model that knows its other arguments."""
    return partial(entry, **options)


SMOKE = "--plugin {file} --seeds 2 --fidelity smoke"
ROWS = (
    Kind("variant", "variants"),
    Kind("data set", "datasets", "dataset.py", "random rectangles", f"run vae-bernoulli --dataset {{name}} {SMOKE}"),
    Kind("metric", "metrics", "metric.py", "the mean error of a pixel", "bench digits --plugin {file} --fidelity smoke --retry scores"),
    Part("likelihood", "likelihoods", "likelihood.py", "a logistic density", f'run "vae[likelihood={{name}}]" vae-gaussian {SMOKE}',
         default="bernoulli", build=call),
    Part("objective", "objectives", "objective.py", "Renyi's bound", f'run "vae[objective={{name}},samples=8]" vae-bernoulli {SMOKE}',
         default="elbo", build=bind),
    Part("prior", "priors", "prior.py", "Laplace distributions", f'run "vae[prior={{name}}]" vae-bernoulli {SMOKE}',
         default="normal", build=call),
    Part("posterior", "posteriors", "posterior.py", "Laplace distributions", f'run "vae[posterior={{name}}]" vae-bernoulli {SMOKE}',
         default="diagonal", build=call),
    Part("regularizer", "regularizers", "regularizer.py", "correlations", f'run "vae[regularizer={{name}}]" vae-bernoulli {SMOKE}',
         default="none", build=bind),
    Part("sampler", "samplers", "sampler.py", "one Gaussian", f'run "autoencoder[sampler={{name}}]" ae-gmm {SMOKE}',
         default="prior", build=call),
    Part("quantizer", "quantizers", default="vq", build=call),
    Part("code-prior", "code-priors", default="uniform", build=later),
    Kind("model", "models", "model.py", "a mixture of Bernoullis", f"run {{name}} vae-bernoulli {SMOKE}"),
    Part("network", "networks"),
    Kind("study", "studies", "study.py", "a claim about larger latents", f"study {{name}} {SMOKE}"),
    Kind("suite", "suites"),
)  # fmt: skip
KINDS: dict[str, Kind] = {kind.name: kind for kind in ROWS}


def parts() -> list[Part]:
    """The kinds of parts of models."""
    return [kind for kind in KINDS.values() if isinstance(kind, Part)]


def chosen() -> list[Kind]:
    """What a configuration names: a model, then its parts."""
    return [KINDS["model"], *parts()]


def foreign_files(values: Mapping[str, Any]) -> list[str]:
    """The files of plug-ins whose model or parts a configuration names."""
    used = [(kind.registry, values[kind.key]) for kind in chosen() if kind.key in values]
    return [registry.places[name].file for registry, name in used if name in registry.foreign]


# -- what validators share ---------------------------------------------------------------------------------------------


@cache
def signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function or constructor by name; where a class's `__init__` takes `**kwargs`, those of its bases too."""
    found: dict[str, inspect.Parameter] = {}
    own = [vars(cls)["__init__"] for cls in function.__mro__ if "__init__" in vars(cls)] if isinstance(function, type) else [function]
    for one in own:
        parameters = inspect.signature(one).parameters
        found = {name: p for name, p in parameters.items() if name != "self" or one is function} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return found


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of the options that a configuration may set on a constructor or function."""
    found = signature(function).values()
    return {p.name: p.default for p in found if p.kind is not p.VAR_KEYWORD and p.default is not p.empty and p.name not in PROVIDED}


def takes(function: Callable[..., Any], name: str) -> bool:
    return name in signature(function)


def class_fault(obj: Any, base: type) -> str:
    """What is wrong with an object that should be a concrete class derived from `base`."""
    name = getattr(obj, "__name__", "")
    if not (isinstance(obj, type) and issubclass(obj, base)):
        return f"is not a class derived from {base.__name__}; write class {name}({base.__name__})"
    if missing := sorted(getattr(obj, "__abstractmethods__", ())):
        return f"is abstract still; write {' and '.join(f'{method}()' for method in missing)} in class {name}"
    return ""


def options_fault(obj: Callable[..., Any], given: tuple[str, ...]) -> str:
    """What is wrong with the options of a constructor or function whose other arguments are `given`."""
    try:
        found = signature(obj)
    except (TypeError, ValueError):
        return "has no signature that can be read; write it as a plain function"
    bare = [p.name for p in found.values() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing := [name for name in given if name not in found]:
        return f"does not take {missing[0]!r}, which it is given; write it among the arguments"
    if wrong := [name for name in bare if name not in (*given, *PROVIDED)]:
        return f"has an option {wrong[0]!r} without a default; write {wrong[0]}=..., since a selector may leave it out"
    for name, value in parameters(obj).items():
        if name not in given and not isinstance(value, PLAIN):
            return f"has an option {name}={value!r}, which no selector can set; give it a number, a text or true or false for a default"
    return ""
