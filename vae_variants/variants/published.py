"""Published figures of variants: the mean log p(x) of test images, in nats, and what is unlike here."""

from typing import NamedTuple


class Published(NamedTuple):
    """A figure of a variant on a data set.

    Attributes:
        value: Mean log p(x) of test images, nats.
        unlike: What differs from the variant and the protocol here.
        source: The paper and its table.
    """

    value: float
    unlike: str
    source: str


BURDA = "Burda et al. 2016, arXiv:1509.00519, table 1"
RAINFORTH = "Rainforth et al. 2018, arXiv:1802.04537, table 1"
NOROUZI = "Norouzi et al. 2020, arXiv:2004.04795"
LONG = "3280 epochs in batches of 20, tanh, L_5000"
SHORT, OWN = "300 epochs with cosine decay in place of 3280 with steps, L_1000", "batch=20,activation=tanh,optimizer=adam-1e-4,lr=0.001"
STATIC = "images binarised once, longer training"
PUBLISHED: dict[tuple[str, str], Published] = {  # (variant, data set)
    ("vae-bernoulli", "mnist"): Published(-86.76, LONG, BURDA),
    (f"vae-bernoulli[{OWN}]", "mnist"): Published(-86.76, SHORT, BURDA),
    (f"vae-samples-8[samples=5,{OWN}]", "mnist"): Published(-86.47, SHORT, BURDA),
    (f"iwae-8[samples=5,{OWN}]", "mnist"): Published(-85.54, SHORT, BURDA),
    (f"vae-two-layers[{OWN}]", "mnist"): Published(-85.33, SHORT, BURDA),
    (f"vae-two-layers[samples=5,{OWN}]", "mnist"): Published(-85.01, SHORT, BURDA),
    (f"iwae-two-layers-8[samples=5,{OWN}]", "mnist"): Published(-83.89, SHORT, BURDA),
    ("made[hidden=500,lr=0.003]", "mnist"): Published(
        -94.5, "images binarised once", "one layer of 500 units, one order: github.com/karpathy/pytorch-made"
    ),
    ("iwae-64", "mnist"): Published(-84.52, LONG, RAINFORTH),
    ("miwae-8x8", "mnist"): Published(-84.97, LONG, RAINFORTH),
    ("piwae-8x8", "mnist"): Published(-84.46, LONG, RAINFORTH),
    ("ciwae-64", "mnist"): Published(-85.24, LONG, RAINFORTH),
    ("vae-vamp", "mnist"): Published(-82.43, "two layers of 300, 40 latent units, more pseudo-inputs, L_5000", NOROUZI),
    ("vae-exemplar", "mnist"): Published(-82.09, "two layers of 300, 40 latent units, more exemplars, L_5000", NOROUZI),
    ("vae-two-layers", "mnist"): Published(-85.33, LONG, BURDA),
    ("iwae-two-layers-50", "mnist"): Published(-82.90, LONG, BURDA),
    ("hvae", "mnist"): Published(-86.40, "other networks and schedule", "Caterini et al. 2018, arXiv:1805.11328, as Pythae quotes it"),
    ("vae-poincare", "mnist"): Published(
        -101.47, "other networks and schedule", "Mathieu et al. 2019, arXiv:1901.06033, as Pythae quotes it"
    ),
    ("nade", "mnist"): Published(-88.33, STATIC, "Larochelle & Murray 2011, AISTATS, as others quote it; another quote has -88.86"),
    ("eonade", "mnist"): Published(
        -84.68, f"two hidden layers, more orders, {STATIC}", "Uria et al. 2014, arXiv:1310.1757, as others quote it"
    ),
    ("pixelcnn", "mnist"): Published(
        -81.30, f"more and wider layers, {STATIC}", "van den Oord et al. 2016, arXiv:1601.06759, as others quote it"
    ),
    ("pixel-vae", "mnist"): Published(-79.02, f"larger networks, {STATIC}", "Gulrajani et al. 2017, ICLR, as others quote it"),
    ("vae-planar", "mnist"): Published(
        -85.1, "80 flows in place of 8, other networks and schedule", "Rezende & Mohamed 2015, arXiv:1505.05770"
    ),
    ("vae-spherical", "mnist"): Published(
        -93.16, "von Mises-Fisher posterior, other networks and schedule", "Davidson et al. 2018, arXiv:1804.00891"
    ),
}
