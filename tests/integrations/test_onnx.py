"""ONNX files do what the model does, with large weights too and in batches of any size."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.integrations.test_export import small
from vae_variants.checks.fixtures import tiny as fewer
from vae_variants.integrations.export import ROUNDINGS, TOLERANCE, Half, difference, rounding, write_onnx
from vae_variants.integrations.graphs import cholesky, inverse, solved, written_out
from vae_variants.models.base import MODELS, Coder, Encoder, Model
from vae_variants.registry import UserError
from vae_variants.variants import VARIANTS, configure

WITHOUT = [name for name in MODELS if not issubclass(MODELS[name], Encoder)]
TOO_LONG = {"rhvae"}  # it takes half a minute; its graph is compared instead
UNROLLED = {"pixel-vae"}  # its decoder is a graph of one network per pixel: two pixels, one above the other, are enough of them
OTHER_BATCHES = (1, 2, 7, 64)  # not all of them are tried at export


def onnx_session(path: Path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def halves() -> list[tuple[str, dict]]:
    """One variant of each kind of encoder and decoder; some have an activation that no variant has."""
    activations = {"vae-laplace": "tanh", "vae-student-t": "relu", "ae": "leaky-relu"}
    found = {}
    for name in VARIANTS:
        (chosen,) = configure(name)
        if issubclass(MODELS[chosen.values["model"]], Encoder) and name not in TOO_LONG:
            found.setdefault(
                tuple(chosen.values.get(key) for key in ("model", "likelihood", "network")),
                (name, {"activation": activations[name]} if name in activations else {}),
            )
    return [*found.values(), ("vae", {"likelihood": "categorical"}), ("hvae", {"posterior.leapfrog": 1})]


@torch.no_grad()
def made_adverse(model: Model, pixels: int) -> None:
    """Large weights, and a decoder whose outputs run from -30 to 30, most of them about 0."""
    for p in model.parameters():
        if p.ndim > 1:
            p.mul_(3)
        elif len(p.shape) == 1 and p.shape[0] % pixels == 0:
            p.copy_(30 * torch.linspace(-1, 1, len(p)) ** 3)


@pytest.mark.parametrize(("name", "options"), halves())
def test_onnx_encodes_and_decodes_as_the_model_does(name, options, tiny, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, _ = small(name, fewer(2, 1) if name in UNROLLED else tiny, **options)
    pixels = math.prod(model.shape)
    made_adverse(model, pixels)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    written = write_onnx(model.train(), name, tmp_path)
    assert model.training and all(torch.equal(tensor, before[key]) for key, tensor in model.eval().state_dict().items())
    assert set(written) == ({"encoder.onnx", "decoder.onnx"} if isinstance(model, Coder) else {"encoder.onnx"})
    assert {path.name for path in tmp_path.iterdir()} == set(written)
    x = torch.cat([torch.zeros(1, pixels), torch.ones(1, pixels), torch.rand(62, pixels)])
    limit = TOLERANCE + ROUNDINGS * rounding(Half(model, "encode"), x)  # of large latents, which some weights give
    assert all(error is None or error <= limit for error in written.values())
    session = onnx_session(tmp_path / "encoder.onnx")
    assert [i.name for i in session.get_inputs()] == ["image"]
    assert [o.name for o in session.get_outputs()] == ["code"]
    for n in OTHER_BATCHES:
        (code,) = session.run(None, {"image": x[:n].numpy()})
        np.testing.assert_allclose(code, model.encode(x[:n]), atol=limit, rtol=TOLERANCE)
    about = session.get_modelmeta().custom_metadata_map
    assert (about["label"], json.loads(about["shape"])) == (name, list(model.shape))
    onnx.checker.check_model(tmp_path / "encoder.onnx", full_check=True)
    if isinstance(model, Coder):
        session = onnx_session(tmp_path / "decoder.onnx")
        z = model.encode(x) * 10 ** torch.linspace(-3, 1, 64)[:, None]
        for n in OTHER_BATCHES:
            (image,) = session.run(None, {"code": z[-n:].numpy()})
            assert image.shape == (n, pixels)
            np.testing.assert_allclose(image, model.decode(z[-n:]), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", WITHOUT)
def test_a_model_without_encoder_gets_one_clear_line(name, tiny, tmp_path):
    model, _ = small(name, tiny)
    with pytest.raises(UserError, match="neither an encoder nor a decoder") as error:
        write_onnx(model, name, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_cannot_be_traced_gets_one_clear_line(tiny, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, _ = small("pixels", tiny)
    model.encode = lambda x: x if x.sum() > 0 else -x
    with pytest.raises(UserError, match="encode of 'pixels' cannot be written as ONNX: ") as error:
        write_onnx(model, "pixels", tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@torch.no_grad()
def test_a_graph_of_gradients_in_a_metric_gives_what_the_model_does_without_functions_of_matrices(tiny):
    model, _ = small("rhvae", tiny, latent=2, iterations=1)
    made_adverse(model, 10)
    graph = written_out(Half(model, "encode"), torch.rand(3, 10))
    assert not [node for node in graph.graph.nodes if "linalg" in str(node.target)]
    for n in OTHER_BATCHES:
        x = torch.rand(n, 10)
        torch.testing.assert_close(graph(x), model.encode(x), atol=TOLERANCE, rtol=TOLERANCE)


def test_functions_of_matrices_are_written_out():
    root = torch.randn(4, 5, 5, dtype=torch.float64)
    a, b = root @ root.mT + torch.eye(5), torch.randn(4, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(inverse(a)[0], torch.linalg.inv(a))
    lower = torch.linalg.cholesky(a)
    torch.testing.assert_close(cholesky(a)[0], lower)
    for upper, left, unit in product((False, True), repeat=3):
        triangle, known = lower.mT if upper else lower, b if left else b.mT
        options = {"upper": upper, "left": left, "unitriangular": unit}
        torch.testing.assert_close(solved(triangle, known, **options), torch.linalg.solve_triangular(triangle, known, **options))


def test_an_onnx_file_that_does_something_else_is_not_kept(tiny, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, _ = small("autoencoder", tiny)
    monkeypatch.setattr("vae_variants.integrations.export.distance", lambda *_: 1e-3)
    with pytest.raises(UserError, match="e-03 away"):
        write_onnx(model, "ae", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_rounds_more_itself_has_a_wider_limit(tiny, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, _ = small("pixels", tiny)
    model.encode = lambda x: x + 1e4 - 1e4  # off by about 5e-4
    monkeypatch.setattr("vae_variants.integrations.export.distance", lambda *_: 2e-4)
    assert write_onnx(model, "pixels", tmp_path) == {"encoder.onnx": 2e-4}


@pytest.mark.parametrize(("found", "expected"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_what_is_not_finite_differs(found, expected):
    assert difference(torch.tensor([1.0, found]), torch.tensor([1.0, expected])) == math.inf


def test_without_the_packages_it_says_which(tiny, tmp_path, monkeypatch):
    model, _ = small("autoencoder", tiny)
    monkeypatch.setattr("vae_variants.integrations.export.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"vae-variants\[onnx\]"):
        write_onnx(model, "ae", tmp_path)
