"""Plug-ins that are right, and the mistakes that are planted in them."""
# ruff: noqa: E501  (tables)

LIKELIHOOD = '''
import math
import torch
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support


@LIKELIHOODS.add
class Mine(Likelihood):
    """Logistic density of scale s around the decoder's output."""

    support, k = Support.REAL, 1

    def __init__(self, s: float = 0.5) -> None:
        super().__init__()
        self.s = s

    def log_prob(self, h, x):
        u = (x - h) / self.s
        return (-u - 2 * torch.nn.functional.softplus(-u) - math.log(self.s)).sum(-1)

    def sample(self, h):
        return h + self.s * torch.logit(torch.rand_like(h).clamp(1e-6, 1 - 1e-6))

    def mean(self, h):
        return h
'''
OBJECTIVE = '''
import math
from vae_variants.models.objectives import OBJECTIVES


@OBJECTIVES.add
def mine(d, weight: float = 1.0):
    """The ELBO, once more."""
    return weight * d.kl - d.log_px.mean(0)
'''
MODEL = '''
import torch
from vae_variants.models.likelihoods import Support
from vae_variants.models.base import MODELS, Density, Model, Sampler


@MODELS.add
class Mine(Model, Sampler, Density):
    """A Bernoulli for each pixel, whatever the others are."""

    exact, support = True, Support.BINARY

    def __init__(self, shape, *, scale: float = 1.0):
        super().__init__()
        self.shape = shape
        self.logits = torch.nn.Parameter(torch.randn(shape[0] * shape[1] * shape[2]))

    def log_prob(self, x):
        return (x * self.logits - torch.nn.functional.softplus(self.logits)).sum(-1)

    def loss(self, x, t):
        return -self.log_prob(x).mean()

    def sample(self, n):
        return (torch.rand(n, len(self.logits)) < self.logits.sigmoid()).to(self.logits.dtype)
'''
METRIC = '''
import torch
from vae_variants import metric
from vae_variants.models.base import Coder


@metric(needs=(Coder,), unit="grey", better="lower")
def mine(e):
    """largest error of any pixel"""
    return (e.reconstructions - e.dataset.grey()).abs().max().item()
'''
DATASET = '''
import torch
from vae_variants.datasets import DATASETS, split


@DATASETS.add
def mine(size: int = 6):
    """300 images of noise on 6x6 pixels, drawn by the program"""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, size, size), generator=generator, dtype=torch.uint8)
    return split("mine", images, None, levels=256, validation=50, test=50)
'''
VARIANT = """
from vae_variants import VARIANTS, Variant

VARIANTS.add(Variant("mine", "a small network", "own", {"model": "vae", "latent": 3}), name="mine")
"""
NETWORK = """
import math
from torch import nn
from vae_variants.models.networks import NETWORKS, Network

NETWORKS.add(
    Network(
        lambda shape, n_out, hidden, activation: nn.Sequential(nn.Linear(math.prod(shape), 8), nn.Tanh(), nn.Linear(8, n_out)),
        lambda n_in, shape, k, hidden, activation: nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, math.prod(shape) * k)),
        "one hidden layer of eight units",
    ),
    name="mine",
)
"""
POSTERIOR = '''
import math
import torch
from vae_variants import POSTERIORS, PRIORS, Drawn, Posterior, Scored, closed_kl


class Shifted(Scored):
    """Independent normals, from means and log scales."""

    def __init__(self, mean, log_scale):
        self.mean, self.log_scale = mean, log_scale

    def draw(self, k):
        eps = torch.randn(k, *self.mean.shape, dtype=self.mean.dtype)
        z = self.mean + self.log_scale.exp() * eps
        return Drawn(z, self.log_prob(z))

    def log_prob(self, z):
        u = (z - self.mean) / self.log_scale.exp()
        return (-0.5 * u.square() - self.log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)

    def detached(self):
        return Shifted(self.mean.detach(), self.log_scale.detach())


@closed_kl(PRIORS["normal"], Shifted)
def kl(p, q):
    return 0.5 * (q.mean.square() + (2 * q.log_scale).exp() - 1) - q.log_scale


@POSTERIORS.add
class Mine(Posterior):
    """Independent normals, once more."""

    gives = Shifted

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.inputs = 2 * latent

    def forward(self, h):
        return Shifted(*h.chunk(2, -1))
'''
WHOLE = {
    "likelihood": LIKELIHOOD, "objective": OBJECTIVE, "model": MODEL, "metric": METRIC, "dataset": DATASET, "variant": VARIANT,
    "network": NETWORK, "posterior": POSTERIOR,
}  # fmt: skip

