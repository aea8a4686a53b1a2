"""How exactly matrices are multiplied in training. Parameters, sums, losses and every evaluation stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = ["PRECISIONS", "autocast", "has_effect", "precision", "rounded"]

PRECISIONS = {
    "fp32": "float32 throughout",
    "tf32": "factors of products rounded to 10 bits of mantissa, on a GPU that has tensor cores for it",
    "bf16": "factors of products rounded to 7 bits of mantissa, on a CPU or GPU that multiplies bfloat16",
}
cudnn: Any = torch.backends.cudnn
onednn: Any = torch.backends.mkldnn  # its name in torch; neither has types
MODES = {"fp32": "ieee", "tf32": "tf32", "bf16": "bf16"}


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Products of float32 matrices, and convolutions, inside are made so; sums are float32 in each case.

    A device that has nothing faster than float32 goes on with that.
    """
    mode = MODES[name]
    wanted: list[tuple[Any, str]] = [
        (onednn.matmul, mode),
        (onednn.conv, mode),
        (torch.backends.cuda.matmul, "ieee" if name == "bf16" else mode),  # there `autocast` does it
        (cudnn.conv, "ieee" if name == "bf16" else mode),
    ]
    before = [backend.fp32_precision for backend, _ in wanted]
    try:
        for backend, setting in wanted:
            backend.fp32_precision = setting
        yield
    finally:
        for (backend, _), setting in zip(wanted, before, strict=True):
            backend.fp32_precision = setting


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """For the loss: where the device itself does not round the factors of float32 products to bfloat16, they are cast."""
    if name == "bf16" and device.type == "cuda":
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()


def has_effect(name: str, device: torch.device) -> bool:
    """Whether products come out otherwise than in float32 on this device."""
    a = torch.linspace(1, 2, 64 * 64, device=device).reshape(64, 64)

    def product(name: str) -> Tensor:
        with precision(name), autocast(name, device):
            return (a @ a).float()

    return not torch.equal(product(name), product("fp32"))


def rounded(device: torch.device) -> bool:
    """Whether float32 products on this device are being rounded to bfloat16 just now."""
    return device.type == "cpu" and onednn.matmul.fp32_precision == "bf16"
