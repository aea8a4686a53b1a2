"""What is ranked, and what is refused."""

from __future__ import annotations

import pytest

import vae_variants as vv
from vae_variants.registry import UserError

pytestmark = pytest.mark.usefixtures("smaller_smoke")


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, vv.Record]:
    runs = tmp_path_factory.mktemp("runs")
    chosen = {
        "binary": "vae[hidden=8,latent=2]",
        "more": "made[hidden=8]",
        "linear": "fvbn",
        "byte": "vae[hidden=8,latent=2,likelihood=categorical]",
        "real": "vae[hidden=8,latent=2,likelihood=gaussian]",
    }
    return {name: vv.run(s, seeds=5, fidelity="smoke", runs=runs)[0] for name, s in chosen.items()}


def test_the_best_comes_first_in_either_direction(records) -> None:
    both = [records["linear"], records["more"]]
    for metric, sign in (("log_likelihood", 1), ("bits_per_dim", -1)):
        first, second = vv.rank(both, metric)
        assert sign * first[1] > sign * second[1]
        assert first[2][0] == 1
        assert second[2][1] == 2
        means = {r.label: sum(r.value(metric, s) for s in range(5)) / 5 for r in both}
        assert means == pytest.approx({first[0]: first[1], second[0]: second[1]})


def test_a_row_with_a_flaw_comes_last_and_has_no_rank(records) -> None:
    """Two epochs of so small a VAE leave no reconstruction better than the mean image."""
    *_, (label, _, rank) = vv.rank([records["binary"], records["linear"], records["more"]], "log_likelihood")
    assert (label, rank) == (records["binary"].label, None)


@pytest.mark.parametrize(
    ("metric", "others"), [("log_likelihood", "real"), ("log_likelihood", "byte"), ("bits_per_dim", "byte"), ("elbo", "real")]
)
def test_nothing_is_ranked_across_kinds_of_pixels(metric, others, records) -> None:
    with pytest.raises(UserError, match=r"different pixel types \(bi.*rank within one of them") as error:
        vv.rank([records["binary"], records[others]], metric)
    assert "\n" not in str(error.value)


def test_what_needs_no_nats_is_ranked_across_them(records) -> None:
    assert len(vv.rank(list(records.values()), "train_images_per_second")) == len(records)


def test_a_metric_without_a_better_direction_is_not_ranked(records) -> None:
    with pytest.raises(UserError, match="no better direction"):
        vv.rank(list(records.values()), "rate")
    with pytest.raises(UserError, match="no record has a metric 'elbow'"):
        vv.rank(list(records.values()), "elbow")
