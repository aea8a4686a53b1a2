"""Where a component comes from, and what a plug-in's file is charged with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vae_variants
from tests.trying import forget
from vae_variants.components import parameters
from vae_variants.evaluation import METRICS
from vae_variants.models import LIKELIHOODS, MODELS, NETWORKS, OBJECTIVES
from vae_variants.plugins import load_plugin
from vae_variants.registry import Refused, Registry, UserError
from vae_variants.variants import VARIANTS

PLUGIN = '''"""Line 1."""
from vae_variants import LIKELIHOODS, NETWORKS, OBJECTIVES, VARIANTS, Network, Variant, metric
from vae_variants.models.likelihoods import Gaussian


@OBJECTIVES.add
def mine(d):
    """A function, line 6."""
    return d.kl


@metric(unit="grey", better="none")
def mine_too(e):
    """a metric, line 12"""
    return 1.0


class Weighted:
    """An object."""
    def __call__(self, d):
        return d.kl


OBJECTIVES.add(Weighted(), name="half")  # line 24
LIKELIHOODS.add(Gaussian, name="again")  # line 25
NETWORKS.add(Network(NETWORKS["mlp"].encoder, NETWORKS["mlp"].decoder, "another name"), name="copied")  # line 26
VARIANTS.add(Variant("mine", "a variant", "own", {"model": "vae"}))  # line 27
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    forget(tmp_path)


def test_a_component_knows_its_file_and_line(plugin: Path) -> None:
    added = load_plugin(plugin)
    found = {(registry.kind, name): registry.places[name] for registry, name in added}
    assert {place.file for place in found.values()} == {str(plugin)}
    lines = {name: place.line for (_, name), place in found.items()}
    assert lines["mine_too"] == 12 and lines["half"] == 24 and lines["again"] == 25 and lines["copied"] == 26
    assert found["objective", "mine"].line == 6
    assert not any(place.own for place in found.values())


def test_what_is_built_in_is_in_the_package() -> None:
    names = {"gaussian": LIKELIHOODS, "mlp": NETWORKS, "elbo": OBJECTIVES, "rate": METRICS, "vae-conv": VARIANTS}
    assert all(registry.places[name].own for name, registry in names.items())
    assert LIKELIHOODS.places["gaussian"].line > 1


def test_a_plug_in_is_not_charged_with_what_it_loads(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.py", tmp_path / "outer.py"
    inner.write_text("from vae_variants import OBJECTIVES\n\n@OBJECTIVES.add\ndef inside(d):\n    'Inner.'\n    return d.kl\n")
    outer.write_text(
        f"from vae_variants.plugins import load_plugin\nload_plugin({str(inner)!r})\n" + inner.read_text().replace("ins", "outs")
    )
    assert [name for _, name in load_plugin(outer)] == ["outside"]
    outer.write_text(outer.read_text() + "1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_plugin(outer)
    assert "inside" in OBJECTIVES and "outside" not in OBJECTIVES
    forget(tmp_path)


def test_a_registry_refuses_a_name_that_is_taken_or_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "every", [*Registry.every])
    toys: Registry[object] = Registry("toy")
    toys.add(test_what_is_built_in_is_in_the_package, name="one")
    with pytest.raises(Refused, match=r"registered twice, first at .*test_registry\.py"):
        toys.add(object(), name="one")
    with pytest.raises(Refused, match="not valid"):
        toys.add(object(), name="a b")
    with pytest.raises(UserError, match="did you mean 'one'"):
        toys["onne"]


def test_every_public_name_is_there_and_importing_the_package_brings_no_torch() -> None:
    assert all(getattr(vae_variants, name) is not None for name in vae_variants.__all__)
    script = "import sys, vae_variants; vae_variants.UserError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_models_have_as_many_latents_unless_one_asks_for_others():
    """So that rows of one report differ in their model alone. The metric of riemannian-vae is costly, and learns ten."""
    sizes = {name: options["latent"] for name, model in MODELS.items() if "latent" in (options := parameters(model))}
    assert {name for name, size in sizes.items() if size != sizes["vae"]} == {"riemannian-vae"} and len(sizes) > 8


def test_variants_have_the_latents_of_their_suite_unless_their_name_or_their_method_says_otherwise():
    """An option of a variant wins over the defaults of a suite: a row has fewer latents than its neighbours, and nothing says so."""
    own = {name: config["latent"] for name, variant in VARIANTS.items() if "latent" in (config := variant.config)}
    odd = {name for name, size in own.items() if str(size) not in name.split("-")}
    assert odd == {"vae-gumbel", "vae-poincare", "vae-spherical", "vade"} and len(own) > 10
