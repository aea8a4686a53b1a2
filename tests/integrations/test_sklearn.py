"""VAETransformer is an estimator like any other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_variants.integrations.sklearn import VAETransformer
from vae_variants.models.base import MODELS, Classifier, Density, Encoder

X, Y = load_digits(return_X_y=True)
X, Y = X[:400], Y[:400]


@parametrize_with_checks([VAETransformer("vae[likelihood=gaussian-learnt,hidden=8]", epochs=2)])
def test_it_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)


def quick(selector: str = "vae[likelihood=gaussian-learnt,hidden=32]", **options) -> VAETransformer:
    return VAETransformer(selector, **{"latent": 4, "epochs": 5, "batch": 50, "random_state": 0, **options})


def test_it_works_in_a_pipeline_and_what_it_learns_classifies():
    pipeline = make_pipeline(quick(latent=10, epochs=30, lr=3e-3), LogisticRegression(max_iter=2000))
    assert pipeline.fit(X[:300], Y[:300]).score(X[300:], Y[300:]) > 0.6
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))
    assert clone(pipeline).get_params()["vaetransformer__latent"] == 10


def test_a_grid_search_chooses_by_the_bound():
    search = GridSearchCV(quick(epochs=10, lr=3e-3), {"latent": [1, 8], "lr": [1e-6, 3e-3]}, cv=2).fit(X[:200])
    assert search.best_params_["lr"] == 3e-3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_names_and_frames():
    pytest.importorskip("pandas")
    fitted = quick().set_output(transform="pandas").fit(X)
    assert list(fitted.get_feature_names_out()) == [f"vaetransformer{i}" for i in range(4)]
    assert list(fitted.transform(X[:3]).columns) == list(fitted.get_feature_names_out())


def test_the_same_random_state_gives_the_same_and_another_another():
    a, b, c = (quick(random_state=s).fit_transform(X) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize("scale", [(1.0, 0.0), (1e-3, 5.0), (1e4, -1e5)])
def test_any_range_gives_the_same_codes_and_comes_back_in_its_own(scale):
    factor, shift = scale
    plain, other = quick().fit(X), quick().fit(X * factor + shift)
    np.testing.assert_allclose(other.transform(X * factor + shift), plain.transform(X), atol=1e-4)
    back = other.inverse_transform(other.transform(X * factor + shift))
    np.testing.assert_allclose((back - shift) / factor, plain.inverse_transform(plain.transform(X)), atol=2e-3)
    varying = (X.max(0) > X.min(0)).sum()
    np.testing.assert_allclose(other.score_samples(X * factor + shift) + varying * np.log(factor), plain.score_samples(X), atol=0.05)


def test_codes_are_those_of_the_project_and_reconstruct():
    fitted = quick("pca", latent=20, scaling="none", epochs=None, batch=None, lr=None).fit(X / 16)
    expected = PCA(20, svd_solver="full").fit(X / 16)
    np.testing.assert_allclose(
        fitted.inverse_transform(fitted.transform(X / 16)), expected.inverse_transform(expected.transform(X / 16)), atol=1e-4
    )


def test_the_score_of_a_linear_gaussian_model_is_the_density_of_x():
    """log N(x; b, W W^T + sigma^2 I) of the scaled rows, less the logarithm of the scales."""
    fitted = quick("linear-vae", latent=3, epochs=20, lr=1e-2).fit(X)
    model = fitted.model_
    w = model.decoder.weight
    covariance = w @ w.mT + model.likelihood.scale.square() * torch.eye(64, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(model.decoder.bias, covariance)
    span = np.where(X.max(0) > X.min(0), X.max(0) - X.min(0), 1)
    expected = law.log_prob(torch.from_numpy((X - X.min(0)) / span)).detach().numpy() - np.log(span).sum()
    np.testing.assert_allclose(fitted.score_samples(X), expected, rtol=1e-6)
    assert fitted.score(X) == pytest.approx(expected.mean())


def test_a_bound_is_below_and_does_not_depend_on_the_company():
    fitted = quick("vae[likelihood=gaussian-learnt,hidden=32]").fit(X)
    alone = np.array([fitted.score_samples(X[i : i + 1])[0] for i in range(5)])
    np.testing.assert_allclose(fitted.score_samples(X)[:5], alone, rtol=1e-9)
    assert np.isfinite(alone).all()


@pytest.mark.parametrize("name", [n for n in MODELS if issubclass(MODELS[n], Encoder) and not issubclass(MODELS[n], Classifier)])
def test_every_model_with_an_encoder_is_a_transformer(name):
    small = "[hidden=16]" if name in ("vae", "autoencoder") else ""
    fitted = quick(name + small, latent=3, epochs=2).fit(X[:100])
    codes = fitted.transform(X[:100])
    assert codes.shape == (100, len(fitted.get_feature_names_out()))
    assert np.isfinite(codes).all()
    for method, given in (("inverse_transform", codes), ("score_samples", X[:7])):
        if hasattr(fitted, method):
            assert np.isfinite(getattr(fitted, method)(given)).all()
    assert hasattr(fitted, "score_samples") == issubclass(MODELS[name], Density)
    if hasattr(fitted, "sample"):
        drawn = fitted.sample(6, random_state=1)
        assert drawn.shape == (6, 64)
        np.testing.assert_array_equal(drawn, fitted.sample(6, random_state=1))


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "continuous-bernoulli"])
def test_other_likelihoods_see_what_they_are_made_for(likelihood):
    fitted = quick(f"vae[likelihood={likelihood},hidden=16]", epochs=2).fit(X[:100])
    far = fitted.transform(X[:3] * 100 - 50)
    assert np.isfinite(far).all()
    assert np.isfinite(fitted.score_samples(X[:3])).all()
    drawn = fitted.sample(20, random_state=0)
    assert (drawn >= X[:100].min(0) - 1e-9).all()
    assert (drawn <= X[:100].max(0) + 1e-9).all()


def test_networks_of_images_get_their_shape():
    fitted = quick("vae[network=conv,likelihood=gaussian,hidden=16]", shape=(1, 8, 8), scaling="all", epochs=1).fit(X[:100])
    assert fitted.model_.shape == (1, 8, 8)
    assert len(set(fitted.span_)) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"selector": "vea"}, "did you mean"),
        ({"selector": "vae[latent=2|3]"}, "spans 2"),
        ({"selector": "made"}, "has no encoder"),
        ({"latent": -1}, "positive whole number"),
        ({"epochs": 1.5}, "positive whole number"),
        ({"scaling": "some"}, "all, features, none"),
        ({"shape": (1, 8, 9)}, "72 features"),
        ({"device": "tpu"}, "unknown device"),
    ],
)
def test_wrong_parameters_are_a_value_error_in_one_line(options, says):
    with pytest.raises(ValueError, match=says) as error:
        quick(**options).fit(X)
    assert "\n" not in str(error.value)


def test_training_that_diverges_says_so():
    with pytest.raises(ValueError, match="diverged"):
        quick("vae[likelihood=gaussian,sigma=0.001]", lr=1e6).fit(X)


def test_what_a_model_cannot_do_is_no_attribute():
    assert not hasattr(quick("ae"), "score_samples")
    assert not hasattr(quick("pixels"), "inverse_transform")
    assert not hasattr(quick("no such thing"), "sample")


def test_rows_of_any_form_and_a_constant_column_give_the_same_numbers():
    pd = pytest.importorskip("pandas")
    rows = X[:100].copy()
    rows[:, 5] = 3.25
    fitted = quick(epochs=2).fit(rows)
    codes = fitted.transform(rows)
    frame = pd.DataFrame(rows, columns=[f"p{i}" for i in range(64)])
    mixed = frame.astype({"p0": "int64", "p1": "float32", "p2": "Float64"})
    for given in (frame, mixed, rows.astype(np.float32), np.asfortranarray(rows), rows.astype(str).astype(object)):
        other = quick(epochs=2).fit(given)
        assert np.array_equal(other.transform(given), codes)
        assert np.array_equal(other.score_samples(given), fitted.score_samples(rows))
    for drawn in (fitted.inverse_transform(codes), fitted.sample(9, random_state=0)):
        assert set(drawn[:, 5]) == {3.25}
    assert np.isfinite(quick(epochs=2).fit(np.ones((60, 4))).transform(np.ones((3, 4)))).all()


def test_processes_give_the_numbers_of_this_one():
    joblib = pytest.importorskip("joblib")
    grid = {"latent": [2, 3], "lr": [1e-3, 3e-3]}
    alone, apart = (GridSearchCV(quick(epochs=2), grid, cv=2, n_jobs=n).fit(X[:100]) for n in (1, 2))
    np.testing.assert_allclose(apart.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-6)  # other threads
    best = alone.best_estimator_
    packed, parts = pickle.dumps(best), (X[:60], X[60:100])
    codes = joblib.Parallel(n_jobs=2)(joblib.delayed(lambda text, part: pickle.loads(text).transform(part))(packed, part) for part in parts)
    for found, part in zip(codes, parts, strict=True):
        np.testing.assert_allclose(found, best.transform(part), rtol=1e-9, atol=1e-12)
