"""METRICS.md: the documentation of every metric, by the file that it is in."""

import inspect
import sys
from collections.abc import Iterable

from vae_variants.evaluation import Metric
from vae_variants.evaluation.metrics import NOTES
from vae_variants.models.base import MODELS
from vae_variants.report.html import environment
from vae_variants.report.markdown import escaped

TITLES = {  # file of `evaluation` -> (title, subject)
    "likelihood": ("Likelihood", "The probability that the model gives to the test images; compare within one pixel type only."),
    "gap": ("Gap of the bound", "How far the ELBO is below log p(x), and how much of that the encoder causes."),
    "calibration": ("Decoder sigma", "Whether the standard deviation of a Gaussian decoder matches its errors."),
    "reconstruction": ("Reconstruction", "How close the decoder comes to an image after encoding and decoding."),
    "random_features": ("Reconstruction of data without classes", "How alike reconstructions and originals are in untrained features."),
    "given_networks": (
        "In networks that are given",
        "FID, its like in DINOv2 and LPIPS, in networks whose files the user names; absent without.",
    ),
    "probe": ("Linear probe", "How well a logistic regression on frozen latents predicts the classes, by the number of labels."),
    "latent": ("Latent units", "What the latent units encode."),
    "layers": ("Layers of latents", "What each layer of a hierarchical model encodes."),
    "classes": ("Classes", "What the model itself says of the classes."),
    "codes": ("Discrete codes", "How a model whose latents are codes uses its alphabet."),
    "disentanglement": (
        "Disentanglement",
        "Whether latent units and the factors that images were made from belong together one to one; only of data sets with factors.",
    ),
    "sharpness": ("Sharpness of samples", "How blurred noise-free samples are, with a control for noise that looks like sharpness."),
    "spectrum": ("Spectrum of samples", "Noise-free samples against real images, by spatial frequency."),
    "distance": ("Samples against real images", "Distances in the features of a classifier trained on the same data set, not FID."),
    "speed": ("Cost", "Throughput, memory and size; do not compare machines."),
}
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "none": "neither direction is better"}


def kinds(m: Metric) -> str:
    """`exact`, or `exact or lower bound` if it depends on the registered models."""
    capable = [model for model in MODELS.values() if all(issubclass(model, need) for need in m.needs)]
    found = [m.kind] if isinstance(m.kind, str) else sorted({m.kind_for(model.__new__(model)) for model in capable})
    return " or ".join(kind.replace("-", " ") for kind in found)


def formula(text: str) -> str:
    """All of it as code."""
    return f"`{text.replace('`', '').rstrip('.')}`"


def anchor(title: str) -> str:
    """The anchor that GitHub makes from a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def heading(module: str) -> tuple[str, str]:
    name = module.rpartition(".")[2]
    if module.startswith("vae_variants.") and name in TITLES:
        return TITLES[name]
    text = inspect.getdoc(sys.modules[module]) if module in sys.modules else ""
    return name, (text or "").split("\n")[0]


def metrics_page(metrics: Iterable[Metric]) -> str:
    """The whole page."""
    groups: dict[str, list[Metric]] = {}
    for m in metrics:
        groups.setdefault(m.module, []).append(m)
    template = environment().overlay()
    template.filters = {**template.filters, "anchor": anchor, "escaped": escaped, "formula": formula, "kinds": kinds}
    found = [(*heading(module), group) for module, group in groups.items()]
    return template.get_template("metrics.md").render(groups=found, directions=DIRECTIONS, notes=NOTES)
