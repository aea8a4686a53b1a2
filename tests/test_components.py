"""The table of components: one line adds a kind of part, and everything that depends on the kinds knows it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.made_up import made_up
from tests.trying import forget
from vae_variants.analysis.cards import cards, foreign
from vae_variants.analysis.entries import Entry
from vae_variants.checks import outcomes
from vae_variants.cli.app import app
from vae_variants.cli.registries import registry_of
from vae_variants.components import KINDS, Part, call
from vae_variants.datasets import load_dataset
from vae_variants.harness import RunSpec, fingerprint
from vae_variants.harness.fingerprint import plain
from vae_variants.plugins import load_plugin
from vae_variants.registry import Registry, UserError
from vae_variants.variants import build, configure

pytestmark = pytest.mark.usefixtures("smaller_smoke")

TOYS = '''
import torch
from vae_variants import MODELS, Model, Sampler, Support
from vae_variants.registry import Registry

TOY_PARTS = Registry("toy-part")


@TOY_PARTS.add
class Plain:
    """A scale of 1."""
    def scale(self):
        return 1.0


@TOY_PARTS.add
class Scaled:
    """A scale of one's choice."""
    def __init__(self, factor: float = 2.0):
        self.factor = factor
    def scale(self):
        return self.factor


@MODELS.add
class ToyHolder(Model, Sampler):
    """A model that takes a toy."""
    support = Support.REAL
    def __init__(self, shape, toy_part, *, width: int = 3):
        super().__init__()
        self.shape, self.toy_part = shape, toy_part
        self.weight = torch.nn.Parameter(torch.ones(()))
    def loss(self, x, t):
        return self.weight.square() * self.toy_part.scale()
    def sample(self, n):
        return torch.zeros(n, 64)
'''
TEMPLATE = """
from vae_variants.components import KINDS

@KINDS["toy-part"].registry.add
class Template:
    'A toy to begin with.'
    size = 1
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plug-in file with a registry of toys, two toys and a model that takes one; the table has a line more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Registry, "every", [*Registry.every])
    path, template = tmp_path / "toys.py", tmp_path / "template_of_toys.py"
    path.write_text(TOYS)
    template.write_text(TEMPLATE)
    kind = Part("toy-part", "toy-parts", str(template), "a toy", "list toy-parts --plugin {file}", default="plain", build=call)
    monkeypatch.setitem(KINDS, "toy-part", kind)
    load_plugin(path)
    yield path
    forget(tmp_path)
    forgotten()


def forgotten() -> None:
    for cache in (fingerprint.sources, fingerprint.digest, fingerprint.read, fingerprint.elsewhere):
        cache.cache_clear()


@pytest.fixture
def call_app(toys: Path) -> Callable[..., str]:
    def invoke(*args: str) -> str:
        result = CliRunner().invoke(app, list(args))
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def test_a_selector_completes_and_builds_a_new_kind_of_part(toys: Path) -> None:
    plain, scaled = configure("toy-holder[toy_part=plain|scaled]")
    assert plain.values["toy_part"] == "plain" and "factor" not in plain.values
    assert configure("toy-holder")[0].values == plain.values
    assert (scaled.values["toy_part"], scaled.values["factor"]) == ("scaled", 2.0)
    (chosen,) = configure("toy-holder[toy_part=scaled,factor=5]")
    assert build(chosen, load_dataset("digits")).toy_part.scale() == 5.0  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match="unknown toy-part 'sclaed'; did you mean 'scaled'"):
        configure("toy-holder[toy_part=sclaed]")
    with pytest.raises(UserError, match="'factor' is an option of toy_part=scaled"):
        configure("toy-holder[factor=5]")


def test_a_new_kind_of_part_is_in_identity_fingerprint_and_card(toys: Path) -> None:
    specs = [RunSpec(configure(f"toy-holder[toy_part={name}]")[0], "digits", (0,), "smoke") for name in ("plain", "scaled")]
    assert len({spec.identity for spec in specs}) == len({spec.key() for spec in specs}) == 2
    elsewhere = toys.with_name("more.py")
    elsewhere.write_text(TEMPLATE.replace("Template", "Other"))
    codes = []
    for size in (1, 2):
        elsewhere.write_text(elsewhere.read_text().replace("size = 1", f"size = {size}"))
        load_plugin(elsewhere)
        forgotten()
        codes.append([fingerprint.fingerprint({"model": "toy-holder", "toy_part": name}) for name in ("plain", "other")])
    assert codes[0][0] == codes[1][0] and codes[0][1] != codes[1][1]
    entry = Entry("toys", made_up(specs[1]))
    (card,) = cards([entry])
    assert ("toy-part", "scaled", ("A scale of one's choice.",)) in card.documents
    assert ("toy_part", "scaled") in card.differs
    assert foreign(entry) == "model toy-holder, toy-part scaled"


def test_a_new_kind_of_part_is_in_the_commands(toys: Path, call_app: Callable[..., str]) -> None:
    listed = json.loads(call_app("list", "toy-parts", "--json", "--plugin", "toys.py"))
    assert [entry["name"] for entry in listed] == ["plain", "scaled"]
    call_app("new", "toy_part", "my_toy_part")
    assert "toy-part 'my-toy-part'" in call_app("check", "my_toy_part.py")
    assert [outcome.state for outcome in outcomes("toy-part", "my-toy-part")] == ["passed"]


def test_every_kind_has_a_registry_a_description_and_a_validator() -> None:
    for kind in KINDS.values():
        if kind.name != "suite":
            registry = registry_of(kind.name)
            built_in = [name for name, place in registry.places.items() if place.own or "claims" in place.file]
            assert built_in and all(len(registry.describe(name)) >= 8 for name in built_in)
            assert registry.fault(object())
        assert not kind.template or (kind.example and "{file}" in kind.trial)


def test_a_fingerprint_does_not_depend_on_the_version_of_python() -> None:
    """Versions divide the text of an f-string differently, and have fields that others lack. What a program does decides."""
    code = 'def f(x, w):\n    return f"{{a}}{x:<{w}}"\n'
    here, there = ast.parse(code), ast.parse(code)
    joined, *_ = [node for node in ast.walk(there) if isinstance(node, ast.JoinedStr)]
    joined.values = [ast.Constant("{a"), ast.Constant("}"), joined.values[-1]]
    spec = joined.values[-1].format_spec  # type: ignore[attr-defined]
    spec.values.append(ast.Constant(""))
    there.body[0].type_params = []  # type: ignore[attr-defined]
    assert plain(here) == plain(there)
    codes = [
        "1",
        "1.0",
        "True",
        "'1'",
        "f'{x}a'",
        "f'{x}b'",
        "f'{x!r}a'",
        "f(x)",
        "f(x, y)",
        "f(y, x)",
        "f(*x)",
        "x.f",
        "-1",
        "x if y else z",
    ]
    assert len({repr(plain(ast.parse(each))) for each in codes}) == len(codes)
