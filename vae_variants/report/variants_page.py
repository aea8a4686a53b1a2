"""docs/variants.md: every named variant by family, and what it is called elsewhere."""

import re
from collections.abc import Mapping

from vae_variants.report.html import environment
from vae_variants.report.markdown import escaped
from vae_variants.report.metrics_page import anchor
from vae_variants.variants import VARIANTS, Variant
from vae_variants.variants.elsewhere import LITERATURE, PYTHAE_MODELS, PYTHAE_SAMPLERS
from vae_variants.variants.published import PUBLISHED

OWN = "your own"  # family of a variant that says none
ELSEWHERE = (
    ("Models of Pythae", "Each model of Pythae 0.1.2, and HRQVAE, which its repository alone has.", "Pythae", PYTHAE_MODELS),
    ("Samplers of Pythae", "Each sampler of Pythae 0.1.2, and a variant that draws by it.", "Pythae", PYTHAE_SAMPLERS),
    ("Methods of the literature", "Methods, and the variants that follow them, or why there is none.", "method", LITERATURE),
)


def published(name: str) -> str:
    """The published figures of a variant."""
    found = [f"{data}: {figure.value:.2f} ({figure.source})" for (variant, data), figure in PUBLISHED.items() if variant == name]
    return "; ".join(found)


def code(text: str) -> str:
    """The names of variants in a text as code; a reason, which begins with a dash, as it is."""
    if text.startswith("- "):
        return f"– {escaped(text[2:])}"
    return re.sub(r"[a-z0-9-]+(?=$|,| \()", lambda found: f"`{found[0]}`" if found[0] in VARIANTS else found[0], text)


def variants_page() -> str:
    """The whole page."""
    families: dict[str, list[tuple[str, Variant, str]]] = {}
    for name, variant in VARIANTS.items():
        families.setdefault(variant.family or OWN, []).append((name, variant, published(name)))
    template = environment().overlay()
    template.filters = {**template.filters, "anchor": anchor, "escaped": escaped}
    elsewhere = [(title, text, head, rows(table)) for title, text, head, table in ELSEWHERE]
    return template.get_template("variants.md").render(families=list(families.items()), elsewhere=elsewhere)


def rows(table: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, code(here)) for name, here in table.items()]
