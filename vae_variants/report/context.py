"""What a report says that is in none of its records, kept in its archive so that the report can be written again from that alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import PIL
from matplotlib import ft2font
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vae_variants.harness.archive import HEADER, refuse
from vae_variants.harness.validation import first_error
from vae_variants.report.html import Change, Claim


def drawing_versions() -> dict[str, str]:
    """Versions of the libraries that decide the bytes of a figure."""
    return {"matplotlib": matplotlib.__version__, "freetype": ft2font.__freetype_version__, "pillow": PIL.__version__}


@dataclass(frozen=True)
class Context:
    """The arguments of `write_report` other than runs and folder, and what drew the figures."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    suite: str
    command: str
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    claims: tuple[Claim, ...]
    changes: tuple[Change, ...]
    drawn_by: dict[str, str] = field(default_factory=drawing_versions)

    def as_json(self) -> dict[str, Any]:
        claims, changes = [vars(claim) for claim in self.claims], [change._asdict() for change in self.changes]
        return {**vars(self), "claims": claims, "changes": changes}


def context_of(folder: Path, report: Mapping[str, Any]) -> Context:
    """The context in the header of an archive. Raises `UserError` if this version would not have written it."""
    try:
        found = adapter().validate_python(report)
    except ValidationError as error:
        refuse(folder, f"{HEADER}: {first_error(error)}")
    if any(not claim.link.startswith("../claims/") for claim in found.claims):
        refuse(folder, f"{HEADER}: a claim links to another place than ../claims/")
    return found


@lru_cache(maxsize=1)
def adapter() -> TypeAdapter[Context]:
    return TypeAdapter(Context)
