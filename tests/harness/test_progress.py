"""The time that is left."""

import pytest

from vae_variants.harness.progress import remaining

RUNS = [100.0, 60.0, 30.0, 10.0, 5.0, 0.0]


@pytest.mark.parametrize(("fixed", "by_work"), [(20.0, 0.0), (20.0, 0.1), (0.0, 0.5)])
@pytest.mark.parametrize("done", [3, 4, 5])
def test_runs_that_cost_time_for_themselves_and_for_their_work_are_foretold(fixed, by_work, done):
    made = [(work, fixed + by_work * work) for work in RUNS[:done]]
    left = [(fixed + by_work * work) for work in RUNS[done:]]
    assert remaining(made, RUNS[done:]) == pytest.approx(sum(left), rel=0.03, abs=0.5)


def test_long_runs_that_come_first_tell_of_scores_too():
    by_work = 36.5 / 100 * 113
    assert remaining([(100.0, 36.5)], [1.0] * 113) > 15 * by_work


def test_the_same_runs_again_take_the_same_time():
    assert remaining([(8.0, 5.0)] * 4, [8.0] * 4) == pytest.approx(20.0)
    assert remaining([(0.0, 3.0)], [0.0, 0.0]) == pytest.approx(6.0, rel=0.5)