BROKEN = [  # kind, what is written, what is written instead, the law, words of its line
    ("likelihood", " - math.log(self.s)", "", "normalised", "sums to 0.5 instead of 1 over one pixel; a factor 2 is missing: add 0.6931 nats"),
    ("likelihood", "-u - 2 *", "-u - math.log(2 * math.pi) - 2 *", "normalised", "which is log(2 pi), for each pixel"),
    ("likelihood", "- math.log(self.s)", "- math.log(self.s) + 0.1 * h", "normalised", "depending on h; its normaliser"),
    ("likelihood", ".sum(-1)\n\n    def sample", ".mean(-1)\n\n    def sample", "sums-over-pixels", "is the mean over pixels and not their sum"),
    ("likelihood", LIKELIHOOD[LIKELIHOOD.index("        return (-u") : LIKELIHOOD.index("    def mean")],
     "        return -0.5 * u.square().mean(-1) - x.shape[-1] * math.log(self.s * math.sqrt(2 * math.pi))\n\n    def sample(self, h):\n        return h\n\n",
     "sums-over-pixels", "of three pixels differs by up to"),
    ("likelihood", ".sum(-1)\n\n    def sample", ".sum()\n\n    def sample", "shapes", "reduces over the batch: expected shape (5,), got ()"),
    ("likelihood", ".sum(-1)\n\n    def sample", "\n\n    def sample", "shapes", "does not sum over pixels: expected shape (5,), got (5, 3)"),
    ("likelihood", "u = (x - h)", "u = (x.expand(h.shape) - h)", "broadcasts", "of outputs (4, D k) and images (2, 1, D) fails: "),
    ("likelihood", "u = (x - h)", "h = h.flip(0) if x.dim() > h.dim() else h\n        u = (x - h)", "broadcasts", "images (2, 1, D) is not that of each pair"),
    ("likelihood", "Support.REAL", "Support.UNIT", "normalised", "but to 1 over Support.REAL; write support = Support.REAL"),
    ("likelihood", "h + self.s *", "h + 2 * self.s *", "samples-what-it-scores", "draws do not match log_prob: at h = "),
    ("likelihood", "h + self.s * torch", "h * float('nan') * torch", "samples-lie-in-the-support", "draws nan, which is not in Support.REAL"),
    ("likelihood", "return h\n", "return h + 1\n", "mean-is-the-expectation", "but the expectation under log_prob is"),
    ("likelihood", "/ self.s\n", "/ self.s + 0 * h.abs().sqrt()\n", "finite-far-out", "the gradient with respect to h is nan at h = 0, x = 0"),
    ("likelihood", "u = (x - h)", "h = h if h.sum() > -1e9 else h\n        u = (x - h)", "can-be-stacked", "cannot be stacked (vmap): "),
    ("likelihood", "k = Support.REAL, 1", "k = Support.REAL, 2", "shapes", "gives (5, 6) for 3 pixels, expected (5, 3)"),
    ("likelihood", '"""Logistic density of scale s around the decoder\'s output."""', "", "says-what-it-is", "has no description"),
    ("likelihood", "(x - h) / self.s", "(x - h) / self.z", "shapes", "has no attribute 'z'; fix mine.py:18, in log_prob"),
    ("objective", "weight * d.kl -", "-weight * d.kl -", "a-bound-when-training-ends", "not a bound: minus it is"),
    ("objective", "weight * d.kl -", "-weight * d.kl -", "a-bound-when-training-ends", "the KL has the wrong sign: write d.kl - d.log_px"),
    ("objective", "weight * d.kl -", "-", "a-bound-when-training-ends", "the KL is missing"),
    ("objective", "weight * d.kl - d.log_px.mean(0)", "-d.log_w.logsumexp(0)", "a-bound-when-training-ends", "the log K is missing"),
    ("objective", "weight * d.kl - d", "d", "better-draws-cost-less", "does not fall where log p(x | z) rises; it is minimised"),
    ("objective", "weight * d.kl - d.log_px.mean(0)", "(d.kl - d.log_px.mean(0)).sum()", "one-number-for-each-image", "reduces over the batch"),
    ("objective", "d.log_px.mean(0)", "d.log_px", "one-number-for-each-image", "expected shape (5,), got (1, 5)"),
    ("objective", "weight * d.kl - d.log_px.mean(0)", "-d.log_w.exp().mean(0).log()", "finite-far-out", "stay in logarithms"),
    ("objective", "weight * d.kl", "weight * float(d.kl.sum() > 0) * d.kl", "can-be-stacked", "cannot be stacked (vmap): "),
    ("objective", "d.kl - d.log_px", "d.kl.detach() - d.log_px.detach()", "better-draws-cost-less", "has no gradient"),
    ("model", "-self.log_prob(x).mean()", "-self.log_prob(x)", "each-players-loss-reaches-each-of-its-parameters", "expected one number, ()"),
    ("model", "x * self.logits -", "2 * x * self.logits -", "an-exact-density-sums-to-one", "instead of 1 over all 1024 images"),
    ("model", "< self.logits.sigmoid()", "< 0.5", "samples-follow-the-density", "where log_prob says"),
    ("model", "(torch.rand(n, len(self.logits)) < self.logits.sigmoid())", "self.logits.sigmoid().expand(n, -1)",
     "capabilities-keep-their-promises", "which is not in Support.BINARY; draw pixels, not their probabilities"),
    ("model", "self.shape = shape", "self.shape = shape\n        self.idle = torch.nn.Parameter(torch.zeros(3))",
     "each-players-loss-reaches-each-of-its-parameters", "does not reach idle"),
    ("model", "-self.log_prob(x).mean()", "-self.log_prob(x).mean() * float(x.sum() > 0)", "stacked-seeds-are-separate-ones", "cannot be stacked"),
    ("metric", ".abs().max().item()", ".abs()", "gives-a-number", "which is not one number"),
    ("metric", ".abs().max().item()", ".log().mean().item()", "gives-a-number", "is nan of"),
    ("metric", ".abs().max().item()", ".abs().max().item() + torch.rand(()).item()", "is-the-same-again", 'draw inside `with e.noise("mine"):`'),
    ("metric", "    return (", "    next(e.model.buffers(), next(e.model.parameters(), None)).zero_()\n    return (", "leaves-the-model-as-it-is", "changes"),
    ("metric", '"""largest error of any pixel"""', "", "says-what-it-is", "has no description"),
    ("metric", "e.reconstructions", "e.reconstruction", "says-what-it-is", "has no attribute 'reconstruction'; fix mine.py:10, in mine"),
    ("dataset", "test=50", "test=(images[:50], None)", "test-images-are-new", "of its test images are training images, and 0 % of those are there twice"),
    ("dataset", "levels=256", "levels=16", "gives-images", "of 16 levels; write levels=256"),
    ("dataset", "randint(0, 256", "randint(0, 2", "uses-its-levels", "its brightest pixel is 1, of 256 levels: nearly black; write levels=2"),
    ("dataset", "generator=generator, ", "", "is-the-same-again", "it is another data set the second time"),
    ("dataset", "dtype=torch.uint8", "dtype=torch.int64", "gives-images", "in uint8 are expected"),
    ("dataset", "return split", "return images\n    return split", "gives-images", "gives Tensor and not a Dataset"),
    ("variant", '"latent"', '"latnet"', "can-be-built", "did you mean 'latent'"),
    ("variant", '"own"', '""', "says-what-it-is", "has no reference"),
    ("network", "math.prod(shape) * k", "math.prod(shape)", "shapes", "the decoder gives (4, 64) for (1, 8, 8), k = 2, expected (4, 128)"),
    ("network", "nn.Linear(8, n_out)", "nn.Linear(8, n_out), nn.Threshold(1e9, 0.0)", "can-be-stacked", "the gradient of the encoder does not reach 0.weight"),
    ("posterior", ").sum(-1)\n\n    def detached", ")\n\n    def detached", "draws-samples-with-their-density", "has shape (1, 3, 3), expected (1, 3)"),
    ("posterior", "gives = Shifted", "gives = __import__('vae_variants').Diagonal", "draws-samples-with-their-density", "where it says gives = Diagonal"),
    ("posterior", "gives = Shifted", "gives, space = Shifted, __import__('vae_variants').Space.SPHERE", "samples-lie-in-its-space", "in Space.SPHERE"),
    ("posterior", "return Drawn(z, self.log_prob(z))", "return Drawn(z, self.log_prob(z) + 1)", "scores-its-samples-alike", "by -1 to -1 nats; a constant"),
    ("posterior", " - 0.5 * math.log(2 * math.pi)", "", "samples-follow-its-density", "which is log(2 pi) / 2 for each unit"),
    ("posterior", "self.log_scale.exp() * eps", "(0.8 * self.log_scale).exp() * eps", "samples-follow-its-density", "E_q[f(z) / q(z)] = "),
    ("posterior", "self.mean + self", "self.mean.detach() + self.detached()", "its-gradient-reaches-the-encoder", "the gradient of z does not reach the encoder"),
    ("posterior", "2 * latent", "2 * latent + 2", "draws-samples-with-their-density", "expected (1, 3, 3)"),
    ("posterior", "return Shifted(*h.chunk(2, -1))", "return Shifted(*h[:, :-1].chunk(2, -1))", "draws-samples-with-their-density", "raises "),
    ("posterior", "return Shifted(self.mean.detach(), ", "return Shifted(self.mean, ", "detached-holds-its-parameters", "still has a gradient to the encoder"),
    ("posterior", "return 0.5 * (q.mean", "return -0.5 * (q.mean", "its-closed-kl-is-that-of-its-samples", "where the mean of log q - log p over"),
    ("posterior", "return Shifted(*h", "return Shifted(*(h if h.sum() > -1e9 else -h)", "can-be-stacked", "cannot be stacked (vmap)"),
]  # fmt: skip

