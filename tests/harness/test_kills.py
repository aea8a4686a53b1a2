"""A short version of `nox -s faults`: a suite that is killed now and then ends as one that is not."""

from __future__ import annotations

from tests.faults.kills import kill_and_compare


def test_a_suite_that_is_killed_at_random_moments_ends_as_one_that_is_not() -> None:
    killed = kill_and_compare(3, ["--jobs", "1"], ["vae-bernoulli", "reference-pca-2"], seed=1, whole=False)
    assert killed.total() == 3
    assert {"driver", "child"} == set(killed)
