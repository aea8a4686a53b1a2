"""A plot of the page."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plot"]


@dataclass(frozen=True)
class Plot:
    """`title` and `caption` are text, not yet escaped; `body` is markup to be embedded; `name` is an id, `section` where it goes."""

    name: str
    title: str
    caption: str
    section: str
    body: str
