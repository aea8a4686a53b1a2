"""What studies need labels for: probes, and the classifier in whose features samples are compared with real images."""

from __future__ import annotations

from vae_variants.registry import UserError
from vae_variants.studies.lab import Lab

__all__ = ["need_labels"]


def need_labels(lab: Lab) -> None:
    """Raises `UserError` for images without labels, or of one class alone: before anything is trained for a verdict that cannot be."""
    labels = lab.dataset.labels
    if labels is None:
        raise UserError(f"data set {lab.name!r} has no labels, which this study needs")
    if len(labels["train"].unique()) < 2:
        raise UserError(f"data set {lab.name!r} has labels of one class alone, and this study needs two or more")
