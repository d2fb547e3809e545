import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning import release


def allowed(rows, own=10, partner=14, **more):
    arguments = {"max_iterations": 30, "small_sample": False, **more}
    return release.iterations_allowed(rows=rows, own_columns=own, partner_columns=partner, **arguments)


def test_4000_rows_leave_11_iterations_to_a_partner_of_14_columns():
    assert allowed(4000) == 11
    assert release.entries_released(11, 14) == 11 * 14 + sum(range(2, 13))


@given(st.integers(1000, 10**6), st.integers(1, 25), st.integers(1, 25), st.integers(0, 200))
def test_no_job_releases_more_than_a_sixteenth_of_the_rows(rows, own, partner, most):
    count = allowed(rows, own, partner, max_iterations=most)
    assert 0 <= count <= most
    assert release.entries_released(count, partner) <= rows / 16
    assert count == most or release.entries_released(count + 1, partner) > rows // 16


def test_former_jobs_on_the_same_rows_use_up_the_cap():
    former = [release.FormerRelease(job="a", entries=200, differing_rows=0)]
    assert allowed(4000, former=former) < 11
    former.append(release.FormerRelease(job="b", entries=200, differing_rows=0))
    assert allowed(4000, former=former) == 0


@pytest.mark.parametrize(("rows", "own", "partner", "needed"), [(999, 10, 14, 1000), (1999, 50, 50, 2000)])
def test_too_few_rows_are_refused_without_the_mark(rows, own, partner, needed):
    with pytest.raises(release.ReleaseRefused) as caught:
        allowed(rows, own, partner)
    assert caught.value.code == "rows_too_few"
    assert release.min_rows(own, partner) == needed
    assert allowed(rows, own, partner, small_sample=True) == 30


@pytest.mark.parametrize(("differing", "fits"), [(0, True), (1, False), (999, False), (1000, True)])
def test_row_sets_are_equal_or_differ_by_the_minimum(differing, fits):
    former = [release.FormerRelease(job="a", entries=1, differing_rows=differing)]
    if fits:
        assert allowed(4000, former=former) > 0
    else:
        with pytest.raises(release.ReleaseRefused) as caught:
            allowed(4000, former=former)
        assert caught.value.code == "rows_too_close"


def sets_of(rows, *members):
    found = np.zeros((rows, len(members)), dtype=bool)
    for job, inside in enumerate(members):
        found[list(inside), job] = True
    return found


@pytest.mark.parametrize(
    ("members", "alone"),
    [
        ((range(2000), range(2000)), 0),
        ((range(2000), range(1995)), 5),
        ((range(2000), range(600, 2600)), 0),  # 1200 rows: not about few
        ((range(2000), range(300, 2300)), 600),
        ((range(1000), range(1000, 2010), range(2005)), 5),
        ((range(1000), range(1000, 2000), range(2000)), 0),  # the third says what the first two said
        ((range(1000), range(1000, 2000), range(2000, 3010), range(3007)), 3),
        ((range(3000), range(1500), range(1500, 3000), range(1200, 2700)), 600),
        (tuple(range(300 * month, 20_000 + 3000 * month) for month in range(6)), 0),
    ],
)
def test_sums_and_differences_of_row_sets_are_never_about_few_rows(members, alone):
    assert release.fewest_rows(sets_of(60_000, *members), 1000) == alone


def combined(row_sets, coefficients):
    rows = np.abs(row_sets @ np.array(coefficients)) > 1e-9
    return int(rows.sum())


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(5, 60))
def test_no_small_whole_combination_leaves_fewer_rows_than_found(seed, jobs, enough):
    generator = np.random.default_rng(seed)
    row_sets = (generator.random((6, jobs)) < 0.5)[generator.integers(0, 6, 100)]
    found = release.fewest_rows(row_sets, enough)
    tried = [combined(row_sets, c) for c in itertools.product((-2, -1, 0, 1, 2), repeat=jobs)]
    least = min((rows for rows in tried if rows), default=enough)
    # Whole numbers up to 2 are enough for up to 4 sets of 0 and 1.
    assert found == (least if least < enough else 0)


def test_a_job_whose_row_set_completes_such_a_sum_is_refused():
    row_sets = sets_of(3000, range(2005), range(1000), range(1000, 2010))
    with pytest.raises(release.ReleaseRefused, match="about 5 rows alone") as caught:
        allowed(2005, row_sets=row_sets)
    assert caught.value.code == "rows_too_close"
    assert allowed(2005, row_sets=row_sets, small_sample=True) == 30
    assert allowed(2005, row_sets=row_sets[:, :2]) > 0


