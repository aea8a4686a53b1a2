"""Adding a thing is one place: it then is in `list`, in the laws and in a report."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.trying import forget
from vae_variants.cli.app import app
from vae_variants.evaluation import METRICS
from vae_variants.harness import fingerprint
from vae_variants.models.base import MODELS
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.plugins import load_plugin, load_plugins
from vae_variants.registry import UserError

pytestmark = pytest.mark.usefixtures("smaller_smoke")

TOYS = '''
"""A toy of each kind."""
import torch
from vae_variants.datasets import DATASETS, split
from vae_variants.evaluation import METRICS, metric
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.base import MODELS, Density, Encoder, Model, Sampler
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.models.priors import PRIORS, Prior
from vae_variants.variants import VARIANTS, Variant


@PRIORS.add
class ToyWide(Prior):
    """A normal distribution of standard deviation `wide`."""
    def __init__(self, latent, wide: float = 1.5):
        super().__init__(latent)
        self.wide = wide
    def sample(self, n, q):
        return self.wide * torch.randn(n, self.latent, dtype=self.like.dtype, device=self.like.device)
    def log_prob(self, z, q):
        return torch.distributions.Normal(0.0, self.wide).log_prob(z).sum(-1)


@LIKELIHOODS.add
class ToyLaplace(Likelihood):
    """A Laplace density of scale 1."""
    support, k = Support.REAL, 1
    def log_prob(self, h, x):
        return (-(x - h).abs() - torch.tensor(2.0).log()).sum(-1)
    def sample(self, h):
        return h + torch.distributions.Laplace(torch.zeros_like(h), torch.ones_like(h)).sample()
    def mean(self, h):
        return h


@OBJECTIVES.add
def toy_half(d):
    """The ELBO of the first half of the draws."""
    return d.kl - d.log_px[: (len(d.log_px) + 1) // 2].mean(0)


@MODELS.add
class ToyIndependent(Model, Sampler, Density):
    """A Bernoulli for each pixel, whatever the others are."""
    exact, support = True, Support.BINARY
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.logits = torch.nn.Parameter(torch.zeros(shape[0] * shape[1] * shape[2]))
    def log_prob(self, x):
        return (x * self.logits - torch.nn.functional.softplus(self.logits)).sum(-1)
    def loss(self, x, t):
        return -self.log_prob(x).mean()
    def sample(self, n):
        return (torch.rand(n, len(self.logits)) < self.logits.sigmoid()).float()


@metric(needs=(Density,), unit="toys", better="lower")
def toy_metric(e):
    """a number of one's own"""
    return float(e.dataset.dim)


@DATASETS.add
def toy_squares():
    """squares of random size on 6x6 pixels, drawn by the program"""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(120, 1, 6, 6, dtype=torch.uint8)
    side = torch.randint(1, 6, (120,), generator=generator)
    for image, s in zip(images, side):
        image[0, :s, :s] = 255
    return split("toy-squares", images, side - 1, validation=20, test=20)


VARIANTS.add(Variant("toy-variant", "a variant of toys alone", "nobody", {"model": "vae", "likelihood": "toy-laplace",
             "objective": "toy-half", "samples": 4, "latent": 2, "hidden": [8]}), name="toy-variant")
