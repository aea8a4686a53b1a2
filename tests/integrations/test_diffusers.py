"""Autoencoders of diffusers in a folder: the right latents, images in [0, 1], no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vae_variants.integrations.diffusers import autoencoder
from vae_variants.registry import UserError

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 8),
    "in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "latent_channels": 3,
}  # fmt: skip


def test_images_go_to_the_range_of_the_model_and_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(**BLOCKS).eval()
    model.save_pretrained(tmp_path)
    x = torch.rand(2, 3, 16, 16)
    found = autoencoder(tmp_path).eval()
    with torch.no_grad():
        z = model.encode(2 * x - 1).latent_dist.mean
        assert torch.equal(found.encode(x), z)
        torch.testing.assert_close(found.decode(z), (model.decode(z).sample / 2 + 0.5).clamp(0, 1))


def test_the_vectors_of_a_codebook_are_chosen_by_the_decoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = diffusers.VQModel(**BLOCKS, num_vq_embeddings=4).eval()
    model.save_pretrained(tmp_path)
    found, x = autoencoder(tmp_path).eval(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        z = found.encode(x)
        assert z.shape == (2, 3, 8, 8)
        nearest = model.quantize(z)[0]
        assert not torch.allclose(z, nearest, atol=1e-3)
        torch.testing.assert_close(found.decode(z), (model.decode(nearest, force_not_quantize=True).sample / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("config", [None, "{}", "[", '{"_class_name": "UNet2DModel"}', '{"_class_name": "AutoencoderKL"}'])
def test_a_folder_without_an_autoencoder_gets_one_line(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError) as caught:
        autoencoder(tmp_path)
    assert str(caught.value).isprintable() and str(tmp_path) in str(caught.value)
