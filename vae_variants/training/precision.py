"""Precision of matrix products in training. Parameters, losses and every evaluation stay in float32."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

cudnn: Any = torch.backends.cudnn
onednn: Any = torch.backends.mkldnn  # neither has types
MODES = {"fp32": "ieee", "tf32": "tf32", "bf16": "bf16"}
NOTICEABLE = 1e-5  # relative error of a product: about 1e-7 in float32, 1e-3 with bfloat16 factors


@contextmanager
def settings(wanted: list[tuple[Any, str]]) -> Iterator[None]:
    before = [backend.fp32_precision for backend, _ in wanted]
    try:
        for backend, setting in wanted:
            backend.fp32_precision = setting
        yield
    finally:
        for (backend, _), setting in zip(wanted, before, strict=True):
            backend.fp32_precision = setting


def precision(name: str) -> AbstractContextManager[None]:
    """A context in which products of float32 matrices and convolutions have this precision, if the device supports it directly.

    A device without faster products keeps float32; for one that needs cast factors see `casts`. On a CPU whose oneDNN cannot round, the
    request changes no value but selects oneDNN's faster kernels.
    """
    mode = MODES[name]
    on_cpu = mode if rounds() else "bf16"
    elsewhere = "ieee" if name == "bf16" else mode  # a GPU uses `autocast`
    return settings([(onednn.matmul, on_cpu), (onednn.conv, on_cpu), (torch.backends.cuda.matmul, elsewhere), (cudnn.conv, elsewhere)])


def noticeable(product: Tensor, factor: Tensor) -> bool:
    exact = factor.double() @ factor.double()
    return bool(((product.double() - exact) / exact).abs().max() > NOTICEABLE)


def probe(device: torch.device) -> Tensor:
    return torch.linspace(1, 2, 64 * 64, device=device).reshape(64, 64)


@lru_cache(maxsize=1)
def rounds() -> bool:
    """Whether this machine's oneDNN rounds factors of float32 products to bfloat16 on request."""
    a = probe(torch.device("cpu"))
    with settings([(onednn.matmul, "bf16")]):
        return noticeable(a @ a, a)


def multiplies_fast() -> bool:
    """Whether casting pays on a CPU that does not round by itself.

    AMD processors multiply bfloat16 faster than float32 (`nox -s peers`, reports/speed). Intel's do so with AMX only.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    cpu = Path("/proc/cpuinfo")
    return bool(capabilities.get("avx512_bf16")) and not (cpu.is_file() and "GenuineIntel" in cpu.read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def casts(name: str, device: torch.device) -> bool:
    """Whether this precision needs cast factors: on a GPU, and on a CPU that does not round by itself but gains from it."""
    if name != "bf16":
        return False
    return device.type == "cuda" or (not rounds() and multiplies_fast())


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """A context for a loss that casts the factors of its products if needed."""
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if casts(name, device) else nullcontext()


@lru_cache(maxsize=8)
def has_effect(name: str, device: torch.device) -> bool:
    """Whether products differ noticeably from float32 on this device."""
    a = probe(device)
    with precision(name), autocast(name, device):
        return noticeable(a @ a, a)


def rounded(device: torch.device) -> bool:
    """Whether products on this device are currently oneDNN's, which distributes batched products better than torch's own."""
    return device.type == "cpu" and onednn.matmul.fp32_precision == "bf16"
