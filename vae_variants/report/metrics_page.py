"""METRICS.md: every metric with what its documentation says, by the file that it is in."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable

from vae_variants.evaluation import Metric
from vae_variants.evaluation.metrics import NOTES
from vae_variants.models.base import MODELS

__all__ = ["anchor", "escaped", "metrics_page"]

TITLES = {  # file of `evaluation` -> (title, what it is about)
    "likelihood": ("Likelihood", "How probable the model says that the test images are; compare within one kind of pixels only."),
    "gap": ("The gap of the bound", "How far the ELBO is under log p(x), and which part of it the encoder is to blame for."),
    "calibration": ("Spread of the pixels", "Whether a Gaussian decoder is as uncertain of a pixel as it is wrong about it."),
    "reconstruction": ("Reconstruction", "How near the decoder comes to an image that went through the code."),
    "probe": ("Linear probe", "Whether a logistic regression on frozen codes can tell the classes apart, and from how many labels."),
    "latent": ("Latent units", "What the latent units carry."),
    "sharpness": ("Sharpness of samples", "How blurred noise-free samples are, with a control for noise that poses as sharpness."),
    "spectrum": ("Spectrum of samples", "Noise-free samples beside real images by spatial frequency."),
    "distance": ("Samples beside real images", "Distances in the features of a classifier trained on the same data set; never an FID."),
    "speed": ("Cost", "Throughput, memory and size. Figures of one machine compare with no other's."),
}
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "none": "neither direction is better"}
INTRODUCTION = """\
Made from the documentation of each metric by `vae-variants list metrics --markdown`; with `--plugin FILE.py` those of a plug-in are
in it. *Kind* says what a figure is to the quantity that is named: **exact**, a **lower bound** of it, an **estimate** of it, or a plain
**measurement**. A metric is asked of the models that have the capabilities in *needs*, which are classes of `vae_variants.models.base`.
`{data}` in a name stands for the name of the data set. Sample sizes are those of `--fidelity full`,
and of `thorough` for what only that measures.
"""


def kinds(m: Metric) -> str:
    """`exact`, or `exact or lower bound` where it depends on the model: what it is for one or another of those registered."""
    capable = [model for model in MODELS.values() if all(issubclass(model, need) for need in m.needs)]
    found = [m.kind] if isinstance(m.kind, str) else sorted({m.kind_for(model.__new__(model)) for model in capable})
    return " or ".join(kind.replace("-", " ") for kind in found)


def escaped(text: str) -> str:
    """Plain text for GitHub: formulas have stars, bars and brackets that Markdown would take for its own. `code` stays code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        parts = [text]
    return "`".join(part if i % 2 else "".join(f"\\{c}" if c in "\\`*_[]<>|~$#" else c for c in part) for i, part in enumerate(parts))


def formula(text: str) -> str:
    """All of it as code, which GitHub shows as it stands."""
    return f"`{text.replace('`', '').rstrip('.')}`"


def anchor(title: str) -> str:
    """As GitHub makes it from a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def heading(module: str) -> tuple[str, str]:
    name = module.rpartition(".")[2]
    if module.startswith("vae_variants.") and name in TITLES:
        return TITLES[name]
    text = inspect.getdoc(sys.modules[module]) if module in sys.modules else ""
    return name, (text or "").split("\n")[0]


def entry(m: Metric) -> list[str]:
    needs = ", ".join(f"`{need.__name__}`" for need in m.needs) or "nothing"
    name = "" if m.published in ("", m.name) else f" (in records `{m.published}`)"
    lines = [f"### `{m.name}`", "", f"{escaped(m.description)}.", ""]
    lines += [f"*Unit* {escaped(m.unit)}; {DIRECTIONS[m.better]}; *kind* {kinds(m)}; *needs* {needs}{name}.", ""]
    for label in NOTES:
        if label in m.notes:
            lines.append(f"- **{label}**: {(formula if label == 'Formula' else escaped)(m.notes[label])}")
    return [*lines, *([""] if m.notes else [])]


def metrics_page(metrics: Iterable[Metric]) -> str:
    """The whole page."""
    groups: dict[str, list[Metric]] = {}
    for m in metrics:
        groups.setdefault(m.module, []).append(m)
    lines = ["# Metrics", "", *INTRODUCTION.rstrip().split("\n"), ""]
    for module, group in groups.items():
        title = heading(module)[0]
        lines.append(f"- [{title}](#{anchor(title)}): " + ", ".join(f"[`{m.name}`](#{anchor(m.name)})" for m in group))
    for module, group in groups.items():
        title, text = heading(module)
        lines += ["", f"## {title}", "", escaped(text), ""]
        for m in group:
            lines += entry(m)
        lines.pop()
    return "\n".join(lines) + "\n"