WRONG = [  # what cannot even be registered: kind, what is written, what instead, words
    ("likelihood", "support, k = Support.REAL, 1", "k = 1", "line 7: likelihood 'mine' has no support; write support = one of Support.BINARY"),
    ("likelihood", "def mean(self, h)", "def average(self, h)", "likelihood 'mine' is abstract still; write mean() in class Mine"),
    ("likelihood", "s: float = 0.5", "s: float", "likelihood 'mine' has an option 's' without a default; write s=..."),
    ("likelihood", "s: float = 0.5", "s=None", "has an option s=None, which no selector can set"),
    ("likelihood", "(Likelihood):", ":", "is not a class derived from Likelihood; write class Mine(Likelihood)"),
    ("likelihood", "Support.REAL, 1", "Support.BYTE, 1", "write levels: int = 256 among the arguments of Mine.__init__"),
    ("likelihood", "class Mine", "class Gaussian", "likelihood 'gaussian' is registered twice, first at "),
    ("likelihood", "class Mine(Likelihood):", "class Mine(Likelihood)", "line 8: SyntaxError: expected ':'; fix this line: class Mine(Likelihood)"),
    ("likelihood", "import torch", "import torch\nimport absent_package", "line 4: ModuleNotFoundError: No module named 'absent_package'; install it"),
    ("likelihood", "vae_variants.models.likelihoods", "vae_variants.likelihoods", "; it is vae_variants.models.likelihoods now"),
    ("likelihood", "import math", "from vae_variants import model", "; it is vae_variants.models.base now"),
    ("objective", "import math", "from vae_variants.studies.judging import compared", "; it is vae_variants.analysis.verdicts now"),
    ("likelihood", "Likelihood, Support", "Likelihod, Support", "line 4: ImportError"),
    ("likelihood", "Likelihood, Support", "Likelihod, Support", "did you mean 'Likelihood'?"),
    ("likelihood", "import LIKELIHOODS, Likelihood,", "import LIKELIHOODS,", "add: from vae_variants import Likelihood"),
    ("likelihood", "import math", "import math, sys\nsys.exit(3)", "line 3: SystemExit: 3; a plug-in registers things and does not end the program"),
    ("likelihood", "Support.REAL", "Support.READ", "line 11: AttributeError"),
    ("objective", "(d, weight: float = 1.0)", "()", "objective 'mine' takes no Draws; write def name(d, option=1.0)"),
    ("model", "exact, support = True, Support.BINARY", "exact = True", "model 'mine' has no support"),
    ("model", "exact, support = True, Support.BINARY", "support = Support.BINARY", "does not say whether its log_prob is exact"),
    ("model", "def loss", "def lost", "has no method 'loss', which a player minimises"),
    ("model", "def sample", "def draw", "is abstract still; write sample() in class Mine"),
    ("model", "(self, shape,", "(self, size,", "does not take 'shape', which it is given"),
    ("metric", 'unit="grey", ', "", "line 7: TypeError: metric() missing 1 required keyword-only argument: 'unit'; give it"),
    ("metric", 'unit="grey"', 'unit=" "', "line 7: metric 'mine' has no unit; write unit="),
    ("metric", 'better="lower"', 'better="less"', "better is one of"),
    ("dataset", "size: int = 6", "size", "has an option 'size' without a default"),
    ("variant", '"model": "vae", ', "", "variant 'mine' names no model"),
]  # fmt: skip
