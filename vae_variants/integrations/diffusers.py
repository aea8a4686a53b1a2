"""Autoencoders of the library diffusers, from a folder on the disk, to be scored as they are."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vae_variants.registry import UserError, user_path

KINDS = ("AutoencoderKL", "VQModel")
LOADED = {"local_files_only": True, "torch_dtype": torch.float32, "low_cpu_mem_usage": False}  # which would need accelerate


class Autoencoder(nn.Module):
    """Images in [0, 1] for a model whose images are in [-1, 1]. Latents are the mode of q(z | x), or vectors before quantisation."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def encode(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) in [0, 1] -> (B, Z, H', W')."""
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        found = self.inner.encode(2 * x - 1)
        z: Tensor = found.latent_dist.mode() if isinstance(found, AutoencoderKLOutput) else found.latents
        return z

    def decode(self, z: Tensor) -> Tensor:
        """z (B, Z, H', W') -> (B, C, H, W) in [0, 1]."""
        x: Tensor = (self.inner.decode(z).sample + 1) / 2
        return x.clamp(0, 1)


def autoencoder(folder: str | Path) -> Autoencoder:
    """An `AutoencoderKL` or a `VQModel` that `save_pretrained` wrote, without a network.

    Args:
        folder: It has config.json and the weights.

    Returns:
        A module with `encode` and `decode`.

    Raises:
        UserError: diffusers is not installed, or the folder has no such model.
    """
    if find_spec("diffusers") is None:
        raise UserError("it needs the package diffusers; install it: python -m pip install 'vae-variants[diffusers]'")
    import diffusers

    path = user_path(folder)
    try:
        kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["_class_name"]
        if kind not in KINDS:
            raise UserError(f"{str(path)!r} has a {kind}, not one of {', '.join(KINDS)}")
        return Autoencoder(getattr(diffusers, kind).from_pretrained(path, **LOADED))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{str(path)!r} has no autoencoder of diffusers: {' '.join(str(error).split())[:200]}") from error
