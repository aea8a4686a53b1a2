"""The images and latents that figures show. They are kept with a run, so that a report needs no model."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vae_variants.datasets.dataset import SPLITS, Dataset
from vae_variants.datasets.levels import Levels
from vae_variants.evaluation import Evaluation
from vae_variants.evaluation.disentanglement import unit_information
from vae_variants.evaluation.pieces import stored
from vae_variants.evaluation.units import euclidean, quantiles
from vae_variants.models.base import ClassSampler, Coder, Encoder, MeanSampler, Sampler

SAMPLES, PAIRS, POINTS, GRID = 36, 10, 2000, 15
PROJECTED = 500  # test images whose latents are projected to two dimensions
SHEET, SHEET_CLASSES, SHEET_NUMBERS = 10, 8, 2**20  # images of a class in a part, classes, and levels on a contact sheet, at most
CLASSES, OF_CLASS = 10, 8  # most classes that are shown, and samples of each
UNITS = 8  # most latent units in a traversal
PATHS, BETWEEN = 2, 8  # pairs of test images that are interpolated, and images from one to the other
FLAT = 1e-4  # sine of an angle below which a path is straight
STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # of a traversal, in standard deviations of the unit


def bytes_of(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def pictures(e: Evaluation) -> dict[str, Tensor]:
    """What the model can show, from noise and test images that are the same for every model.

    Returns:
        `samples` (n, D), noise-free if the model can; `classes` (C * OF_CLASS, D), samples of each class; `originals` and
        `reconstructions` (n, D); what `plane`, `traversal` and `interpolations` return; with latents that fill the plane `latent_grid`
        (GRID^2, D), decoded at the quantiles of each unit under the prior, or under the sampler of a model without one; what
        `contact_sheet` returns. Images are uint8.
    """
    found: dict[str, Tensor] = {}
    if isinstance(e.model, MeanSampler):
        found["samples"] = bytes_of(e.sample_means[:SAMPLES])
    elif isinstance(e.model, Sampler):
        with e.noise("pictures"):
            found["samples"] = bytes_of(e.model.sample(SAMPLES))
    if isinstance(e.model, ClassSampler):
        found["classes"] = torch.cat([of_class(e, e.model, c) for c in range(min(e.model.classes, CLASSES))])
    if isinstance(e.model, Coder):
        found["originals"] = bytes_of(stored(e.dataset)[:PAIRS])
        found["reconstructions"] = bytes_of(e.reconstructions[:PAIRS])
    if isinstance(e.model, Encoder):
        codes = e.encoded(Levels(e.dataset.test[:POINTS], e.dataset.levels - 1))
        if codes.isfinite().all() and min(codes.shape) > 1:
            found |= plane(e, codes)
        if codes.isfinite().all() and isinstance(e.model, Coder):
            found |= traversal(e, codes) | interpolations(e)
        if codes.shape[1] == 2:
            found |= latent_grid(e)
    return found | contact_sheet(e.dataset)


def contact_sheet(dataset: Dataset) -> dict[str, Tensor]:
    """The first images of the user's own by part and class, as they were read. Empty for published data.

    Returns:
        `contact` (n, D) uint8, and `contact_rows` (n, 2): number of the part, and of the class or -1 without classes.
    """
    if not dataset.read:
        return {}
    classes = range(-1, 0) if dataset.classes is None else range(min(len(dataset.classes), SHEET_CLASSES))
    each = max(1, min(SHEET, SHEET_NUMBERS // (len(SPLITS) * len(classes) * dataset.dim)))
    images, rows = list[Tensor](), list[list[int]]()
    for part, name in enumerate(SPLITS):
        for c in classes:
            having = torch.arange(dataset.sizes[name]) if dataset.labels is None else (dataset.labels[name] == c).nonzero().squeeze(-1)
            first = stored(dataset, name)[having[:each]]
            images.append(bytes_of(first))
            rows += [[part, c]] * len(first)
    return {"contact": torch.cat(images), "contact_rows": torch.tensor(rows)}


def of_class(e: Evaluation, model: ClassSampler, label: int) -> Tensor:
    """Samples (OF_CLASS, D) of a class, from the noise of any other."""
    with e.noise("classes"):
        return bytes_of(model.sample_mean_of(torch.full((OF_CLASS,), label, device=e.device)))


def latent_grid(e: Evaluation) -> dict[str, Tensor]:
    """What the decoder makes of a plane of latents. Empty on spheres and simplices, and for a model that draws no latents."""
    if not (isinstance(e.model, Coder) and isinstance(e.model, MeanSampler) and euclidean(e.model)):
        return {}
    with e.noise("latent plane"):
        q = quantiles(e.model, (torch.arange(GRID, device=e.device) + 0.5) / GRID)
    if q is None:
        return {}
    z = torch.stack([q[:, 0].repeat(GRID), q[:, 1].flip(0).repeat_interleave(GRID)], -1)  # right is up in z1, up is up in z2
    with e.noise("pictures"):
        return {"latent_grid": bytes_of(e.model.decode(z))}


def plane(e: Evaluation, codes: Tensor) -> dict[str, Tensor]:
    """The latents of the first test images in two dimensions.

    Returns:
        `latent` (n, 2): the latents, or their first two principal components; `latent_labels` (n,) if there are labels; for
        principal components `latent_share` (2,), their shares of the variance.
    """
    found, n = {"latent": codes.float()}, len(codes)
    if codes.shape[1] > 2:
        n = min(n, PROJECTED)
        centred = codes[:n] - codes[:n].mean(0)
        _, s, axes = torch.linalg.svd(centred, full_matrices=False)
        signs = axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()  # which a decomposition leaves open
        found["latent"] = (centred @ (axes[:2] * signs).mT).float()
        found["latent_share"] = (s[:2].square() / s.square().sum().clamp_min(torch.finfo(s.dtype).tiny)).float()
    if e.dataset.labels is not None:
        found["latent_labels"] = e.dataset.labels["test"][:n]
    return found


def traversal(e: Evaluation, codes: Tensor) -> dict[str, Tensor]:
    """Decodes the latents of the first test image, moved along one unit at a time. Empty unless latents fill R^Z.

    Returns:
        `traversal` (units * len(STEPS), D) and `traversal_units` (units,): those with the largest variance. If the factors of the images
        are known, first a unit for each, and `traversal_factors` (units,): the number of that factor, or -1.
    """
    assert isinstance(e.model, Coder)
    if not euclidean(e.model):
        return {}
    with e.noise("pictures"):
        z = e.model.encode(stored(e.dataset)[:1].to(e.device))
        if not z.is_floating_point():
            return {}
        spread = codes.std(0, correction=0)
        units = spread.argsort(descending=True, stable=True)
        told = encoding(unit_information(e))
        units = torch.tensor([*told, *(unit for unit in units.tolist() if unit not in told)][:UNITS])
        steps = torch.zeros(len(units), len(STEPS), z.shape[1], dtype=z.dtype, device=e.device)
        for row, unit in zip(steps, units.tolist(), strict=True):
            row[:, unit] = torch.tensor(STEPS, dtype=z.dtype, device=e.device) * spread[unit].item()
        found = {"traversal": bytes_of(e.model.decode((z + steps).flatten(0, 1))), "traversal_units": units}
        return found | ({"traversal_factors": torch.tensor([told.get(unit, -1) for unit in units.tolist()])} if told else {})


def interpolations(e: Evaluation) -> dict[str, Tensor]:
    """Decodes latents on two paths from one test image to another. Empty unless latents fill R^Z.

    Returns:
        `interpolations` (pairs * 2 * BETWEEN, D): for each pair a straight path, then one on a sphere.
    """
    assert isinstance(e.model, Coder)
    if not euclidean(e.model) or len(e.dataset.test) < 2 * PATHS:
        return {}
    with e.noise("pictures"):
        z = e.model.encode(stored(e.dataset)[: 2 * PATHS].to(e.device))
        if not z.is_floating_point():
            return {}
        paths = [path(a, b) for a, b in z.unflatten(0, (PATHS, 2)).unbind(0) for path in (straight, spherical)]
        return {"interpolations": bytes_of(e.model.decode(torch.cat(paths)))}


def straight(a: Tensor, b: Tensor) -> Tensor:
    """(Z,), (Z,) -> (BETWEEN, Z): (1 - t) a + t b for t from 0 to 1."""
    t = torch.linspace(0, 1, BETWEEN, dtype=a.dtype, device=a.device)[:, None]
    return (1 - t) * a + t * b


def spherical(a: Tensor, b: Tensor) -> Tensor:
    """(Z,), (Z,) -> (BETWEEN, Z): (sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between a and b.

    Latents of one length keep it on the way, as samples of a normal prior nearly have. A straight path where there is no angle.
    Source: Shoemake 1985, Animating rotation with quaternion curves; White 2016, Sampling Generative Networks, for latents.
    """
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).clamp(-1, 1)
    angle = cosine.arccos()
    if angle.sin() < FLAT or not (a.any() and b.any()):
        return straight(a, b)
    t = torch.linspace(0, 1, BETWEEN, dtype=torch.float64, device=a.device)[:, None]
    return ((((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()).to(a)


def encoding(information: Mapping[str, Sequence[float]]) -> dict[int, int]:
    """Unit -> number of its factor, in the order of the factors: matched one to one so that they tell most in all."""
    if not information:
        return {}
    table = np.array(list(information.values()))
    factors, units = linear_sum_assignment(table, maximize=True)
    return {int(unit): int(factor) for factor, unit in zip(factors, units, strict=True) if table[factor, unit] > 0}
