"""Keeps foreign code, such as a plug-in's, from changing what runs share: images, functions of libraries, settings of the process."""

import os
import random
import resource
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import _lru_cache_wrapper, cached_property
from operator import is_
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_variants.registry import Registry, UserError

LIBRARIES = {"torch", "numpy", "scipy", "sklearn", "vae_variants"}  # whose functions decide figures
APART = tuple(f"torch.{name}" for name in ("compiler", "_dynamo", "_inductor", "distributed", "onnx", "fx", "testing", "ao", "export"))
PLAIN = (FunctionType, BuiltinFunctionType)
MEMBERS = (*PLAIN, staticmethod, classmethod, property, cached_property)
DERIVED = tuple(f"vae_variants.{name}" for name in ("datasets", "evaluation", "training", "harness.spec", "checks"))
LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
NAMED = 3  # changes that a message names
ABSENT = object()

shared: list[Callable[[], Iterable[Tensor]]] = []  # each gives tensors that several runs get
damage: list[str] = []  # changes that could not be undone
changed: list[str] = []  # all changes that were found in this process


class Changed(UserError):
    """Foreign code changed what runs share."""


class Setting(NamedTuple):
    """A part of the state of the process."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def set_limits(before: Mapping[int, tuple[int, int]]) -> None:
    for number, pair in before.items():
        if resource.getrlimit(number) != pair:
            _, hard = resource.getrlimit(number)
            for wanted in (pair, (min(pair[0], hard), hard)):  # without privileges a hard limit stays as it is
                with suppress(ValueError, OSError):
                    resource.setrlimit(number, wanted)
                    break


def set_handlers(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        if signal.getsignal(number) != handler and handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def backends() -> list[tuple[Any, str]]:
    b: Any = torch.backends
    products = [(part, "fp32_precision") for part in (b.cuda.matmul, b.cudnn.conv, b.mkldnn.matmul, b.mkldnn.conv)]
    return [*products, *((b.cudnn, name) for name in ("enabled", "benchmark", "deterministic"))]


def set_backends(before: list[Any]) -> None:
    for (part, name), value in zip(backends(), before, strict=True):
        if getattr(part, name) != value:
            setattr(part, name, value)


def hooks() -> dict[str, dict[Any, Any]]:
    """Those that torch calls for every module and optimiser."""
    modules = [sys.modules[f"torch.{name}"] for name in ("nn.modules.module", "optim.optimizer")]
    return {key: value for module in modules for key, value in vars(module).items() if key.startswith("_global_") and key.endswith("hooks")}


def set_hooks(before: Mapping[str, Mapping[Any, Any]]) -> None:
    for key, found in hooks().items():
        found.clear()
        found.update(before[key])


def flushes() -> bool:
    """Whether numbers below the smallest normal one are 0."""
    return (torch.full((), 1e-39, dtype=torch.float32) * 1).item() == 0


def set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


REFUSED = (  # what foreign code may not change
    Setting("the default type of tensors", torch.get_default_dtype, torch.set_default_dtype),
    Setting("the default device", torch.get_default_device, set_device),
    Setting("whether gradients are computed", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting("torch's choice of algorithms", deterministic, lambda v: torch.use_deterministic_algorithms(v[0], warn_only=v[1])),
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("settings of torch.backends", lambda: [getattr(part, name) for part, name in backends()], set_backends),
    Setting("torch's global hooks", lambda: {key: dict(found) for key, found in hooks().items()}, set_hooks),
    Setting("the treatment of denormal numbers", flushes, torch.set_flush_denormal),
    Setting("the working directory", directory, os.chdir),
    Setting("limits of the process", lambda: {n: resource.getrlimit(n) for n in LIMITS}, set_limits),
    Setting("signal handlers", lambda: {int(n): signal.getsignal(n) for n in signal.valid_signals()}, set_handlers),
)


def set_environment(before: Mapping[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def style() -> dict[str, Any] | None:
    """Settings of matplotlib, if it is imported."""
    module = sys.modules.get("matplotlib")
    return None if module is None else {key: value for key, value in module.rcParams.copy().items() if key != "backend"}


def set_style(before: dict[str, Any] | None) -> None:
    if (module := sys.modules.get("matplotlib")) is not None:
        kept = before or {key: value for key, value in module.rcParamsOrig.copy().items() if key != "backend"}
        dict.update(module.rcParams, kept)


def set_draws(before: Any) -> None:
    torch.set_rng_state(before[0])
    np.random.set_state(before[1])
    random.setstate(before[2])


UNDONE = (  # what it may change, and is undone: no figure of a run depends on it
    Setting("the environment", lambda: dict(os.environ), set_environment),
    Setting("matplotlib's settings", style, set_style),
    Setting("numpy's treatment of errors", np.geterr, lambda v: np.seterr(**v)),
    Setting("random numbers", lambda: (torch.get_rng_state(), np.random.get_state(), random.getstate()), set_draws),
)


class Held(NamedTuple):
    """What a module or class holds: all, what foreign code may not replace, and the classes of `LIBRARIES` among that."""

    everything: dict[str, Any]
    guarded: dict[str, Any]
    classes: list[type]


last: dict[Any, Held] = {}  # what `functions` found the last time


def functions() -> dict[Any, Held]:
    """Module or class of `LIBRARIES` -> what it holds; guarded are functions, classes and, of this package, constants."""
    found: dict[Any, Held] = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top in LIBRARIES and not name.startswith(APART) and hasattr(module, "__dict__"):
            found[module] = holding(module, (*PLAIN, type), constants=top == "vae_variants")
            for cls in found[module].classes:
                if cls not in found:
                    found[cls] = holding(cls, MEMBERS)
    last.clear()
    last.update(found)
    return found


def holding(holder: Any, types: tuple[type, ...], constants: bool = False) -> Held:
    now = vars(holder)
    if (before := last.get(holder)) is not None and same(before.everything, now):
        return before
    guarded = {k: v for k, v in now.items() if issubclass(type(v), types) or (constants and k.isupper())}
    classes = [v for v in guarded.values() if issubclass(type(v), type) and str(v.__module__).partition(".")[0] in LIBRARIES]
    return Held(dict(now), guarded, classes)


def same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether both hold the same objects under the same names, compared in C: an object may say that it equals a function."""
    return [*before] == [*now] and all(map(is_, before.values(), now.values()))


