"""How a law is tried by a test."""

from __future__ import annotations

import pytest

from vae_variants.laws import Broken, Law, Untried

__all__ = ["broken"]


def broken(law: Law, name: str) -> str:
    """What is said of a thing that breaks a law; nothing where it holds. Skips what cannot be tried."""
    try:
        law(name)
    except Untried as reason:
        pytest.skip(str(reason))
    except Broken as found:
        return str(found)
    return ""
