"""Models that were trained elsewhere are scored as they are, with what they can do and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from tests.trying import flushed, forget
from vae_variants.cli.app import app
from vae_variants.models.base import MODELS, Coder, Density, Encoder, MeanSampler, Sampler
from vae_variants.models.externals import External
from vae_variants.registry import UserError
from vae_variants.variants import VARIANTS, external

SHAPE = (1, 4, 6)


class Halves:
    """Latents are a grid of half the width."""

    def encode(self, x: Tensor) -> Tensor:
        return (x[..., ::2] + x[..., 1::2]) / 2

    def decode(self, z: Tensor) -> Tensor:
        return z.repeat_interleave(2, -1)


class Noise:
    def sample(self, n: int) -> Tensor:
        return torch.rand(n, *SHAPE)


class Uniform:
    def log_prob(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))


class Short(Halves):
    def decode(self, z: Tensor) -> Tensor:
        return z


class Mixed(Uniform):
    def log_prob(self, x: Tensor) -> Tensor:
        return torch.zeros(())


class Turned(Halves):
    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1).mT


class Told(Halves):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x, x


@pytest.fixture
def registered() -> Iterator[None]:
    before = set(MODELS)
    yield
    for name in set(MODELS) - before:
        MODELS.drop(name)
        VARIANTS.drop(name)


def model_of(kind: type, **options: object) -> External:
    def made() -> object:
        return kind()

    external(made, name=kind.__name__.lower(), **options)  # type: ignore[arg-type]
    model = MODELS[kind.__name__.lower()](SHAPE)  # type: ignore[call-arg]
    assert isinstance(model, External)
    return model


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("kind", "able"), [(Halves, {Encoder, Coder}), (Noise, {Sampler, MeanSampler}), (Uniform, {Density})], ids=lambda found: str(found)[:30]
)
def test_it_has_the_capabilities_of_its_methods(kind: type, able: set[type]) -> None:
    model = model_of(kind)
    assert {c for c in (Encoder, Coder, Sampler, MeanSampler, Density) if isinstance(model, c)} == able


@pytest.mark.usefixtures("registered")
def test_flat_images_keep_their_rows_and_columns() -> None:
    """Latents are those of the picture, in however many calls."""
    model = model_of(Halves)
    x = torch.rand(7, math.prod(SHAPE))
    z = model.encode(x)
    assert model.latent_shape == (1, 4, 3) and model.latent == 12
    assert torch.equal(z, x.unflatten(1, SHAPE).unflatten(-1, (3, 2)).mean(-1).flatten(1))
    y = model.decode(z).unflatten(1, SHAPE)
    assert torch.equal(y[..., 0], y[..., 1]) and torch.equal(y[..., ::2].flatten(1), z)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_variants.models.externals.ELEMENTS", 50)
        assert torch.equal(model.encode(x), z)
        assert torch.equal(model.decode(z), y.flatten(1))


@pytest.mark.usefixtures("registered")
def test_a_module_is_in_evaluation_mode_and_not_trained() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))

        def encode(self, x: Tensor) -> Tensor:
            found: Tensor = self.layers(x)
            return found

    model = model_of(Dropped)
    x = torch.rand(3, math.prod(SHAPE))
    assert torch.equal(model.encode(x), model.encode(x))
    assert model.players == () and not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.usefixtures("registered")
def test_what_a_wrapper_of_modules_gives_has_no_gradient() -> None:
    class Wrapper:
        def __init__(self) -> None:
            self.net = nn.Linear(6, 6)

        def encode(self, x: Tensor) -> Tensor:
            found: Tensor = self.net(x)
            return found

        def decode(self, z: Tensor) -> Tensor:
            return self.encode(z)

        def sample(self, n: int) -> Tensor:
            return self.encode(torch.rand(n, *SHAPE))

        def log_prob(self, x: Tensor) -> Tensor:
            return self.encode(x).flatten(1).sum(1)

    model, x = model_of(Wrapper), torch.rand(3, math.prod(SHAPE))
    for found in (model.encode(x), model.decode(x), model.sample(2), model.log_prob(x)):
        assert not found.requires_grad


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Short, "decodes latents of images (2, 1, 4, 6) to (2, 1, 4, 3)"),
        (Mixed, "log_prob that gives () for 2 images"),
        (Turned, "encode that gives (24, 2) for 2 images"),
        (Told, "has a method encode that returns tuple"),
        (object, "has none of the methods"),
    ],
    ids=lambda found: str(found)[:30],
)
def test_a_method_of_another_shape_is_refused_when_the_model_is_built(kind: type, said: str) -> None:
    with pytest.raises(UserError) as caught:
        model_of(kind)
    assert said in str(caught.value)


def score(*words: str) -> str:
    with flushed():
        result = CliRunner().invoke(app, ["score", *words], env={"COLUMNS": "200"})
    assert result.exit_code in (0, 2), result.output
    return result.output


@pytest.mark.usefixtures("smaller_smoke")
def test_other_weights_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import pathlib\nclass Scaled:\n    def __init__(self): self.a = float(pathlib.Path('weights').read_text())\n"
        "    def encode(self, x): return self.a * x\n    def decode(self, z): return z / self.a\ndef scaled_pixels():\n"
        "    return Scaled()\n"
    )
    try:
        for a, state in (("2", "ok"), ("2", "cached"), ("4", "ok")):
            Path("weights").write_text(a)
            assert state in score("mine.py:scaled_pixels", "--fidelity", "smoke")
        assert "choices: scaled_pixels" in score("mine.py:pixels")
        assert "write FILE.py:FUNCTION" in score("mine.py")
        Path("taken.py").write_text("def ae():\n    return None\n")
        assert "give this one another name" in score("taken.py:ae")
        records = [json.loads(path.read_text().rpartition("\n}\n")[0] + "}") for path in Path("runs").glob("*/*/record.json")]
    finally:
        forget(tmp_path)
    assert len(records) == 2
    for record in records:
        errors = [row["value"] for row in record["rows"] if row["metric"] == "reconstruction_mse"]
        assert errors == [0.0] and not any(row["metric"] == "log_likelihood" for row in record["rows"])