VARIANTS.add(Variant("toy-pixels", "independent pixels", "nobody", {"model": "toy-independent"}), name="toy-pixels")
'''
SUITE = 'dataset = "toy-squares"\nseeds = 2\n[[runs]]\nvariants = ["toy-variant", "toy-pixels", "vae[prior=toy-wide,wide=2,latent=2]"]\n'


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toys") / "toys.py"
    path.write_text(TOYS)
    (path.parent / "toys.toml").write_text(SUITE)
    return path


@pytest.fixture
def program(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """The program in this process, beside the plug-in, which is forgotten at the end."""
    monkeypatch.chdir(plugin.parent)

    def call(*args: str, plugin: Path = plugin) -> str:
        result = CliRunner().invoke(app, [*args, "--plugin", str(plugin)])
        assert result.exit_code == 0, result.output
        return result.stdout

    yield call
    forget(plugin.parent)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("likelihoods", "toy-laplace"), ("objectives", "toy-half"), ("models", "toy-independent"), ("metrics", "toy_metric"),
        ("datasets", "toy-squares"), ("variants", "toy-variant"), ("priors", "toy-wide"),
    ],
)  # fmt: skip
def test_a_toy_is_in_list(kind, name, program):
    names = [entry["name"] for entry in json.loads(program("list", kind, "--json"))]
    assert name in names


def test_a_toy_is_in_the_laws(plugin):
    laws = Path(__file__).with_name("test_checks.py")
    command = [sys.executable, "-m", "pytest", str(laws), "--plugin", str(plugin), *["-k", "toy", "-vv", "-p", "no:cacheprovider"]]
    done = subprocess.run(command, cwd=laws.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for law in (
        "likelihood-normalised-toy-laplace",
        "prior-density-integrates-to-one-toy-wide",
        "objective-a-bound-when-training-ends-toy-half",
        "model-each-players-loss-reaches-each-of-its-parameters-toy-independent",
        "model-capabilities-keep-their-promises-toy-independent",
        "model-stacked-seeds-are-separate-ones-toy-independent",
        "metric-is-the-same-again-toy_metric",
        "variant-says-what-it-is-toy-variant",
        "dataset-test-images-are-new-toy-squares",
    ):
        assert law in done.stdout


def test_a_toy_is_in_a_report(program, plugin):
    program("bench", "toys.toml", "--fidelity", "smoke", "--jobs", "0")
    page = (plugin.parent / "reports" / "toys-smoke" / "README.md").read_text()
    assert "`toy-variant`" in page
    assert "toy_metric ↓ (toys)" in page
    assert "`toy-variant` (likelihood toy-laplace, objective toy-half)" in page
    assert "`vae[prior=toy-wide,wide=2,latent=2]` (prior toy-wide)" in page


def test_the_study_of_the_documentation_runs(program, plugin):
    text = Path(__file__).parents[2].joinpath("docs", "claims.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "# bigger_codes.py" in block)
    path = plugin.with_name("bigger_codes.py")
    path.write_text(code, encoding="utf-8")
    said = program("study", "bigger-codes", "--fidelity", "smoke", "--seeds", "2", "--jobs", "0", plugin=path)
    assert "inconclusive" in said and "2 to 5" in said  # two seeds are too few for any verdict
    assert "bigger-codes" in program("list", "studies", plugin=path)
    page = (plugin.parent / "reports" / "claims" / "README.md").read_text(encoding="utf-8")
    assert "A code with more units reconstructs better" in page and "figures/digits-smoke-bigger-codes-error.png" in page


BARE = """
from vae_variants.models.vae import VAE
from vae_variants.models.base import MODELS

@MODELS.add
class {name}(VAE):
    \"\"\"A VAE with another number.\"\"\"
    extent = 1
"""


@pytest.fixture
def keyed(tmp_path, monkeypatch):
    """Loads a text as a plug-in, and forgets it -> fingerprints of training and of all for some values, were the files as they are."""
    registries = (MODELS, OBJECTIVES, METRICS)
    before = [dict(registry) for registry in registries]
    fresh, kept = fingerprint.read.__wrapped__, fingerprint.read
    monkeypatch.setattr(fingerprint, "read", lambda path, *_: (kept if path.is_relative_to(fingerprint.PACKAGE) else fresh)(path))
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def forget() -> None:
        for registry, names in zip(registries, before, strict=True):
            for name in set(registry) - set(names):
                del registry[name]
        for name in set(sys.modules) - modules:
            if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).is_relative_to(tmp_path):
                del sys.modules[name]
        for cache in (fingerprint.sources, fingerprint.digest, fingerprint.elsewhere):
            cache.cache_clear()
        importlib.invalidate_caches()

    def load(text: str, **values: str) -> tuple[str, str]:
        forget()
        (tmp_path / "plugin.py").write_text(text)
        load_plugins([tmp_path / "plugin.py"])
        return tuple(fingerprint.fingerprint({"model": "vae", **values}, evaluation) for evaluation in (False, True))

    yield load
    forget()


def test_a_model_of_no_methods_is_in_the_key_with_what_it_inherits(keyed):
    text = BARE.format(name="Bare")
    one = keyed(text, model="bare")
    assert keyed(text.replace("another number", "some other number"), model="bare") == one
    other = keyed(text.replace("extent = 1", "extent = 2"), model="bare")
    assert one[0] != other[0] and one[1] != other[1]
    inherited = {path.name for path in fingerprint.sources(MODELS["bare"])}
    assert {"plugin.py", "vae.py", "base.py"} <= inherited
    assert "module.py" not in inherited, "torch's"


HELPERS = ["import helper", "from helper import factor", "import parts.helper", "from parts import helper", "from parts.deeper import more"]


@pytest.mark.parametrize("said", HELPERS)
def test_what_a_plugin_imports_is_in_the_key(said, keyed, tmp_path):
    (tmp_path / "parts").mkdir()
    files = [tmp_path / "helper.py", *(tmp_path / "parts" / name for name in ("__init__.py", "helper.py", "deeper.py", "unused.py"))]
    for path in files:
        path.write_text("factor = 2\n")
    (tmp_path / "parts" / "deeper.py").write_text("from .helper import factor as more\n")
    text = f"{said}\nimport torch, numpy as np\nfrom vae_variants import OBJECTIVES\n\n@OBJECTIVES.add\ndef helped(d):\n    return d.kl\n"
    one = keyed(text, objective="helped")
    used = {path for path in files if path.name != "unused.py"} & ({files[0]} if "parts" not in said else set(files[1:4]))
    if "deeper" not in said:
        used -= {files[3]}
    for path in files:
        before = path.read_text()
        path.write_text(before + "more_of_it = 3\n")
        other = keyed(text, objective="helped")
        assert (one[0] != other[0], one[1] != other[1]) == ((path in used,) * 2), path
        path.write_text(before)
    assert keyed(text, objective="helped") == one


def test_a_metric_of_a_plugin_is_in_the_key_of_what_is_measured_alone(keyed):
    text = """
from vae_variants import metric
from vae_variants.models.base import {need}

@metric(needs=({need},), unit="images", better="none")
def mine(e):
    return 1
"""
    none = keyed("")
    one = keyed(text.format(need="Encoder"))
    other = keyed(text.format(need="Encoder").replace("return 1", "return 2"))
    assert none[0] == one[0] == other[0]
    assert len({none[1], one[1], other[1]}) == 3
    odd = text.replace("import {need}\n", "import Capability\n\n\nclass Odd(metaclass=Capability):\n    pass\n").format(need="Odd")
    assert keyed(odd) == none, "a VAE is not asked for what it cannot be"


def test_plugins_of_one_name_are_modules_of_their_own(keyed, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plugin.py").write_text(BARE.format(name="Second"))
    keyed(BARE.format(name="First"))
    load_plugins([tmp_path / "other" / "plugin.py"])
    assert tmp_path / "plugin.py" in fingerprint.sources(MODELS["first"])
    assert tmp_path / "other" / "plugin.py" in fingerprint.sources(MODELS["second"])


FIRST = "from vae_variants.models.base import MODELS, Model\n"
ALONE = {  # what a script does first -> what it says in the end
    "print(MODELS['vae'].__name__)": "VAE",
    "print('vae' in MODELS, 'vea' in MODELS)": "True False",
    "print(len(MODELS) == len(list(MODELS)) == len(MODELS.values()) == len({**MODELS}) > 10, 'vae' in dict(MODELS.items()))": "True True",
    "print(MODELS.get('made').__name__, MODELS.get('vea'))": "MADE None",
    "MODELS['vea']": "unknown model 'vea'; did you mean 'vae'?",
    "MODELS.add(type('VAE', (Model,), {}))": "model 'vae' is registered twice, first at",
    "import vae_variants as vv; print(*(getattr(vv, name).__name__ for name in ('models', 'harness', 'report')))": (
        "vae_variants.models vae_variants.harness vae_variants.report"
    ),
    "import vae_variants as vv; vv.likelyhoods": "module 'vae_variants' has no attribute 'likelyhoods'",
}


APART = """
import os, sys, traceback
import matplotlib, pandas, torch
assert not any(name.startswith("vae_variants") for name in sys.modules)
for i, text in enumerate(sys.argv[1:]):
    if os.fork() == 0:
        sys.stdout = sys.stderr = open(f"{i}.txt", "w")
        try:
            exec(text)
        except BaseException:
            traceback.print_exc()
        sys.stdout.close()
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, str]:
    """What each script of `ALONE` says, in a process of its own in which the libraries alone were imported before."""
    folder = tmp_path_factory.mktemp("alone")
    texts = [("" if text.startswith("import") else FIRST) + text for text in ALONE]
    subprocess.run([sys.executable, "-c", APART, *texts], cwd=folder, check=True)
    return {text: (folder / f"{i}.txt").read_text() for i, text in enumerate(ALONE)}


@pytest.mark.parametrize("text", ALONE)
def test_what_is_built_in_is_there_for_a_script_that_imported_but_one_module(text, answers):
    assert ALONE[text] in answers[text].splitlines()[-1]


def test_a_plugin_can_be_a_package_with_relative_imports(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "half.py").write_text("def half(d):\n    return 0.5 * d.elbo\n")
    (folder / "__init__.py").write_text(
        "from vae_variants.models.objectives import OBJECTIVES\nfrom .half import half\nOBJECTIVES.add(half, name='half-packaged')\n"
    )
    try:
        ((registry, name),) = load_plugin(folder / "__init__.py")
        assert name == "half-packaged" and load_plugin(folder / "__init__.py")[0][0][name] is registry[name]
        (folder / "half.py").write_text("def half(d):\n    return 0.25 * d.elbo\n")  # a module of it that changed
        first = registry[name]
        assert load_plugin(folder / "__init__.py")[0][0][name] is not first
        (folder / "half.py").write_text("def other(d):\n    return d.elbo\n")
        with pytest.raises(UserError, match=r"__init__.py' failed to import: line 2: .*half"):
            load_plugin(folder / "__init__.py")
    finally:
        forget(tmp_path)
