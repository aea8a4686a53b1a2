"""How exactly matrices are multiplied in training. Parameters, losses and every evaluation stay in float32."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["autocast", "casts", "has_effect", "precision", "rounded"]

cudnn: Any = torch.backends.cudnn
onednn: Any = torch.backends.mkldnn  # its name in torch; neither has types
MODES = {"fp32": "ieee", "tf32": "tf32", "bf16": "bf16"}
NOTICEABLE = 1e-5  # relative error of a product: float32's own is some 1e-7, that of bfloat16's factors some 1e-3


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
    """Products of float32 matrices, and convolutions, inside are made so, where the device does it by itself.

    A device that has nothing faster than float32 goes on with that; for one that wants its factors cast, see `casts`. A CPU whose oneDNN
    cannot round factors is asked to all the same: it leaves them alone, and multiplies faster than what torch takes otherwise.
    """
    mode = MODES[name]
    on_cpu = mode if rounds() else "bf16"
    elsewhere = "ieee" if name == "bf16" else mode  # on a GPU `autocast` does that
    return settings([(onednn.matmul, on_cpu), (onednn.conv, on_cpu), (torch.backends.cuda.matmul, elsewhere), (cudnn.conv, elsewhere)])


def noticeable(product: Tensor, factor: Tensor) -> bool:
    exact = factor.double() @ factor.double()
    return bool(((product.double() - exact) / exact).abs().max() > NOTICEABLE)


def probe(device: torch.device) -> Tensor:
    return torch.linspace(1, 2, 64 * 64, device=device).reshape(64, 64)


@lru_cache(maxsize=1)
def rounds() -> bool:
    """Whether this machine's oneDNN rounds factors of float32 products to bfloat16 when it is asked to."""
    a = probe(torch.device("cpu"))
    with settings([(onednn.matmul, "bf16")]):
        return noticeable(a @ a, a)


def capabilities() -> Mapping[str, Any]:
    return getattr(torch.cpu, "get_capabilities", dict)()


def vendor() -> str:
    """Of the processor, where Linux says it."""
    try:
        found = re.search(r"^vendor_id\s*:\s*(\w+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def multiplies_fast() -> bool:
    """Whether casting pays on this CPU, which does not round by itself.

    AMD's multiply bfloat16 faster than float32 (`nox -s peers`, reports/speed). Intel's do with AMX, and where a virtual machine hides
    that, by AVX512 instructions that take longer than float32's.
    """
    return bool(capabilities().get("avx512_bf16")) and vendor() != "GenuineIntel"


@lru_cache(maxsize=8)
def casts(name: str, device: torch.device) -> bool:
    """Whether factors have to be cast for this precision: on a GPU, and on a CPU that does not round by itself and gains from it."""
    if name != "bf16":
        return False
    return device.type == "cuda" or (not rounds() and multiplies_fast())


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """For a loss: casts the factors of its products, and with them the products, where that is needed."""
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if casts(name, device) else nullcontext()


@lru_cache(maxsize=8)
def has_effect(name: str, device: torch.device) -> bool:
    """Whether products come out noticeably otherwise than in float32 on this device."""
    a = probe(device)
    with precision(name), autocast(name, device):
        return noticeable(a @ a, a)


def rounded(device: torch.device) -> bool:
    """Whether products of this device are oneDNN's just now, which shares out a stack of them among threads better than torch's own."""
    return device.type == "cpu" and onednn.matmul.fp32_precision == "bf16"
