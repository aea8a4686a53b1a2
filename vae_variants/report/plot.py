"""A plot of the page."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plot"]


@dataclass(frozen=True)
class Plot:
    """`title` and `caption` are text, yet to be escaped; `body` is markup, ready to be embedded.

    `name` is an id, `section` where it goes: summary, quality, trade-offs, training, pictures or latent.
    """

    name: str
    title: str
    caption: str
    section: str
    body: str
