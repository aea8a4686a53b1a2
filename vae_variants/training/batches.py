"""Batches of training images for several seeds at once, on the device that trains."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

__all__ = ["batches", "derive_seed"]

MANY = 2**17  # numbers, from which on threads are worth their while


def derive_seed(*parts: object) -> int:
    """A seed for one purpose, a pure function of `parts`: equal for every variant that shares them."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def batches(images: Tensor, dynamic: bool, seeds: Sequence[int], size: int, key: str, epoch: int, start: int = 0) -> Iterator[Tensor]:
    """images (N, D) -> floor(N / size) times (S, size, D): each seed has its own order, and its own binarisation where it is dynamic.

    Both depend on (`key`, seed, epoch) alone; `start` leaves out as many batches, and changes nothing about the others. One gather for
    each step: one for a whole epoch is no faster, and takes S copies of the images.
    """
    device, orders, flips = images.device, [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(derive_seed("order", key, seed, epoch))
        orders.append(torch.randperm(len(images), generator=generator))
        flips.append(torch.Generator(device).manual_seed(derive_seed("binarise", key, seed, epoch)))
    order = torch.stack(orders).to(device)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in range(start * dynamic):
            binarised(images.new_empty((len(seeds), size, *images.shape[1:])), flips, pool)
        for step in range(start, len(images) // size):
            rows = order[:, step * size : (step + 1) * size]
            x = images.index_select(0, rows.flatten()).unflatten(0, rows.shape)
            yield binarised(x, flips, pool) if dynamic else x


def binarised(x: Tensor, generators: Sequence[torch.Generator], pool: ThreadPoolExecutor) -> Tensor:
    """1 with probability x, else 0, (S, ...), from a generator for each of S; on a CPU many are drawn side by side."""
    u = torch.empty_like(x)
    draws = [partial(torch.rand, x.shape[1:], generator=g, out=each) for g, each in zip(generators, u, strict=True)]
    if x.device.type == "cpu" and x.numel() > MANY:
        list(pool.map(lambda draw: draw(), draws))
    else:
        for draw in draws:
            draw()
    return torch.lt(u, x, out=torch.empty_like(x))