def replaced(before: Mapping[Any, Held]) -> Iterator[tuple[Any, str, Any]]:
    """(module or class, name, former value) of each function that is another one now, and of each new one of a class."""
    for holder, held in before.items():
        now = vars(holder)
        if same(held.everything, now):
            continue
        for name, value in held.guarded.items():
            if (found := now.get(name, ABSENT)) is not value and not wrapped(found, value):
                yield holder, name, value
        if isinstance(holder, type):
            yield from (
                (holder, k, ABSENT) for k, v in list(now.items()) if k not in held.guarded and type(v) is FunctionType and foreign(v)
            )


def foreign(function: Any) -> bool:
    module = getattr(function, "__globals__", {}).get("__name__", "")
    return str(module).partition(".")[0] not in LIBRARIES


def wrapped(found: Any, value: Any) -> bool:
    """Whether a library has put a wrapper of its own around its function, as torch's optimisers do on first use."""
    return type(found) is FunctionType and not foreign(found) and getattr(found, "__wrapped__", None) is value


def put_back(holder: Any, name: str, value: object) -> None:
    with suppress(AttributeError, TypeError):
        delattr(holder, name) if value is ABSENT else setattr(holder, name, value)


def entries() -> dict[str, dict[str, Any]]:
    return {registry.kind: dict(registry) for registry in Registry.every}