def labels(rows, positives):
    return (np.arange(rows) < positives).astype(float)


def check(values, columns=10, unit=1.0, **more):
    release.check_labels(values, columns, label_unit=unit, release_noise=1 / 32, **{"small_sample": False, **more})


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (labels(1000, 3), 10),
        (labels(1000, 997), 10),
        (labels(1_000_000, 49), 1),
        (labels(1000, 50), 40),
        (np.zeros(1000), 10),
        (np.where(np.arange(5000) < 12, 7.0, 0.0), 5),  # counts, nearly all nought
    ],
)
def test_labels_that_a_first_gradient_could_tell_are_refused_to_unmarked_jobs(values, columns):
    with pytest.raises(release.ReleaseRefused) as caught:
        check(values, columns)
    assert caught.value.code == "labels_rare"
    check(values, columns, small_sample=True)


@pytest.mark.parametrize("rows", [1000, 30_000, 1_000_000])
@pytest.mark.parametrize("share", [0.06, 0.22, 0.5])
def test_ordinary_labels_pass_with_as_many_columns_as_the_rows_allow(rows, share):
    check(labels(rows, int(rows * share)), min(25, rows // 20))


def test_continuous_labels_and_counts_pass():
    generator = np.random.default_rng(1)
    check(generator.normal(size=2000) * 100, 30, unit=500.0)
    check(generator.poisson(0.3, 2000).astype(float), 20)


@given(st.integers(50, 500), st.integers(1, 60))
def test_more_columns_never_make_labels_safer(positives, columns):
    def refused(count):
        try:
            check(labels(1000, positives), count)
        except release.ReleaseRefused:
            return True
        return False

    assert refused(columns + 1) or not refused(columns)


def test_effective_rows_are_rows_for_equal_weights_and_few_for_few_large_ones():
    assert release.effective_rows(np.ones(700)) == pytest.approx(700)
    lone = np.concatenate([np.full(3, 1000.0), np.full(5000, 1e-3)])
    assert release.effective_rows(lone) < 3.1
    assert release.effective_rows(np.zeros(4)) == 0.0


@pytest.mark.parametrize("zeros", [0, 3500])
def test_weights_that_leave_few_rows_are_refused_as_few_rows_are(zeros):
    labels, weights = np.arange(4000) % 2.0, np.ones(4000)
    weights[:zeros] = 0.0
    weights[-1] = 1.5
    if not zeros:
        release.check_weights(labels, weights, 3, small_sample=False)
        return
    with pytest.raises(release.ReleaseRefused) as caught:
        release.check_weights(labels, weights, 3, small_sample=False)
    assert caught.value.code == "weights_few"
    release.check_weights(labels, weights, 3, small_sample=True)


def test_weights_that_single_out_few_rows_with_rare_labels_are_refused():
    labels, weights = np.zeros(4000), np.ones(4000)
    labels[:200] = 1.0
    release.check_weights(labels, weights, 3, small_sample=False)
    weights[10:200] = 0.0
    with pytest.raises(release.ReleaseRefused) as caught:
        release.check_weights(labels, weights, 3, small_sample=False)
    assert caught.value.code == "weights_few"


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_other_weights_of_five_rows_are_a_difference_of_about_five_rows(factor, scale):
    one = np.random.default_rng(1).uniform(0.5, 2.0, 3000)
    other = one * scale
    assert release.fewest_effective_rows(one, other) == 0
    other[:5] *= factor
    assert 1 <= release.fewest_effective_rows(one / one.mean(), other / other.mean()) <= 5
    other = np.random.default_rng(2).uniform(0.5, 2.0, 3000)
    assert release.fewest_effective_rows(one, other) > 1000


@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 40), st.integers(1, 20))
def test_an_iteration_that_draws_columns_releases_no_more_than_they_hold(iterations, columns, drawn, row):
    tariff = release.Tariff(drawn=drawn, row=row)
    counted = [min(columns, drawn) + min(m + 1, row) for m in range(1, iterations + 1)]
    assert release.entries_released(iterations, columns, tariff) == sum(counted)
    assert sum(counted) <= release.entries_released(iterations, columns)
