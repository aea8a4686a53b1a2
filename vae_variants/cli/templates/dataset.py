"""A data set. The rectangles are a worked example: put your own images in their place."""

import torch

from vae_variants import DATASETS, split


@DATASETS.add  # the name of the function, in kebab case, is its name for --dataset
def template(size: int = 8):  # options have defaults: --dataset "...?size=12" sets them
    """1000 filled rectangles of random size and place on a noisy ground, drawn by this program, in two classes"""
    generator = torch.Generator().manual_seed(0)  # the same images each time
    images = torch.randint(0, 64, (1000, 1, size, size), generator=generator, dtype=torch.uint8)  # (N, C, H, W) uint8
    corners = torch.randint(0, size, (1000, 4), generator=generator).tolist()
    tall = []
    for image, (a, b, c, d) in zip(images, corners, strict=True):
        height, width = abs(a - b) + 1, abs(c - d) + 1
        image[0, min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = 255
        tall.append(int(height > width))
    # read your own instead: numpy.load("mine.npy", allow_pickle=False), PIL.Image.open, ...; labels may be None
    return split("template", images, torch.tensor(tall), levels=256, validation=200, test=200)