def checksums(tensors: Iterable[Tensor]) -> list[int]:
    """Of tensors on the CPU. Version counters would miss what is written through a NumPy array."""

    def checksum(tensor: Tensor) -> int:
        flat: Any = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
        return zlib.crc32(flat)

    return [checksum(t) for t in tensors if t.device.type == "cpu" and t.numel()]


class Snapshot:
    """What runs share, at one moment; `changes` compares and restores it.

    Args:
        own: Tensors that may not change either, such as a model's.
        earlier: A snapshot that was compared and restored just now: unless modules were imported since, it has the same functions.
    """

    def __init__(self, own: Iterable[Tensor] = (), earlier: "Snapshot | None" = None) -> None:
        self.process = os.getpid()
        self.refused = [setting.read() for setting in REFUSED]
        self.undone = [setting.read() for setting in UNDONE]
        self.modules = len(sys.modules)
        self.functions: dict[Any, Held] = earlier.functions if earlier is not None and earlier.modules == self.modules else functions()
        self.entries = entries()
        self.images, self.own = [t for tensors in shared for t in tensors()], list(own)
        self.sums, self.own_sums = checksums(self.images), checksums(self.own)

    def changes(self) -> list[str]:
        """Names of what has changed since. All of it is as it was afterwards, except what is added to `damage`.

        Caches of data and of what follows from data are emptied after a change. A copy of the process that a fork left ends here.
        """
        if os.getpid() != self.process:
            os._exit(1)
        found = ["images of a data set or its classifier, in place"] if checksums(self.images) != self.sums else []
        found += ["the model that it measures"] if checksums(self.own) != self.own_sums else []
        for setting, before in zip(REFUSED, self.refused, strict=True):
            if setting.read() != before:
                found.append(setting.name)
                with suppress(OSError, RuntimeError):
                    setting.write(before)
                if setting.read() != before:
                    damage.append(setting.name)
        for holder, name, value in list(replaced(self.functions)):
            put_back(holder, name, value)
            found.append(f"{getattr(holder, '__name__', holder)}.{name}")
        for registry in Registry.every:
            lost = {k: v for k, v in self.entries.get(registry.kind, {}).items() if registry.get(k) is not v}
            registry.update(lost)
            found += [f"the {registry.kind} {name!r}" for name in lost]
        for setting, before in zip(UNDONE, self.undone, strict=True):
            setting.write(before)
        if found:
            forget()
        changed.extend(found)
        return found


def forget() -> None:
    """Empties the caches of data and of what follows from data."""
    for module in [module for name, module in list(sys.modules.items()) if name.startswith(DERIVED)]:
        holders = [module, *(v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__)]
        for value in [value for holder in holders for value in vars(holder).values()]:
            if isinstance(value, _lru_cache_wrapper):
                value.cache_clear()


@contextmanager
def unchanged(what: str, fix: str, own: Iterable[Tensor] = (), earlier: Snapshot | None = None) -> Iterator[Snapshot]:
    """Restores after the block what runs share, of which it gives the snapshot.

    Args:
        what: Subject of the message, such as "this run".
        fix: How to fix it.
        own: Further tensors that may not change.
        earlier: The snapshot of a block just before, which spares most of the work of another one.

    Raises:
        Changed: The block changed some of it. An error of the block is its cause.
    """
    before, error = Snapshot(own, earlier), None
    try:
        yield before
    except BaseException as raised:
        error = raised
        raise
    finally:
        found = before.changes()
        if found and (error is None or isinstance(error, (Exception, SystemExit))):
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            raise Changed(f"{what} changes {', '.join(found[:NAMED])}{more}; {fix}") from error


def refuse_damage() -> None:
    """Raises `UserError` if a change could not be undone, because later figures may depend on it."""
    if damage:
        raise UserError(f"a plug-in has changed {', '.join(dict.fromkeys(damage))}, which cannot be undone here; start the program again")
