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
    former = [release.FormerRelease(job="a", entries=200, shared_rows=4000, differing_rows=0)]
    assert allowed(4000, former=former) < 11
    former.append(release.FormerRelease(job="b", entries=200, shared_rows=4000, differing_rows=0))
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
    former = [release.FormerRelease(job="a", entries=1, shared_rows=3000, differing_rows=differing)]
    if fits:
        assert allowed(4000, former=former) > 0
    else:
        with pytest.raises(release.ReleaseRefused) as caught:
            allowed(4000, former=former)
        assert caught.value.code == "rows_too_close"
