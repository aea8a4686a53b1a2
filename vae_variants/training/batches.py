"""Batches of training images for several seeds at once, on the device that trains."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from vae_variants.datasets.levels import Images

MANY = 2**17  # numbers; below, threads cost more than they save


def derive_seed(*parts: object) -> int:
    """A seed for one purpose: a function of `parts` alone, and so equal for all variants that share them."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """A context that leaves the random streams of CPU and `device` as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def batches(
    images: Images, dynamic: bool, seeds: Sequence[int], size: int, key: str, epoch: int, start: int = 0, labels: Tensor | None = None
) -> Iterator[Tensor]:
    """Yields floor(N / size) batches (S, size, D) of images (N, D) as float32, with an own order and binarisation for each seed.

    With `labels` (N, C), one-hot or zeros, batches are (S, size, D + C): images with their labels beside them.

    Both depend on (`key`, seed, epoch) alone. Gathering step by step is as fast as once per epoch, and needs no S copies of the images.
    `dynamic` images are binarised anew. Without the first `start` batches, the others are unchanged.
    """
    device, orders, flips = images.device, [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(derive_seed("order", key, seed, epoch))
        orders.append(torch.randperm(len(images), generator=generator))
        flips.append(torch.Generator(device).manual_seed(derive_seed("binarise", key, seed, epoch)))
    order = torch.stack(orders).to(device)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in range(start * dynamic):
            binarised(torch.empty((len(seeds), size, *images.shape[1:]), device=device), flips, pool)
        for step in range(start, len(images) // size):
            rows = order[:, step * size : (step + 1) * size]
            x = images.index_select(0, rows.flatten()).unflatten(0, rows.shape)
            x = binarised(x, flips, pool) if dynamic else x
            yield x if labels is None else torch.cat([x, labels.index_select(0, rows.flatten()).unflatten(0, rows.shape)], -1)


def told(labels: Tensor, classes: int, share: float, key: str) -> Tensor:
    """One-hot labels (N, C) of class numbers (N,), with zeros for all but a `share` of the images of each class, at least one.

    Which images keep their label depends on `key` alone.
    """
    found = torch.zeros(len(labels), classes)
    generator = torch.Generator().manual_seed(derive_seed("labels", key))
    for label in range(classes):
        rows = (labels == label).nonzero().squeeze(-1)
        kept = rows[torch.randperm(len(rows), generator=generator)[: math.ceil(share * len(rows))]]
        found[kept, label] = 1.0
    return found


def binarised(x: Tensor, generators: Sequence[torch.Generator], pool: ThreadPoolExecutor) -> Tensor:
    """1 with probability x, else 0, (S, ...), with one generator per slice; on a CPU large batches are drawn in parallel."""
    u = torch.empty_like(x)
    draws = [partial(torch.rand, x.shape[1:], generator=g, out=each) for g, each in zip(generators, u, strict=True)]
    if x.device.type == "cpu" and x.numel() > MANY:
        list(pool.map(lambda draw: draw(), draws))
    else:
        for draw in draws:
            draw()
    return torch.lt(u, x, out=torch.empty_like(x))
